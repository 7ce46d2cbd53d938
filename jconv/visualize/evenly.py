"""Which of many things are shown."""

from __future__ import annotations

import numpy as np


def evenly(length: int, most: int) -> list[int]:
    """At most `most` of the indices 0..length-1, evenly spaced, first and last among them."""
    return sorted(set(np.linspace(0, length - 1, min(length, most)).round().astype(int).tolist()))
