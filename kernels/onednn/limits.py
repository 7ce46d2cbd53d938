"""What no function here takes, in words."""

from __future__ import annotations

import math
from typing import Any

from jax.lax import DotAlgorithm, DotAlgorithmPreset
from jax.sharding import AxisType

from .library import available

MOST_ELEMENTS = 2**31 - 1  # oneDNN counts many things in int32


def unsupported(*arrays: Any, dtypes: tuple[str, ...]) -> str | None:
    """Why these operands and results can't be computed here, or None if they can.

    Args:
      dtypes: the dtypes that are taken.
    """
    if reason := available():
        return reason
    for array in arrays:
        if array.dtype.name not in dtypes:
            return f"only {', '.join(dtypes)}, got {array.dtype}"
    sizes = [n for array in arrays for n in array.shape]
    if not all(isinstance(n, int) for n in sizes):
        return "not for symbolic sizes"
    if 0 in sizes:
        return "nothing to compute"
    if max(math.prod(array.shape) for array in arrays) > MOST_ELEMENTS:
        return "only arrays of fewer than 2**31 elements"
    if any(map(_explicit, arrays)):
        return "not where axes of the mesh are explicit: use jax.shard_map there"
    return None


def unsupported_window(window: Any) -> str | None:
    """Why no function here takes such windows, or None."""
    axes = len(window.size)
    if not 1 <= axes <= 3:
        return f"only one to three spatial axes, got {axes}"
    if not all(isinstance(side, int) for pad in window.pads for side in pad):
        return "not for symbolic sizes"
    if any(d != 1 for d in window.input_dilation):
        return f"not with input_dilation, got {window.input_dilation}"
    return None


def unsupported_conv(
    x: Any, w: Any, y: Any, window: Any, precision: Any, *, dtypes: tuple[str, ...]
) -> str | None:
    """Why no convolution of these, or gradient of it, is computed here, or None.

    Args:
      dtypes: the dtypes that are taken.
    """
    reason = unsupported(x, w, y, dtypes=dtypes) or unsupported_window(window)
    if reason:
        return reason
    if any(side < 0 for pad in window.pads for side in pad):
        return f"not with negative padding, got {window.pads}"
    if _names_algorithm(precision):
        return f"the sums' algorithm can't be chosen, got precision={precision}"
    return None


def _names_algorithm(precision):
    """Whether it says how sums are computed, beyond how exactly; "default" says nothing."""
    if isinstance(precision, str):
        return precision in set(DotAlgorithmPreset.__members__) - {"DEFAULT"}
    return isinstance(precision, DotAlgorithm | DotAlgorithmPreset)


def _explicit(array: Any) -> bool:
    sharding = getattr(array, "sharding", None)
    mesh = getattr(sharding, "mesh", None)
    return mesh is not None and AxisType.Explicit in mesh.axis_types
