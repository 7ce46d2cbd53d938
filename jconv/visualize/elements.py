"""The HTML elements that the sections of a report are made of."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from jconv.visualize.image_grid import displayable, enlarge
from jconv.visualize.markup import bdi, escape
from jconv.visualize.png import data_uri

NUMBER = ' class="number"'


def section(anchor: str, title: str, lead: str, body: str) -> str:
    """A section with a heading and a sentence of introduction; only `body` is HTML."""
    lead = f'<p class="lead">{escape(lead)}</p>' if lead else ""
    heading = f'<h2 id="{anchor}-title">{escape(title)}</h2>'
    attributes = f'id="{anchor}" aria-labelledby="{anchor}-title"'
    return f"<section {attributes}>{heading}{lead}{body}</section>"


def table(
    caption: str,
    headers: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    numbers: int,
    longest: int | None = None,
) -> str:
    """A table whose first column heads its rows and whose last `numbers` columns are numbers.

    Args:
      longest: so many characters of a text are shown; a longer one is whole on hover.
    """
    first_number = len(headers) - numbers
    align = [NUMBER if i >= first_number else "" for i in range(len(headers))]
    head = "".join(
        f'<th scope="col"{a}>{escape(h)}</th>' for h, a in zip(headers, align, strict=True)
    )
    lines = []
    for first, *rest in rows:
        cells = "".join(
            f"<td{a}>{escape(cell) if a else bdi(cell, longest)}</td>"
            for cell, a in zip(rest, align[1:], strict=True)
        )
        lines.append(f'<tr><th scope="row">{bdi(first, longest)}</th>{cells}</tr>')
    caption = f"<caption>{escape(caption)}</caption>" if caption else ""
    return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def picture(pixels: np.ndarray, alt: str) -> str:
    """A uint8 image, as `encode_png` takes it."""
    height, width = pixels.shape[:2]
    size = f'width="{width}" height="{height}"'
    return f'<img src="{data_uri(pixels)}" {size} alt="{escape(alt)}">'


def enlarged(image: np.ndarray) -> np.ndarray:
    """Any image, displayable; a small one in at least 96 pixels, so that it stays sharp in
    print."""
    pixels = displayable(image)
    return enlarge(pixels, max(1, math.ceil(96 / max(1, *pixels.shape[:2]))))


def bar(part: float) -> str:
    """A share, 0..1, as a small bar; invisible for 0."""
    kind = "share" if part else "share none"
    return f'<span class="{kind}" style="--part:{part:.1%}"></span>'


def percent(part: float) -> str:
    """A share as text that never rounds to certainty or to nothing: 0.99999 is "> 99.9 %"."""
    if not math.isfinite(part):
        return "–"
    rounded = f"{100 * part:.1f}"
    if rounded == "100.0" and part < 1:
        return "> 99.9 %"
    if rounded == "0.0" and part > 0:
        return "< 0.1 %"
    return "100 %" if part == 1 else f"{rounded} %"
