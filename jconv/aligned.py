"""Tables as text."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence


def aligned(columns: Mapping[str, Sequence[str]], right: Collection[str]) -> list[str]:
    """The lines of a table, headers first.

    Args:
      columns: cells by header.
      right: headers of the columns that are flush right, which hold numbers.
    """
    padded = []
    for header, cells in columns.items():
        width = max(map(len, [header, *cells]))
        justify = str.rjust if header in right else str.ljust
        padded.append([justify(cell, width) for cell in [header, *cells]])
    return ["  ".join(line).rstrip() for line in zip(*padded, strict=True)]
