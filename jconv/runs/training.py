"""The main job: a data set, a model and a recipe to a trained network and its report."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jax.sharding import Mesh

from jconv import data
from jconv.data import STATISTICS, Dataset, Datasets, batches, channel_statistics, eval_batches
from jconv.runs.config import TrainConfig
from jconv.runs.inference import Evaluation, classify
from jconv.runs.report import report_of
from jconv.runs.run import Run
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
    resume: bool = False,
    log: Callable[[str], None] = print,
    progress: bool = True,
) -> RunResult:
    """Trains a network, evaluates it, and writes checkpoints, metrics and `report.html` into its
    run's folder.

    Args:
      datasets: instead of those that `config.data` names.
      resume: goes on with the run in `config.run_dir`, whose own configuration counts (see
        `resume_run`).
      log: gets lines of text.
      progress: a progress bar on a terminal, lines elsewhere.

    Raises:
      ValueError: an unknown data set or model, a value out of range, damaged files, or a run_dir
        that already holds a run.
      FileNotFoundError: the data set's files are absent and can't be downloaded.
      Interrupted: after Ctrl-C; everything is saved, and the message says how to go on.
      NonFiniteLoss: the loss is no number any more; the message names the last good checkpoint.
      DamagedCheckpoint: a run that is to go on was saved with other bytes than are there.
    """
    run = Run.load(_given(config)) if resume else None
    config = run.config if run else config.resolved()
    if datasets is None:
        datasets = data.load(config.data, data_dir=config.data_dir, image_size=config.image_size)
    if run is None:
        folder = Path(config.run_dir) if config.run_dir else _new_folder(config)
        if (folder / "config.json").exists():
            raise ValueError(
                f"{folder}: a run is kept here already; resume it, or choose another run_dir (or "
                "remove the folder)"
            )
        run = Run.of(folder, config, datasets.train, _statistics(config, datasets))
        run.model()  # complains about an unknown model before anything is written
        run.save()
    return _train(run, datasets, resume=resume, log=log, progress=progress)


def resume_run(run_dir: str | Path, **kwargs: Any) -> RunResult:
    """Goes on with the run kept in `run_dir` from its newest checkpoint, to the same result as if
    it had not stopped.

    Raises:
      as `train`.
    """
    return train(TrainConfig(run_dir=str(run_dir)), resume=True, **kwargs)


def _train(
    run: Run, datasets: Datasets, *, resume: bool, log: Callable[[str], None], progress: bool
) -> RunResult:
    c = run.config
    assert c.batch_size is not None
    graph, state, tx = run.initial()
    devices = mesh()
    step, evaluation = _compiled(run, graph, tx, datasets.test, devices)
    log(f"{c.model} on {c.data}: {run.steps} steps of {c.batch_size} images, into {run.folder}")
    with run.checkpoints() as checkpoints:
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
            how_to_resume=f"jconv train --resume {run.folder}",
        )
    model = result.state.model(graph)
    test = classify(model, run.prepare, datasets.test)
    shown = report_of(run, model, datasets.test, test, seconds=result.seconds)
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
    sums = make_eval_step(graph, prepare=run.prepare, compute_dtype=run.compute_dtype())
    eval_step = data_parallel(sums, devices, donate=False)
    size = run.config.batch_size
    assert size is not None

    def evaluation(state: TrainState) -> dict[str, Any]:
        values = evaluate(eval_step, state, eval_batches(test, size))
        return {name: values[name] for name in ("accuracy", "loss")}

    return data_parallel(step, devices), evaluation


def _statistics(config: TrainConfig, datasets: Datasets):
    if config.data in STATISTICS:
        return STATISTICS[config.data]
    return channel_statistics(datasets.train, most=STATISTICS_SAMPLE)


def _given(config: TrainConfig) -> str:
    if not config.run_dir:
        raise ValueError(
            "train: resume needs run_dir, the folder of the run that is to go on; got none"
        )
    return config.run_dir


def _new_folder(config: TrainConfig) -> Path:
    """runs/DATA-MODEL-TIME, with a number after it if that is taken."""
    stem = f"{Path(config.data).name}-{config.model}-{time.strftime('%Y%m%d-%H%M%S')}"
    folder, number = Path("runs") / stem, 1
    while folder.exists():
        number += 1
        folder = Path("runs") / f"{stem}-{number}"
    return folder
