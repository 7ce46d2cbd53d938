"""Fields of all units on one image: an inline SVG in which pointing at a unit shows its field.

There is no script in it: styles show a field while the pointer is on its unit, or after a click.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from jconv.visualize.evenly import evenly
from jconv.visualize.image_grid import displayable
from jconv.visualize.markup import escape, isolated
from jconv.visualize.png import data_uri

type Span = tuple[int, int] | None
type Edges = tuple[float, float]

MOST = 16  # units along an axis; of more, some


def units_on_image(
    image: np.ndarray,
    rows: Sequence[Span],
    columns: Sequence[Span],
    *,
    given: tuple[int, int],
    name: str,
) -> str:
    """The SVG: an image (H, W) or (H, W, C), divided among units, each with the box of its field.

    A quarter of the image is left free on every side, for padding; boxes end there.

    Args:
      rows, columns: for every row and column of units the first and last pixel, None for nothing.
      given: the unit whose field is shown while the pointer is elsewhere.
      name: of the endpoint.
    """
    pixels = displayable(image)
    height, width = pixels.shape[:2]
    view = f"{-width / 4:g} {-height / 4:g} {width * 1.5:g} {height * 1.5:g}"
    size = f'width="{width}" height="{height}"'
    parts = [f'<image href="{data_uri(pixels)}" {size} preserveAspectRatio="none"/>']
    for i, *down in _along(rows, height, given[0]):
        for j, *across in _along(columns, width, given[1]):
            kind = "unit given" if (i, j) == given else "unit"
            parts.append(_unit(kind, f"{isolated(name)} at {i}, {j}", down, across))
    label = escape(f"Fields of the units of {isolated(name)} on the image")
    opening = f'<svg class="units" viewBox="{view}" role="img" aria-label="{label}">'
    return f"{opening}{''.join(parts)}</svg>"


def _along(
    spans: Sequence[Span], pixels: int, wanted: int
) -> Iterator[tuple[int, Edges, Edges, tuple[int, int]]]:
    """Index, cell, box and span of the units along one axis, but for those that see nothing; of
    many some, the wanted one among them."""
    chosen = sorted({*evenly(len(spans), MOST), wanted})
    middles = (np.array(chosen) + 0.5) * pixels / len(spans)
    edges = [0, *((middles[:-1] + middles[1:]) / 2).tolist(), pixels]
    for i, cell in zip(chosen, itertools.pairwise(edges), strict=True):
        span = spans[i]
        if span is not None:
            first, last = (
                min(max(edge, -pixels / 4), pixels * 1.25) for edge in (span[0], span[1] + 1)
            )
            yield i, cell, (first, last), span


def _unit(kind: str, name: str, down: Sequence[Any], across: Sequence[Any]) -> str:
    """A unit's cell, which is pointed at, and the box that shows then."""
    (top, bottom), (upper, lower), rows = down
    (left, right), (first, last), columns = across
    said = f"{name}: rows {rows[0]} to {rows[1]}, columns {columns[0]} to {columns[1]}"
    cell = _rect("cell", left, top, right, bottom)
    field = _rect("field", first, upper, last, lower)
    return f'<g class="{kind}" tabindex="-1"><title>{escape(said)}</title>{cell}{field}</g>'


def _rect(kind: str, left: float, top: float, right: float, bottom: float) -> str:
    where = f'x="{left:g}" y="{top:g}" width="{right - left:g}" height="{bottom - top:g}"'
    return f'<rect class="{kind}" {where}/>'
