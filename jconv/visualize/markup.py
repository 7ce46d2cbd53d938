"""Text in HTML and SVG, made safe whoever wrote it."""

from __future__ import annotations

import html
import unicodedata
from typing import Any


def escape(value: Any) -> str:
    """`str(value)` for an element's text or a quoted attribute, without characters that HTML
    forbids."""
    allowed = (
        c if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cs") else "�" for c in str(value)
    )
    return html.escape("".join(allowed))


def abbreviate(text: str, length: int) -> str:
    """At most `length` characters of `text`, the last an ellipsis where some are missing."""
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


def svg_text(
    kind: str, x: float, y: float, text: str, *, anchor: str = "start", upwards: bool = False
) -> str:
    """A line of text as SVG, of CSS class `kind`; `x` and `y` are the end of its baseline that
    `anchor` names."""
    where = f'x="{x:.1f}" y="{y:.1f}"'
    if upwards:
        where = f'transform="translate({x:.1f} {y:.1f}) rotate(-90)"'
    return f'<text class="{kind}" {where} text-anchor="{anchor}">{escape(text)}</text>'
