"""The main job: a data set, a model and a recipe to a trained network and its report."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import shlex
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jax.sharding import Mesh

from jconv.data import (
    DATASETS,
    STATISTICS,
    Dataset,
    Datasets,
    Statistics,
    batches,
    channel_statistics,
    eval_batches,
)
from jconv.runs.config import TrainConfig
from jconv.runs.inference import Evaluation, classify
from jconv.runs.report import report_of
from jconv.runs.run import Run, already_kept, load_data
from jconv.training import (
    TrainState,
    data_parallel,
    evaluate,
    fit,
    make_eval_step,
    make_train_step,
    mesh,
    replicate,
)
from jconv.training.loop import Evaluate
from jconv.training.step import Step
from jconv.visualize.report import write_report

STATISTICS_SAMPLE = 4096  # images of a folder that are decoded for their mean and deviation


@dataclasses.dataclass(frozen=True, eq=False)
class RunResult:
    """What a finished run leaves.

    Attributes:
      run_dir: the folder of the run.
      report: the page that shows what it learned.
      test: the network on the held-out images, with the averaged weights where they are kept.
      seconds: wall time of training, compilation and evaluations included.
    """

    run_dir: Path
    report: Path
    test: Evaluation
    seconds: float


def train(
    config: TrainConfig,
    *,
    datasets: Datasets | None = None,
    log: Callable[[str], None] = print,
    progress: bool = True,
) -> RunResult:
    """Trains and evaluates a network; checkpoints, metrics and the report go into its run's folder.

    Args:
      datasets: instead of those that `config.data` names, which then chooses the recipe alone.
      log: gets lines of text.
      progress: a progress bar on a terminal, lines elsewhere.

    Raises:
      ValueError: an unknown data set or model, a value out of range, damaged files, or a run_dir
        that already holds a run. Nothing has been written then.
      FileNotFoundError: the data set's files are absent and can't be downloaded.
      Interrupted: after Ctrl-C; everything is saved, and the message says how to go on.
      NonFiniteLoss: the loss is no number any more; the message names the last good checkpoint.
    """
    config, given = _absolute(config.resolved()), datasets is not None
    datasets = datasets or load_data(config)
    folder = Path(config.run_dir or "")
    if config.run_dir and any((folder / name).exists() for name in ("config.json", "checkpoints")):
        raise already_kept(folder)
    run = Run.of(folder, config, datasets, _statistics(config, datasets, given), given=given)
    run.check()
    if not config.run_dir:
        run = dataclasses.replace(run, folder=_new_folder(config))
    run.save()
    return _train(run, datasets, log=log, progress=progress)


def resume_run(
    run_dir: str | Path,
    *,
    datasets: Datasets | None = None,
    data_dir: str | Path | None = None,
    log: Callable[[str], None] = print,
    progress: bool = True,
) -> RunResult:
    """Goes on with the run kept in `run_dir`, to the result that it would have had without a stop.

    Args:
      datasets: those that were given to `train`, if they were.
      data_dir: where the files of the data set, or the folder of images, lie now.
      log, progress: as in `train`.

    Raises:
      ValueError: no run, one that another process trains, other images than it was started on, or
        damaged files.
      DamagedCheckpoint: the checkpoint holds other bytes than were saved.
      FileNotFoundError, Interrupted, NonFiniteLoss: as `train`.
    """
    run = Run.load(run_dir)
    datasets = datasets or run.datasets(data_dir)
    run.check_images(datasets)
    return _train(run, datasets, resume=True, log=log, progress=progress)


def _train(
    run: Run,
    datasets: Datasets,
    *,
    resume: bool = False,
    log: Callable[[str], None],
    progress: bool,
) -> RunResult:
    c = run.config
    assert c.batch_size is not None
    graph, state, tx = run.initial()
    devices = mesh()
    step, evaluation = _compiled(run, graph, tx, datasets.test, devices)
    whence = f", from step {run.reached()} on" if resume else ""
    log(
        f"{c.model} on {c.data}: {run.steps} steps of {c.batch_size} images, into {run.folder}"
        f"{whence}"
    )
    with run.locked(), run.checkpoints() as checkpoints:
        result = fit(
            step,
            replicate(state, devices),
            batches(datasets.train, c.batch_size, seed=c.seed),
            steps=run.steps,
            evaluate=evaluation,
            eval_every=len(datasets.train) // c.batch_size * c.eval_every,
            checkpoints=checkpoints,
            resume=resume,
            metrics_file=run.folder / "metrics.jsonl",
            log_every=c.log_every,
            log=log,
            progress=progress,
            how_to_resume=f"jconv train --resume {shlex.quote(str(run.folder))}",
        )
    model = result.state.model(graph)
    test = classify(model, run.prepare, datasets.test)
    shown = report_of(run, model, datasets.test, test)
    report = write_report(run.folder / "report.html", shown)
    return RunResult(run.folder, report, test, result.seconds)


def _compiled(run: Run, graph: Any, tx: Any, test: Dataset, devices: Mesh) -> tuple[Step, Evaluate]:
    """The training step, and the evaluation on `test`, over all devices."""
    recipe = run.config.recipe()
    step = make_train_step(
        graph,
        tx,
        recipe.loss_fn(),
        augment=run.augment(),
        ema_decay=recipe.ema_decay,
        compute_dtype=run.compute_dtype(),
    )
    sums = make_eval_step(graph, prepare=run.prepare)  # in float32, as the report
    eval_step = data_parallel(sums, devices, donate=False)
    size = run.config.batch_size
    assert size is not None

    def evaluation(state: TrainState) -> dict[str, Any]:
        values = evaluate(eval_step, state, eval_batches(test, size))
        return {name: values[name] for name in ("accuracy", "loss")}

    return data_parallel(step, devices), evaluation


def _statistics(config: TrainConfig, datasets: Datasets, given: bool) -> Statistics:
    if config.data in STATISTICS and not given:
        return STATISTICS[config.data]
    return channel_statistics(datasets.train, most=STATISTICS_SAMPLE)


def _absolute(config: TrainConfig) -> TrainConfig:
    """With paths that hold wherever the run is resumed from."""
    data, data_dir = config.data, config.data_dir and str(Path(config.data_dir).resolve())
    if data not in DATASETS and Path(data).is_dir():
        data = str(Path(data).resolve())
    return dataclasses.replace(config, data=data, data_dir=data_dir)


def _new_folder(config: TrainConfig) -> Path:
    """Makes runs/DATA-MODEL-TIME, with a number after it if that is taken."""
    stem = f"{Path(config.data).name}-{config.model}-{time.strftime('%Y%m%d-%H%M%S')}"
    for number in itertools.count(1):
        folder = Path("runs") / (stem if number == 1 else f"{stem}-{number}")
        with contextlib.suppress(FileExistsError):
            folder.mkdir(parents=True)
            return folder
    raise AssertionError
