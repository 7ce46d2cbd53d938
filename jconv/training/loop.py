"""The training loop: steps, evaluation, checkpoints, metrics, and an orderly end whatever happens.

The loop never waits for the step that it has just started: while the device works on step n, it
reads the metrics of step n - 1 and fetches the batch of step n + 1. A run that is stopped or killed
and resumed gives the same numbers, bit for bit, as one that was left alone: a checkpoint holds the
state, the position in the data, and the running means of the next row of metrics.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jconv.training.checkpoint import Checkpoints
from jconv.training.interrupts import Interrupted, Interrupts
from jconv.training.metrics_file import MetricsFile
from jconv.training.progress import Progress
from jconv.training.state import TrainState
from jconv.training.step import Metrics, Step

type Evaluate = Callable[[TrainState], dict[str, Any]]


class NonFiniteLoss(FloatingPointError):
    """The loss, or the norm of its gradient, is infinite or not a number: training ends there."""


@dataclasses.dataclass(frozen=True)
class FitResult:
    """What a finished run leaves.

    Attributes:
      state: the last state.
      step: the steps that were done in all.
      train: the last train row's values; empty if no row was due.
      evaluation: the last evaluation's values, at `step`; None without `evaluate`.
      seconds: wall time of this call, compilation included.
    """

    state: TrainState
    step: int
    train: dict[str, float]
    evaluation: dict[str, Any] | None
    seconds: float


def fit(
    step: Step,
    state: TrainState,
    batches: Iterator[Any],
    *,
    steps: int,
    evaluate: Evaluate | None = None,
    eval_every: int | None = None,
    checkpoints: Checkpoints | None = None,
    checkpoint_every: int | None = None,
    resume: bool = False,
    resume_step: int | None = None,
    metrics_file: str | Path | None = None,
    log_every: int = 50,
    log: Callable[[str], None] = print,
    progress: bool = True,
    how_to_resume: str = "fit(..., resume=True)",
) -> FitResult:
    """Trains until `steps` steps are done in all.

    Args:
      step: a jitted training step, from `data_parallel` or `jax.jit`.
      state: donated to the first step. On resuming it is the template: its values are replaced.
      batches: of `{"image", "label"}`; with `checkpoints`, a Grain iterator, or anything else with
        `set_state()` and a `get_state()` that gives a JSON value.
      evaluate: `state -> values`: the numbers go into the metrics file, all into the result. It
        runs every `eval_every` steps and after the last one.
      checkpoint_every: steps between checkpoints, besides the one after the last step; None is as
        often as `eval_every`.
      resume: goes on from the newest checkpoint; starts at the beginning if there is none.
      resume_step: goes on from the checkpoint of this step, and drops later ones.
      metrics_file: JSON lines, see `metrics_file.py`; emptied by a run that starts anew.
      log_every: steps between train rows.
      progress: shows a bar on a terminal, and a line per row through `log` elsewhere.
      how_to_resume: the command or call that resumes this run, for the message of `Interrupted`.

    Raises:
      ValueError: a number of steps is less than 1, `batches` can't be resumed, or there are
        checkpoints that `resume` does not ask for.
      NonFiniteLoss: naming the step and the newest checkpoint, which is from before it.
      Interrupted: after Ctrl-C; the step in progress is finished and saved. A second one kills.
      DamagedCheckpoint: resuming from bytes that are not those that were saved.
    """
    counts = {"steps": steps, "eval_every": eval_every, "log_every": log_every}
    _check(counts | {"checkpoint_every": checkpoint_every}, batches, checkpoints)
    window = _Window()
    if checkpoints is not None and (at := _start(checkpoints, resume, resume_step)) is not None:
        restored = checkpoints.restore(state, step=at)
        state = restored.state
        batches.set_state(restored.batches)  # pyright: ignore[reportAttributeAccessIssue]
        window = _Window(**restored.metadata)
    start = int(state.step)
    run = _Run(
        steps=steps,
        evaluate=evaluate,
        eval_every=eval_every,
        checkpoints=checkpoints,
        checkpoint_every=checkpoint_every or eval_every,
        log_every=log_every,
        how_to_resume=how_to_resume,
        window=window,
        file=None if metrics_file is None else MetricsFile(metrics_file, after=start),
        progress=Progress(steps, start, log=log, show=progress),
    )
    if run.file is not None and run.file.train_rows < start // log_every:
        log(f"{run.file.path}: of the rows up to step {start}, some are missing")
    try:
        with run.progress, Interrupts() as interrupts:
            return run.loop(step, state, batches, start, interrupts)
    finally:
        if run.file is not None:
            run.file.close()


def _check(counts: dict[str, int | None], batches: Any, checkpoints: Checkpoints | None) -> None:
    for name, value in counts.items():
        if value is not None and value < 1:
            raise ValueError(f"fit: {name} must be 1 or more; got {value}")
    if checkpoints is not None and not hasattr(batches, "get_state"):
        raise ValueError(
            "fit: with checkpoints, batches must have get_state() and set_state(); got "
            f"{type(batches).__name__}"
        )


def _start(checkpoints: Checkpoints, resume: bool, resume_step: int | None) -> int | None:
    """The step to resume from, or None to start anew."""
    if resume_step is not None:
        return resume_step
    if not resume and (found := checkpoints.steps()):
        raise ValueError(
            f"fit: {checkpoints.directory} has checkpoints of another run, of steps {found}; "
            "resume=True goes on from them, an empty directory starts anew"
        )
    return checkpoints.latest_step()


@dataclasses.dataclass
class _Window:
    """Sums of the metrics since the last train row; saved with a checkpoint, as JSON."""

    sums: dict[str, float] = dataclasses.field(default_factory=dict)
    count: int = 0

    def add(self, values: dict[str, float]) -> None:
        self.sums = {name: self.sums.get(name, 0.0) + value for name, value in values.items()}
        self.count += 1

    def means(self) -> dict[str, float]:
        return {name: total / self.count for name, total in self.sums.items()}


@dataclasses.dataclass
class _Clock:
    """Wall time, and images per second of training alone: without the first step, which compiles,
    and without evaluations and checkpoints.
    """

    began: float = dataclasses.field(default_factory=time.perf_counter)
    since: float = 0.0
    images: int = 0

    def seconds(self) -> float:
        return time.perf_counter() - self.began

    def rate(self) -> float | None:
        elapsed = time.perf_counter() - self.since
        return self.images / elapsed if self.images and elapsed > 0 else None

    def reset(self) -> None:
        self.since, self.images = time.perf_counter(), 0


@dataclasses.dataclass
class _Run:
    """The arguments of one call of `fit`, and what it counts."""

    steps: int
    evaluate: Evaluate | None
    eval_every: int | None
    checkpoints: Checkpoints | None
    checkpoint_every: int | None
    log_every: int
    how_to_resume: str
    window: _Window
    file: MetricsFile | None
    progress: Progress
    clock: _Clock = dataclasses.field(default_factory=_Clock)
    train: dict[str, float] = dataclasses.field(default_factory=dict)

    def loop(
        self, step: Step, state: TrainState, batches: Iterator[Any], start: int, ctrl_c: Interrupts
    ) -> FitResult:
        evaluation, pending = None, None
        for done in range(start + 1, self.steps + 1):
            batch = self._next(batches, done)
            state, metrics = step(state, batch)
            if pending is not None:
                self._read(*pending)
            pending = (done, metrics, len(batch["label"]))
            stop = ctrl_c.requested and done < self.steps
            due_eval = self._due(done, self.eval_every)
            due_save = self._due(done, self.checkpoint_every)
            if not (stop or due_eval or due_save or done == self.steps):
                continue
            # Whatever follows needs this step's metrics: nothing is saved that is not finite.
            self._read(*pending)
            pending, paused = None, time.perf_counter()
            evaluation = None
            if self.evaluate is not None and due_eval:
                evaluation = self.evaluate(state)
                self._row("eval", done, evaluation)
            if self.checkpoints is not None and (stop or due_save):
                self._save(self.checkpoints, state, batches, evaluation)
            if stop:
                raise self._interrupted(done)
            self.clock.since += time.perf_counter() - paused
        if self.checkpoints is not None:
            self.checkpoints.wait()
        if evaluation is None and self.evaluate is not None:
            evaluation = self.evaluate(state)  # resumed when all steps were done
        return FitResult(
            state, max(start, self.steps), self.train, evaluation, self.clock.seconds()
        )

    def _due(self, done: int, every: int | None) -> bool:
        return done == self.steps or (every is not None and done % every == 0)

    def _next(self, batches: Iterator[Any], done: int) -> Any:
        try:
            return next(batches)
        except StopIteration:
            raise ValueError(
                f"fit: the batches ended before the run; got {done - 1} of {self.steps} steps"
            ) from None

    def _read(self, done: int, metrics: Metrics, images: int) -> None:
        """Waits for a step, and counts what it reports."""
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        if bad := [f"{k}={v}" for k, v in values.items() if not math.isfinite(v)]:
            raise NonFiniteLoss(self._not_finite(done, bad))
        self.window.add(values)
        self.clock.images += images
        rate = self.clock.rate()
        if self.clock.since == 0.0:  # the first step compiles: the clock starts after it
            self.clock.reset()
            rate = None
        self.progress.step(done, {**values, "images_per_second": rate})
        if done % self.log_every == 0:
            last = {k: v for k, v in values.items() if k == "learning_rate"}
            self.train = {**self.window.means(), **last}
            self._row("train", done, {**self.train, "images_per_second": rate})
            self.window.sums, self.window.count = {}, 0
            self.clock.reset()

    def _row(self, kind: str, done: int, values: dict[str, Any]) -> None:
        numbers = {k: v for k, v in values.items() if v is None or np.ndim(v) == 0}
        if self.file is not None:
            self.file.write(kind, done, {**numbers, "seconds": self.clock.seconds()})
        self.progress.row(kind, done, numbers)

    def _save(
        self, checkpoints: Checkpoints, state: TrainState, batches: Any, evaluation: Any
    ) -> None:
        checkpoints.save(
            state,
            batches=batches.get_state(),
            metadata=dataclasses.asdict(self.window),
            metrics=evaluation,
        )

    def _not_finite(self, done: int, bad: list[str]) -> str:
        step = None if self.checkpoints is None else self.checkpoints.latest_step()
        good = "no checkpoint was saved"
        if self.checkpoints is not None and step is not None:
            good = f"the last good checkpoint is of step {step}, in {self.checkpoints.directory}"
        return (
            f"fit: {', '.join(bad)} at step {done} of {self.steps}; {good}. A lower learning "
            "rate, a longer warm-up or clip_norm are the usual remedies; a label that is no class "
            "has no finite loss either"
        )

    def _interrupted(self, done: int) -> Interrupted:
        message = f"stopped after step {done} of {self.steps}; nothing was saved"
        if self.checkpoints is not None:
            self.checkpoints.wait()
            where = self.checkpoints.directory
            message = (
                f"stopped after step {done} of {self.steps}, saved in {where}; to resume: "
                f"{self.how_to_resume}"
            )
        return Interrupted(message, step=done, saved=self.checkpoints is not None)
