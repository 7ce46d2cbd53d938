"""Which classes a classifier takes for which: the confusion matrix and its most frequent errors."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jconv.visualize.markup import abbreviate, escape, isolated, svg_text


class Confusion(NamedTuple):
    """`images` of class `true` were taken for class `predicted`; `share` is their part of
    class `true`, 0..1."""

    true: int
    predicted: int
    images: int
    share: float


def confusion_matrix(true: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """int64 counts (classes, classes): how many images of class [row] were taken for class
    [column].

    Raises:
      ValueError: the labels are not two vectors of one length, or lie outside 0..classes-1.
    """
    true, predicted = np.asarray(true), np.asarray(predicted)
    if true.ndim != 1 or true.shape != predicted.shape:
        raise ValueError(
            f"confusion_matrix: takes two label vectors of one length; got true {true.shape}, "
            f"predicted {predicted.shape}"
        )
    for name, labels in {"true": true, "predicted": predicted}.items():
        if labels.size and not (labels.min() >= 0 and labels.max() < classes):
            raise ValueError(
                f"confusion_matrix: labels of {classes} classes lie in 0..{classes - 1}; got "
                f"{name} from {labels.min()} to {labels.max()}"
            )
    pairs = true.astype(np.int64) * classes + predicted.astype(np.int64)
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def most_confused(counts: np.ndarray, limit: int = 12) -> list[Confusion]:
    """The most frequent errors in a confusion matrix, at most `limit`, the most frequent first."""
    errors = np.array(counts, np.int64)
    np.fill_diagonal(errors, 0)
    order = np.argsort(-errors, axis=None, kind="stable")[:limit]
    totals = np.asarray(counts).sum(axis=1)
    pairs = zip(*np.unravel_index(order, errors.shape), strict=True)
    return [
        Confusion(int(t), int(p), int(errors[t, p]), float(errors[t, p] / totals[t]))
        for t, p in pairs
        if errors[t, p] > 0
    ]


def recall(counts: np.ndarray) -> np.ndarray:
    """Per class, the part of its images that were recognised; NaN for a class without images."""
    counts = np.asarray(counts, np.float64)
    totals = counts.sum(axis=1)
    return np.where(totals > 0, np.diag(counts) / np.maximum(totals, 1), np.nan)


def precision(counts: np.ndarray) -> np.ndarray:
    """Per class, the part of the images taken for it that were of it; NaN for a class that was
    never predicted."""
    return recall(np.asarray(counts).T)


def confusion_svg(counts: np.ndarray, classes: Sequence[str]) -> str:
    """The confusion matrix as an inline SVG: rows true, columns predicted, the number of images in
    each cell.

    Colours come from the page: classes `right` and `wrong`, as opaque as the share of the row is
    large (for errors its square root, so that rare ones show), and `strong` for the text on opaque
    cells. Every cell says on hover what it counts.

    Raises:
      ValueError: `counts` is not (classes, classes).
    """
    counts = np.asarray(counts)
    number = len(classes)
    if counts.shape != (number, number):
        raise ValueError(
            f"confusion_svg: {number} classes need as many rows and columns; got {counts.shape}"
        )
    side = 44 if number <= 12 else 30 if number <= 20 else 20
    names = [abbreviate(name, 14) for name in classes]
    margin = 34 + 7.2 * max(map(len, names), default=0)
    size = margin + side * number
    width = max(size, margin + 64)  # room for the axis title above a single class
    parts = [
        svg_text("axis", margin, 12, "taken for"),
        svg_text("axis", 12, (margin + size) / 2, "is", anchor="middle", upwards=True),
    ]
    for i, name in enumerate(map(isolated, names)):
        middle = margin + side * (i + 0.5) + 4
        parts.append(svg_text("label", margin - 8, middle, name, anchor="end"))
        parts.append(svg_text("label", middle, margin - 8, name, upwards=True))
    totals = counts.sum(axis=1)
    for t, p in itertools.product(range(number), repeat=2):
        share = float(counts[t, p] / totals[t]) if totals[t] else 0.0
        verdict = "recognised" if t == p else f"taken for {isolated(classes[p])}"
        hover = (
            f"{counts[t, p]:,} of class {isolated(classes[t])} {verdict}, "
            f"{100 * share:.1f} % of the class"
        )
        x, y = margin + p * side, margin + t * side
        parts.append(_cell(x, y, side, int(counts[t, p]), share, t == p, hover))
    right, total = int(np.trace(counts)), int(counts.sum())
    alt = f"Confusion matrix of {number} classes: {right:,} of {total:,} images on the diagonal"
    frame = f'viewBox="0 0 {width:g} {size:g}" width="{width:g}" height="{size:g}"'
    return f'<svg class="confusion" {frame} role="img" aria-label="{alt}">{"".join(parts)}</svg>'


def _cell(x: float, y: float, side: int, count: int, share: float, right: bool, hover: str) -> str:
    strength = share if right else share**0.5
    # No opacity between 0.5 and 0.9: there neither dark nor light text has a contrast of 4.5.
    strong = strength > 0.5
    opacity = 0.8 + 0.2 * strength if strong else 0.08 + 0.84 * strength
    kind = ("right" if right else "wrong") if count else "empty"
    fill = f' fill-opacity="{opacity:.2f}"' if count else ""
    number = ""
    # A number needs about 8 units of width per digit.
    if count and 8 * len(str(count)) <= side:
        style = "count strong" if strong else "count"
        number = svg_text(style, x + side / 2, y + side / 2 + 4, str(count), anchor="middle")
    box = f'x="{x + 1:g}" y="{y + 1:g}" width="{side - 2:g}" height="{side - 2:g}" rx="2"'
    cell = f'<rect class="{kind}" {box}{fill}/>{number}'
    return f"<g><title>{escape(hover)}</title>{cell}</g>"
