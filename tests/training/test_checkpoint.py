"""jconv.training.checkpoint: what was saved comes back, or an error says what does not."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jconv.training import (
    Checkpoints,
    DamagedCheckpoint,
    adamw,
    data_parallel,
    mesh,
    replicate,
    sgd,
)
from jconv.training import manifest as manifests
from tests.training.small import Batches, assert_same, make

POSITION = {"next": 7}


@pytest.fixture(scope="module")
def step_and_states():
    """(step, [states after 0 to 3 steps]) with every kind of leaf: AdamW, EMA, dropout, keys."""
    _, state, step = make(adamw(0.01), dropout=0.3, ema=True, ema_decay=0.9)
    step, batches, states = jax.jit(step), Batches(), [state]
    for _ in range(3):
        states.append(step(states[-1], next(batches))[0])
    return step, states


@pytest.fixture(scope="module")
def saved(step_and_states, tmp_path_factory):
    """A directory with the checkpoints of steps 1, 2 and 3; not to be changed."""
    folder = tmp_path_factory.mktemp("saved") / "checkpoints"
    with Checkpoints(folder) as checkpoints:
        for state in step_and_states[1][1:]:
            checkpoints.save(state, batches=POSITION, metadata={"note": "Grüße", "x": 0.1})
    return folder


@pytest.fixture
def copy(saved, tmp_path):
    """A copy of it that may be spoilt."""
    return Path(shutil.copytree(saved, tmp_path / "checkpoints"))


def test_comes_back_bit_for_bit(step_and_states, saved):
    _, states = step_and_states
    with Checkpoints(saved) as checkpoints:
        assert checkpoints.steps() == [1, 2, 3]
        assert checkpoints.latest_step() == 3
        assert checkpoints.best_step() is None
        newest = checkpoints.restore(states[0])
        assert_same(newest.state, states[3])
        assert (newest.step, newest.batches) == (3, POSITION)
        assert newest.metadata == {"note": "Grüße", "x": 0.1}
        assert_same(checkpoints.restore(states[0], step=2).state, states[2])


def test_the_restored_state_trains_on_as_if_nothing_had_happened(step_and_states, saved):
    step, states = step_and_states
    with Checkpoints(saved) as checkpoints:
        state = checkpoints.restore(states[0], step=2).state
    batches = Batches()
    batches.set_state({"next": 2})
    assert_same(step(state, next(batches))[0], states[3])


def test_the_next_step_may_write_over_the_saved_state(tmp_path):
    """`save` copies: the step that follows is given the memory of the state (8 MB here)."""
    big = jnp.arange(2**21, dtype=jnp.float32)
    _, state, _ = make()
    state = type(state)(**{**vars(state), "opt_state": big})
    later = jax.jit(lambda s: jax.tree.map(jnp.zeros_like, s), donate_argnums=0)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state)
        later(jax.tree.map(lambda x: x, state))
        template = type(state)(**{**vars(make()[1]), "opt_state": jnp.zeros_like(big)})
        np.testing.assert_array_equal(
            checkpoints.restore(template).state.opt_state, np.arange(2**21)
        )


@pytest.mark.devices
@pytest.mark.skipif(jax.local_device_count() < 8, reason="needs eight devices")
@pytest.mark.parametrize(("saving", "restoring"), [(8, 2), (1, 8), (8, 1)])
def test_restores_on_another_number_of_devices(saving, restoring, tmp_path):
    over = mesh(jax.local_devices()[:saving])
    _, state, step = make()
    state, _ = data_parallel(step, over)(replicate(state, over), next(Batches()))
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state)
        other = mesh(jax.local_devices()[:restoring])
        _, template, step = make()
        restored = checkpoints.restore(replicate(template, other)).state
    assert_same(restored, state)
    assert restored.step.sharding.num_devices == restoring
    data_parallel(step, other)(restored, next(Batches()))


def test_keeps_the_newest_and_the_best(step_and_states, tmp_path):
    _, states = step_and_states
    scores = [0.5, 0.9, 0.2, 0.3]
    with Checkpoints(tmp_path, keep=1, best="accuracy") as checkpoints:
        for state, score in zip(states, scores, strict=True):
            checkpoints.save(state, metrics={"accuracy": score, "loss": 1.0})
        assert checkpoints.steps() == [1, 3]
    with Checkpoints(tmp_path, keep=1, best="accuracy") as reopened:
        assert reopened.best_step() == 1
        assert_same(reopened.restore(states[0], step=1).state, states[1])


def test_the_best_may_be_the_smallest(step_and_states, tmp_path):
    with Checkpoints(tmp_path, keep=1, best="loss", mode="min") as checkpoints:
        for state, loss in zip(step_and_states[1], [0.5, 0.1, 0.4, 0.3], strict=True):
            checkpoints.save(state, metrics={"loss": loss})
        assert checkpoints.steps() == [1, 3]
        assert checkpoints.best_step() == 1


def test_saving_an_earlier_step_drops_the_later_ones(step_and_states, copy):
    _, states = step_and_states
    with Checkpoints(copy) as checkpoints:
        checkpoints.save(states[2])
        assert checkpoints.steps() == [1, 2]
        assert checkpoints.restore(states[0]).batches is None


# ---- damage

# Where one array can't be read, Orbax closes its event loop under the others.
closed_loop = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def data_files(folder, size=256):
    """The files with the arrays' bytes: all others are smaller than the largest leaf."""
    return [f for f in (folder / "state").rglob("d/*") if f.is_file() and f.stat().st_size > size]


def flip(file, position, bit):
    content = bytearray(file.read_bytes())
    content[position] ^= 1 << bit
    file.write_bytes(bytes(content))


@closed_loop
def test_no_flipped_bit_is_loaded(tmp_path):
    """40 single-bit errors in random numbers, each undone before the next; Orbax finds none."""
    rng = np.random.default_rng(0)
    _, state, _ = make()
    numbers = rng.normal(size=(128, 128)).astype(np.float32)
    state = type(state)(**{**vars(state), "opt_state": jnp.asarray(numbers)})
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state)
        checkpoints.wait()
        file = max(data_files(tmp_path / "0"), key=lambda f: f.stat().st_size)
        before = file.read_bytes()
        assert len(before) > 0.8 * numbers.nbytes
        for _ in range(40):
            flip(file, rng.integers(len(before)), rng.integers(8))
            with pytest.raises(DamagedCheckpoint, match="checkpoint of step 0"):
                checkpoints.restore(state)
            file.write_bytes(before)
        assert_same(checkpoints.restore(state).state, state)


def spoil_leaf(folder, name="params.conv.kernel"):
    """Writes other numbers for one leaf into the checkpoint, by Orbax itself."""
    import orbax.checkpoint as ocp

    handler = ocp.Checkpointer(ocp.PyTreeCheckpointHandler())
    tree = handler.restore(folder / "state")
    tree[name] = np.array(tree[name]) + np.float32(1e-3)
    shutil.rmtree(folder / "state")
    handler.save(folder / "state", tree)
    handler.close()


def test_says_which_leaf_is_damaged_and_how_to_resume(step_and_states, copy):
    _, states = step_and_states
    spoil_leaf(copy / "3")
    with Checkpoints(copy) as checkpoints:
        with pytest.raises(DamagedCheckpoint) as caught:
            checkpoints.restore(states[0])
        message = str(caught.value)
        digest = manifests.sha256(np.asarray(states[3].params["conv"]["kernel"][...]))
        assert (
            "checkpoint of step 3 is damaged: leaf params.conv.kernel float32(3, 3, 2, 4)"
            in message
        )
        assert re.search(rf"has SHA-256 [0-9a-f]{{64}}, but {digest} was saved", message)
        assert f"in {copy / '3' / 'state'}" in message
        assert "The checkpoint of step 2 is whole: to resume from it, delete" in message
        assert "or restore with step=2" in message
        assert_same(checkpoints.restore(states[0], step=2).state, states[2])


def test_passes_over_damaged_ones_to_the_last_good_one(step_and_states, copy):
    _, states = step_and_states
    spoil_leaf(copy / "3")
    spoil_leaf(copy / "2", "opt_state.1.mu.conv.kernel")
    with (
        Checkpoints(copy) as checkpoints,
        pytest.raises(DamagedCheckpoint, match="The checkpoint of step 1 is whole"),
    ):
        checkpoints.restore(states[0])


def test_says_that_nothing_is_left(step_and_states, copy):
    for step in "123":
        spoil_leaf(copy / step)
    with (
        Checkpoints(copy) as checkpoints,
        pytest.raises(DamagedCheckpoint, match="No earlier checkpoint is whole: start anew"),
    ):
        checkpoints.restore(step_and_states[1][0])


@pytest.mark.parametrize(
    ("item", "old", "new"),
    [
        ("extra", '"next": 7', '"next": 8'),
        ("extra", '"x": 0.1', '"x": 0.3'),
        ("manifest", '"format": 1', '"format": 7'),
        ("manifest", "float32(3, 3, 2, 4)", "float32(3, 3, 4, 2)"),
    ],
)
def test_the_texts_are_verified_too(item, old, new, step_and_states, copy):
    file = copy / "3" / item / "metadata"
    content = json.dumps(json.loads(file.read_text()), ensure_ascii=False)
    assert old in content
    file.write_text(content.replace(old, new))
    with Checkpoints(copy) as checkpoints, pytest.raises(DamagedCheckpoint) as caught:
        checkpoints.restore(step_and_states[1][0])
    assert f"step 3 is damaged: {item} has SHA-256" in str(caught.value)
    assert str(file) in str(caught.value)


def truncate(folder):
    file = data_files(folder)[0]
    file.write_bytes(file.read_bytes()[:100])


@closed_loop
@pytest.mark.parametrize(
    "spoil",
    [
        truncate,
        lambda folder: (folder / "manifest" / "metadata").write_text("{"),
        lambda folder: (folder / "state" / "_METADATA").unlink(),
        lambda folder: shutil.rmtree(folder / "manifest"),
    ],
    ids=["truncated", "cut_json", "no_metadata", "no_manifest"],
)
def test_says_what_it_can_not_read(spoil, step_and_states, copy):
    spoil(copy / "3")
    with Checkpoints(copy) as checkpoints, pytest.raises(DamagedCheckpoint) as caught:
        checkpoints.restore(step_and_states[1][0])
    assert re.search("checkpoint of step 3 (can't be read|is damaged)", str(caught.value))
    assert str(copy / "3") in str(caught.value)
    assert "step 2 is whole" in str(caught.value)


def test_reading_leaves_the_writer_alone(step_and_states, copy):
    """Another process may be saving: what it has begun is not tidied up."""
    begun = copy / "4.orbax-checkpoint-tmp"
    begun.mkdir()
    with Checkpoints(copy, read_only=True) as checkpoints:
        restored = checkpoints.restore(step_and_states[1][0])
        assert checkpoints.steps() == [1, 2, 3]
    assert_same(restored.state, step_and_states[1][3])
    assert begun.is_dir()
    with pytest.raises(FileNotFoundError, match="no such directory"):
        Checkpoints(copy / "none", read_only=True)


def test_leftovers_of_a_killed_save_are_no_checkpoint(step_and_states, copy):
    shutil.copytree(copy / "3", copy / "4.orbax-checkpoint-tmp")
    with Checkpoints(copy) as checkpoints:
        assert checkpoints.restore(step_and_states[1][0]).step == 3


# ---- another state


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda state: {"step": state.step.astype(jnp.float32)},
            r"step: int32\(\) saved, float32\(\) expected",
        ),
        (lambda state: {"ema": None}, r"ema.conv.bias: float32\(4,\) saved, nothing expected"),
        (
            lambda state: {"key": jax.random.key(0, impl="rbg")},
            r"key: key<fry>\(\) saved, key<rbg>\(\) expected",
        ),
        (
            lambda state: {"ema": jax.tree.map(lambda x: x[..., :2], state.ema)},
            r"ema.conv.bias: float32\(4,\) saved, float32\(2,\) expected, .*, and 2 more$",
        ),
        (
            lambda state: {"params": jax.tree.map(lambda x: x.astype(jnp.bfloat16), state.params)},
            r"params.conv.bias: float32\(4,\) saved, bfloat16\(4,\) expected",
        ),
        (
            lambda state: {"opt_state": sgd(0.1).init(state.params)},
            r"is of another model or optimizer; got opt_state.1.count: int32\(\) saved, nothing",
        ),
    ],
    ids=["dtype", "missing", "generator", "shape", "low_precision", "optimizer"],
)
def test_says_that_the_checkpoint_is_of_something_else(change, message, step_and_states, saved):
    state = step_and_states[1][0]
    template = type(state)(**{**vars(state), **change(state)})
    with Checkpoints(saved) as checkpoints, pytest.raises(ValueError, match=message):
        checkpoints.restore(template)


def test_says_that_there_is_no_checkpoint(step_and_states, saved, tmp_path):
    state = step_and_states[1][0]
    with Checkpoints(tmp_path / "new") as checkpoints:
        assert checkpoints.latest_step() is None
        with pytest.raises(
            FileNotFoundError, match=r"no checkpoint in .*new; there are steps \[\]"
        ):
            checkpoints.restore(state)
    with (
        Checkpoints(saved) as checkpoints,
        pytest.raises(FileNotFoundError, match=r"no checkpoint of step 9 .*steps \[1, 2, 3\]"),
    ):
        checkpoints.restore(state, step=9)


def test_says_what_is_wrong_with_the_arguments(step_and_states, tmp_path):
    state = step_and_states[1][0]
    with pytest.raises(ValueError, match="keep must be 1 or more; got 0"):
        Checkpoints(tmp_path, keep=0)
    with pytest.raises(ValueError, match="mode must be 'max' or 'min'; got 'most'"):
        Checkpoints(tmp_path, mode="most")
    with Checkpoints(tmp_path, best="accuracy") as checkpoints:
        with pytest.raises(ValueError, match="metrics lack 'accuracy'; got loss"):
            checkpoints.save(state, metrics={"loss": 1.0})
        with pytest.raises(ValueError, match="must be JSON values; Object of type set"):
            checkpoints.save(state, metadata={1, 2})
