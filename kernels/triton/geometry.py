"""A window in three spatial axes, as constants of a kernel.

One and two axes are three of which the first have one pixel. Letters: D H W pixels in, T R S taps,
Z P Q pixels out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

MOST_ELEMENTS = 2**31 - 1  # addresses within an array are int32


def constants(window: Any) -> dict[str, int]:
    """Extents, strides, padding in front and dilations by the names that the kernels have: one for
    each, for Triton 3.6 takes no constants in tuples.
    """
    named: dict[str, int] = {}
    for letters, values, fill in (
        ("DHW", window.input, 1),
        ("TRS", window.size, 1),
        ("ZPQ", window.output, 1),
        (("STRIDE_D", "STRIDE_H", "STRIDE_W"), window.stride, 1),
        (("PAD_D", "PAD_H", "PAD_W"), [lo for lo, _ in window.pads], 0),
        (("DILATION_D", "DILATION_H", "DILATION_W"), window.dilation, 1),
    ):
        named |= dict(zip(letters, three(values, fill), strict=True))
    return named


def three(values: Sequence[int], fill: int) -> tuple[int, ...]:
    """One value for each of three axes, the missing first ones `fill`."""
    return (fill,) * (3 - len(values)) + tuple(values)


def holding(window: Any) -> dict[str, int]:
    """How many windows can hold one pixel, along each axis."""
    most = [-(-extent // s) for extent, s in zip(window.extent, window.stride, strict=True)]
    names = ("WINDOWS_D", "WINDOWS_H", "WINDOWS_W")
    return dict(zip(names, three(most, 1), strict=True))


def unsupported(*arrays: Any, dtypes: Sequence[str]) -> str | None:
    """Why no kernel takes arrays like these, or None."""
    if not all(isinstance(n, int) for array in arrays for n in array.shape):
        return "only for sizes that are known when it is compiled"
    for array in arrays:
        if array.dtype.name not in dtypes:
            return f"only {', '.join(dtypes)}, got {array.dtype}"
        if math.prod(array.shape) > MOST_ELEMENTS:
            return f"only arrays of fewer than 2**31 elements, got {array.shape}"
        if 0 in array.shape:
            return "nothing to compute"
    return None


def unsupported_window(window: Any, most_taps: int) -> str | None:
    """Why no kernel takes this window, or None.

    Args:
      most_taps: each is code of its own.
    """
    if len(window.size) > 3:
        return f"only one to three spatial axes, got {len(window.size)}"
    if set(window.input_dilation) != {1}:
        return f"only input_dilation 1, got {window.input_dilation}"
    if math.prod(window.size) > most_taps:
        return f"only windows of at most {most_taps} taps, got {math.prod(window.size)}"
    return None
