"""Learning curves from the rows that training logs: a chart per metric, a line per data split."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jconv.visualize.line_chart import Points, line_chart

SPLITS = ("train", "validation", "valid", "val", "eval", "test", "ema")
FRACTIONS = ("accuracy", "top_5_accuracy", "top5_accuracy", "error")
FIRST = ("loss", "accuracy")
_AXES = ("epoch", "step")
_NOT_CURVES = ("epoch", "step", "time", "seconds", "wall_time")


def metric_series(
    history: Sequence[Mapping[str, Any]], *, x: str | None = None
) -> dict[str, dict[str, Points]]:
    """Points (x, value) by metric and split: {"loss": {"train": [(1, 2.3), ...], "test": [...]},
    ...}.

    The split of a value is its row's "kind", as in the metrics file of a run: {"kind": "eval",
    "step": 100, "loss": 0.5}; or it stands before the metric, joined by "_" or "/": {"epoch": 2,
    "train_loss": 0.7, "test/accuracy": 0.9}; a value with neither belongs to "train". Loss and
    accuracy come first.

    Args:
      history: one mapping per row; rows may have different keys, and values that are no numbers are
        left out.
      x: the key of the horizontal axis; by default "epoch" if every row has it, else "step" or the
        row's number, which also stands in for an `x` that is no number.
    """
    x = x or x_axis(history)
    charts: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for number, row in enumerate(history, 1):
        position = float(row[x] if _is_number(row.get(x)) else number)
        for key, value in row.items():
            if key == x or key in _NOT_CURVES or not _is_number(value):
                continue
            split, metric = _split_of(key, default=str(row.get("kind", "train")))
            charts.setdefault(metric, {}).setdefault(split, []).append((position, float(value)))
    order = [*FIRST, *(name for name in charts if name not in FIRST)]
    return {name: dict(charts[name]) for name in order if name in charts}


def x_axis(history: Sequence[Mapping[str, Any]]) -> str:
    """The key that places the rows: "epoch" or "step", whichever every row has, else "row"."""
    return next((key for key in _AXES if history and all(key in row for row in history)), "row")


def learning_curves(
    history: Sequence[Mapping[str, Any]], *, x: str | None = None
) -> dict[str, str]:
    """An SVG per metric of `metric_series`, for metrics with at least one finite value."""
    x = x or x_axis(history)
    return {
        metric: line_chart(
            series, title=metric.replace("_", " "), x_label=x, percent=metric in FRACTIONS
        )
        for metric, series in metric_series(history, x=x).items()
        if any(math.isfinite(y) for points in series.values() for _, y in points)
    }


def not_finite(history: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """How many values of each key are NaN or infinite; keys without any are left out."""
    counts: dict[str, int] = {}
    for key, value in _items(history):
        if _is_number(value) and not math.isfinite(value):
            counts[key] = counts.get(key, 0) + 1
    return counts


def _items(history: Sequence[Mapping[str, Any]]) -> Iterable[tuple[str, Any]]:
    return (item for row in history for item in row.items())


def _split_of(key: str, default: str) -> tuple[str, str]:
    for split in SPLITS:
        for joint in "/_":
            if key.startswith(split + joint):
                return split, key[len(split) + 1 :]
    return default, key


def _is_number(value: Any) -> bool:
    """Python and NumPy numbers and scalar arrays, not truth values or text."""
    if isinstance(value, bool | str) or value is None:
        return False
    try:
        float(value)
    except (TypeError, ValueError, OverflowError):
        return False
    return True
