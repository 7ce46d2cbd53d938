"""What the report of a run shows, gathered from the run, the network and the held-out images."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import jax
import numpy as np
from flax import nnx

from jconv.data import Dataset
from jconv.runs.field_study import measured_fields
from jconv.runs.fields import TEST_IMAGES
from jconv.runs.inference import Evaluation
from jconv.runs.run import Run
from jconv.summary import Summary, summarize
from jconv.training import read_metrics
from jconv.visualize import Fields, Report, WrongImage

MOST_WRONG = 24  # images


def report_of(run: Run, model: Any, test: Dataset, result: Evaluation) -> Report:
    """The report of `run`.

    Args:
      model: trained, in evaluation mode.
      test: the held-out images; the first one is followed through the network.
      result: what `model` makes of them.
    """
    image = test.images[np.array([0])]
    history = read_metrics(run.folder / "metrics.jsonl")
    summary = summarize(model, jax.ShapeDtypeStruct((1, *run.input_shape), np.float32))
    return Report(
        title=f"{run.config.model} on {test.name}",
        headline={
            "test accuracy": f"{100 * result.accuracy:.2f} %",
            "test loss": f"{result.loss:.4f} nats",
            "errors": f"{len(test) - int(np.trace(result.confusion))} of {len(test):,} images",
            "training time": _duration(_training_seconds(history)),
            "parameters": f"{summary.parameters:,}",
        },
        history=history,
        classes=run.classes,
        confusion=result.confusion,
        worst=_worst(test, result.probabilities),
        filters=_first_filters(model, summary),
        image=image[0],
        endpoints=_endpoints(model, run.prepare(image)),
        fields=_fields(run, model, test, summary),
        summary=summary,
        config=dataclasses.asdict(run.config),
        versions=run.versions,
    )


def _worst(test: Dataset, probabilities: np.ndarray) -> list[WrongImage]:
    """The wrong images of which the network is surest."""
    predicted = probabilities.argmax(-1)
    wrong = np.flatnonzero(predicted != test.labels)
    sure = probabilities[wrong, predicted[wrong]]
    chosen = wrong[np.argsort(-sure, kind="stable")[:MOST_WRONG]]
    images = test.images[chosen] if len(chosen) else ()
    return [
        WrongImage(
            image, int(test.labels[i]), int(predicted[i]), float(probabilities[i, predicted[i]])
        )
        for i, image in zip(chosen, images, strict=True)
    ]


def _first_filters(model: Any, summary: Summary) -> np.ndarray | None:
    """The kernel of the first convolution that the network calls, if it has one."""
    modules = {
        ".".join(map(str, path)): module for path, module in nnx.iter_modules(model, graph=False)
    }
    for row in summary.rows:
        kernel = getattr(modules.get(row.path), "kernel", None)
        if kernel is not None and kernel[...].ndim == 4:
            return np.asarray(kernel[...], np.float32)
    return None


def _endpoints(model: Any, x: jax.Array) -> dict[str, np.ndarray]:
    """The named intermediates for one image, in the order of the network."""
    names: list[str] = []

    @jax.jit
    def values(x):
        out = model.endpoints(x)
        names[:] = out  # a dict that comes out of jit is sorted by its keys
        return list(out.values())

    arrays = values(x)
    return {
        name: np.asarray(value[0], np.float32) for name, value in zip(names, arrays, strict=True)
    }


def _fields(run: Run, model: Any, test: Dataset, summary: Summary) -> Fields:
    """What the network sees of the first test images, or why that can't be told."""
    images = test.images[np.arange(min(TEST_IMAGES, len(test)))]
    measured = f"test images ({len(images)})"
    try:
        return measured_fields(model, run.prepare(images), images[0], measured, summary=summary)
    except Exception as error:  # The report of a long training is not lost for one part of it.
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        return Fields(missing=f"Receptive fields could not be told: {reason}")


def _training_seconds(history: list[dict[str, Any]]) -> float:
    """Over all sessions of the run: in each of them `seconds` begins at 0 again."""
    times = [row["seconds"] for row in history if row.get("seconds") is not None]
    ends = [now for now, after in itertools.pairwise(times) if after < now]
    return sum(ends) + (times[-1] if times else 0.0)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"
