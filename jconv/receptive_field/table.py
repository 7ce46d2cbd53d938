"""Receptive fields as aligned text, one line for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jconv.aligned import aligned
from jconv.receptive_field.field import ReceptiveField

COLUMNS = ("size", "stride", "padding", "centre")


def columns(fields: Mapping[str, ReceptiveField]) -> dict[str, list[str]]:
    """The cells of a table by column: numbers along several axes are one where they agree."""
    cells = {"endpoint": list(fields)}
    for name in COLUMNS:
        cells[name] = [numbers(getattr(field, name)) for field in fields.values()]
    if any(field.misaligned or field.unknown for field in fields.values()):
        cells["remarks"] = [remarks(field.unknown, field.misaligned) for field in fields.values()]
    return cells


def table(fields: Mapping[str, ReceptiveField]) -> str:
    """The fields as aligned text: size, stride, padding and centre in input pixels, and remarks."""
    lines = aligned(columns(fields), right=COLUMNS)
    rule = "─" * max(map(len, lines))
    return "\n".join([lines[0], rule, *lines[1:]])


def numbers(values: Sequence[Any]) -> str:
    """One number, or 7 x 5 where the axes differ."""
    texts = [str(value) for value in values]
    return texts[0] if len(set(texts)) == 1 else " x ".join(texts)


def remarks(unknown: Sequence[str], misaligned: Sequence[str]) -> str:
    """What there is to say beside a field's numbers: "" where they are all."""
    found = [f"reads all by {', '.join(unknown)}"] if unknown else []
    found += [f"misaligned: {misaligned[0]}"] if misaligned else []
    found += [f"and {len(misaligned) - 1} more"] if len(misaligned) > 1 else []
    return "; ".join(found)
