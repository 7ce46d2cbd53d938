"""Text in HTML and SVG, made safe whoever wrote it."""

from __future__ import annotations

import html
import unicodedata
from typing import Any

# Characters that change the direction of what follows, Unicode's standard annex 9.
_OVERRIDES = "\u202a\u202b\u202c\u202d\u202e"
_ISOLATES = "\u2066\u2067\u2068\u2069"


def escape(value: Any) -> str:
    """`str(value)` for an element's text or a quoted attribute, without characters that HTML
    forbids or that turn the text after them round."""
    return html.escape("".join(c if _is_allowed(c) else "�" for c in str(value)))


def bdi(value: Any, longest: int | None = None) -> str:
    """`str(value)` as an element whose direction of writing is its own, among other text.

    Args:
      longest: so many characters are shown; a longer text is whole on hover.
    """
    text = _without_isolates(str(value))
    if longest is None or len(text) <= longest:
        return f"<bdi>{escape(text)}</bdi>"
    return f'<bdi title="{escape(text)}">{escape(abbreviate(text, longest))}</bdi>'


def isolated(text: str) -> str:
    """As `bdi`, for attributes and SVG, where there are no elements: the same by invisible
    characters, round text that has letters written from right to left."""
    text = _without_isolates(text)
    leftward = any(unicodedata.bidirectional(c) in ("R", "AL", "AN") for c in text)
    return f"\u2068{text}\u2069" if leftward else text


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


def _is_allowed(c: str) -> bool:
    return c in "\n\t" or (unicodedata.category(c) not in ("Cc", "Cs") and c not in _OVERRIDES)


def _without_isolates(text: str) -> str:
    return "".join("�" if c in _ISOLATES else c for c in text)
