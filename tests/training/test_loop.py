"""jconv.training.loop: rows, evaluations, checkpoints when they are due, every way to end."""

from __future__ import annotations

import os
import signal
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jconv.data import Dataset, batches
from jconv.training import Checkpoints, Interrupted, NonFiniteLoss, cross_entropy, fit, read_metrics
from jconv.training.metrics_file import TIMES
from tests.training.small import Batches, assert_same, batch, make


@pytest.fixture(scope="module")
def compiled():
    """The step, compiled once for all tests here; donated states, so each test makes its own."""
    return jax.jit(make()[2], donate_argnums=0)


def fresh():
    return make()[1]


def untimed(path):
    return [{k: v for k, v in row.items() if k not in TIMES} for row in read_metrics(path)]


def evaluate(state):
    return {"accuracy": 0.5 + int(state.step) / 1000, "confusion": np.eye(3)}


def by_hand(compiled, steps):
    """The state and all metrics of a plain loop."""
    state, source, history = fresh(), Batches(), []
    for _ in range(steps):
        state, metrics = compiled(state, next(source))
        history.append({k: float(v) for k, v in metrics.items()})
    return state, history


def test_is_a_plain_loop(compiled, tmp_path):
    state, history = by_hand(compiled, 7)
    path = tmp_path / "metrics.jsonl"
    result = fit(
        compiled, fresh(), Batches(), steps=7, log_every=3, metrics_file=path, progress=False
    )
    assert_same(result.state, state)
    assert (result.step, result.evaluation) == (7, None)
    rows = read_metrics(path)
    assert [row["step"] for row in rows] == [3, 6]
    for row, part in zip(rows, (history[:3], history[3:6]), strict=True):
        for name in ("loss", "accuracy", "grad_norm"):
            assert row[name] == sum(m[name] for m in part) / 3
        assert row["learning_rate"] == part[-1]["learning_rate"]
    assert result.train["loss"] == rows[1]["loss"]
    assert 0 < rows[0]["seconds"] < rows[1]["seconds"] <= result.seconds
    assert rows[1]["images_per_second"] > 0


def test_evaluates_when_due_and_at_the_end(compiled, tmp_path):
    path = tmp_path / "metrics.jsonl"
    result = fit(
        compiled, fresh(), Batches(), steps=5, evaluate=evaluate, eval_every=2,
        metrics_file=path, progress=False,
    )  # fmt: skip
    rows = [row for row in untimed(path) if row["kind"] == "eval"]
    assert rows == [
        {"kind": "eval", "step": s, "accuracy": 0.5 + s / 1000} for s in (2, 4, 5)
    ]  # fmt: skip
    assert result.evaluation["accuracy"] == 0.505
    np.testing.assert_array_equal(result.evaluation["confusion"], np.eye(3))


def test_saves_when_due_and_at_the_end(compiled, tmp_path):
    with Checkpoints(tmp_path, keep=9) as checkpoints:
        fit(
            compiled, fresh(), Batches(), steps=5, checkpoints=checkpoints, checkpoint_every=2,
            progress=False,
        )  # fmt: skip
        assert checkpoints.steps() == [2, 4, 5]
        for step in (2, 5):
            assert_same(checkpoints.restore(fresh(), step=step).state, by_hand(compiled, step)[0])
        assert checkpoints.restore(fresh(), step=4).batches == {"next": 4}


@pytest.mark.parametrize("stop", [2, 3, 4])
def test_resuming_repeats_the_run_that_was_left_alone(stop, compiled, tmp_path):
    """Checkpoints in the middle of a row of metrics and at its end; rows after them are dropped."""
    options = {"evaluate": evaluate, "eval_every": 3, "log_every": 4, "progress": False}
    whole = fit(compiled, fresh(), Batches(), steps=9, metrics_file=tmp_path / "a", **options)
    options |= {"metrics_file": tmp_path / "b", "checkpoint_every": 1}
    with Checkpoints(tmp_path / "checkpoints", keep=9) as checkpoints:
        options["checkpoints"] = checkpoints
        fit(compiled, fresh(), Batches(), steps=9, **options)
        again = fit(compiled, fresh(), Batches(), steps=9, resume_step=stop, **options)
        assert checkpoints.steps() == list(range(1, 10))
    assert_same(again.state, whole.state)
    assert untimed(tmp_path / "a") == untimed(tmp_path / "b")
    assert again.train == whole.train


def test_resuming_goes_on_in_the_same_order_of_images(compiled, tmp_path):
    """With the pipeline itself: its position is saved too, in the middle of an epoch."""
    data = batch(40, seed=5)
    dataset = Dataset("random", data["image"], data["label"], classes=("a", "b", "c"))
    start = lambda: batches(dataset, 16, seed=1)  # noqa: E731
    whole = fit(compiled, fresh(), start(), steps=7, progress=False)
    with Checkpoints(tmp_path) as checkpoints:
        options = {"checkpoints": checkpoints, "progress": False}
        fit(compiled, fresh(), start(), steps=4, **options)
        resumed = fit(compiled, fresh(), start(), steps=7, resume=True, **options)
    assert_same(resumed.state, whole.state)


def test_resuming_a_finished_run_only_evaluates(compiled, tmp_path):
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        options = {
            "steps": 3, "checkpoints": checkpoints, "evaluate": evaluate,
            "metrics_file": tmp_path / "metrics", "progress": False,
        }  # fmt: skip
        first = fit(compiled, fresh(), Batches(), **options)
        rows = read_metrics(tmp_path / "metrics")
        second = fit(None, fresh(), Batches(), resume=True, **options)
        assert_same(second.state, first.state)
        assert second.evaluation["accuracy"] == first.evaluation["accuracy"]
        assert read_metrics(tmp_path / "metrics") == rows


def test_resume_starts_anew_where_there_is_nothing(compiled, tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        result = fit(
            compiled, fresh(), Batches(), steps=2, checkpoints=checkpoints, resume=True,
            progress=False,
        )  # fmt: skip
    assert_same(result.state, by_hand(compiled, 2)[0])


class Signals(Batches):
    """Sends this process a Ctrl-C while the batch of step `at` is fetched."""

    def __init__(self, at):
        super().__init__()
        self.at = at

    def __next__(self):
        if self.next + 1 == self.at:
            os.kill(os.getpid(), signal.SIGINT)
        return super().__next__()


def test_ctrl_c_finishes_the_step_saves_and_says_how_to_resume(compiled, tmp_path, capfd):
    before = signal.getsignal(signal.SIGINT)
    options = {
        "steps": 7, "evaluate": evaluate, "eval_every": 2, "log_every": 2, "progress": False,
        "how_to_resume": "jconv train --resume",
    }  # fmt: skip
    whole = fit(compiled, fresh(), Batches(), metrics_file=tmp_path / "a", **options)
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        options |= {"checkpoints": checkpoints, "metrics_file": tmp_path / "b"}
        with pytest.raises(Interrupted) as caught:
            fit(compiled, fresh(), Signals(at=4), **options)
        assert signal.getsignal(signal.SIGINT) is before
        assert (caught.value.step, caught.value.saved) == (4, True)
        assert str(caught.value) == (
            f"stopped after step 4 of 7, saved in {tmp_path / 'checkpoints'}; to resume: jconv "
            "train --resume"
        )
        assert "finishing this step; Ctrl-C again kills without saving" in capfd.readouterr().err
        resumed = fit(compiled, fresh(), Batches(), resume=True, **options)
    assert_same(resumed.state, whole.state)
    assert untimed(tmp_path / "a") == untimed(tmp_path / "b")


def test_ctrl_c_without_checkpoints_says_that_nothing_is_saved(compiled):
    with pytest.raises(Interrupted, match="stopped after step 2 of 7; nothing was saved") as caught:
        fit(compiled, fresh(), Signals(at=2), steps=7, progress=False)
    assert not caught.value.saved


def test_ctrl_c_in_the_last_step_ends_as_usual(compiled):
    assert fit(compiled, fresh(), Signals(at=3), steps=3, progress=False).step == 3


def test_the_old_handler_comes_back_after_an_error(compiled):
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(ValueError, match="the batches ended"):
        fit(compiled, fresh(), iter([]), steps=3, progress=False)
    assert signal.getsignal(signal.SIGINT) is before


def test_runs_outside_the_main_thread(compiled):
    results = []
    run = lambda: results.append(  # noqa: E731
        fit(compiled, fresh(), Batches(), steps=2, progress=False)
    )
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert results[0].step == 2


def poisoned(at, what):
    """A step whose loss, or gradient alone, is not finite at step `at`."""

    def loss_fn(model, batch):
        loss, metrics = cross_entropy()(model, batch)
        bad = batch["number"] == at
        if what == "loss":
            return jnp.where(bad, jnp.nan, loss), metrics
        return loss + jnp.where(bad, jnp.inf, 0.0) * (model.head.bias[...].sum() ** 2), metrics

    return make(loss_fn=loss_fn)[2]


class Numbered(Batches):
    def __next__(self):
        return {**super().__next__(), "number": np.full(self.size, self.next)[0]}


def test_a_loss_that_is_not_finite_ends_the_run_before_it_is_saved(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        with pytest.raises(NonFiniteLoss) as caught:
            fit(
                jax.jit(poisoned(4, "loss")), fresh(), Numbered(), steps=9, progress=False,
                checkpoints=checkpoints, checkpoint_every=2,
            )  # fmt: skip
        assert checkpoints.steps() == [2]
    message = str(caught.value)
    assert "loss=nan" in message
    assert "at step 4 of 9" in message
    assert f"the last good checkpoint is of step 2, in {tmp_path}" in message


def test_a_gradient_that_is_not_finite_ends_the_run_too():
    with pytest.raises(
        NonFiniteLoss, match=r"grad_norm=.* at step 1 of 3; no checkpoint was saved"
    ):
        fit(jax.jit(poisoned(1, "gradient")), fresh(), Numbered(), steps=3, progress=False)


def test_says_what_is_wrong(compiled, tmp_path):
    def run(source=None, **options):
        options = {"steps": 2, "progress": False, **options}
        return fit(compiled, fresh(), Batches() if source is None else source, **options)

    for name in ("steps", "eval_every", "checkpoint_every", "log_every"):
        with pytest.raises(ValueError, match=f"fit: {name} must be 1 or more; got 0"):
            run(**{name: 0})
    with pytest.raises(ValueError, match="batches ended before the run; got 1 of 2 steps"):
        run(iter([next(Batches())]))
    with Checkpoints(tmp_path) as checkpoints:
        with pytest.raises(ValueError, match=r"must have get_state\(\) .* got list_iterator"):
            run(iter([]), checkpoints=checkpoints)
        run(checkpoints=checkpoints)
        with pytest.raises(ValueError, match=r"has checkpoints of another run, of steps \[2\]"):
            run(checkpoints=checkpoints)


def test_prints_a_line_per_row_where_there_is_no_terminal(compiled):
    lines = []
    fit(
        compiled, fresh(), Batches(), steps=4, log_every=2, evaluate=evaluate, log=lines.append
    )  # fmt: skip
    assert len(lines) == 3
    assert lines[0].startswith("train      2/4  loss ")
    assert lines[2] == "eval       4/4  accuracy 50.40%"
    assert "images/s" in lines[1]


def test_shows_a_bar_on_a_terminal(compiled, monkeypatch, capsys):
    from rich.console import Console

    monkeypatch.setattr(Console, "is_terminal", property(lambda _: True))
    fit(compiled, fresh(), Batches(), steps=4, evaluate=evaluate)
    shown = capsys.readouterr().out
    assert "4/4" in shown
    assert "images/s" in shown
    assert "eval       4/4  accuracy 50.40%" in shown
