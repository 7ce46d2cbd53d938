"""Max pooling with its argmax and gradient, and sums over windows with theirs.

Loops of our own on XLA's threads, with the signatures and the very semantics of `jconv.ops.winner`
and `jconv.ops.avg_pool`: oneDNN's pooling passes over NaN, and jconv's does not. Shapes (one to
three spatial axes; written for two): x N H W C, y, dy and tap N P Q C.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from .. import shapes  # noqa: TID252, the package is imported as jconv_kernels
from . import limits
from .library import target

DTYPES = ("float32", "bfloat16")
# The loops run along the channels, 32 at a time: of 16, XLA's own take 0.3 of the time (windows of
# 2x2 side by side, 56x56x16, forward and backward), and of 3 as much.
FEWEST_CHANNELS = 32


def max_pool(x: jax.Array, *, window: Any) -> jax.Array:
    """The largest pixel of each window."""
    return _call("max_pool", shapes.windows(x, window, x.dtype), x, window=window)


def max_pool_argmax(x: jax.Array, *, window: Any) -> tuple[jax.Array, jax.Array]:
    """The largest pixel of each window, and which tap of the window it was."""
    y = shapes.windows(x, window, x.dtype)
    return _call("max_pool", (y, shapes.taps(x, window)), x, window=window)


def pool_take(x: jax.Array, tap: jax.Array, *, window: Any, dtype: Any) -> jax.Array:
    """The pixel of each window that its tap reads, 0 where that is padding."""
    return _call("pool_take", shapes.windows(x, window, dtype), x, tap, window=window)


def pool_put(dy: jax.Array, tap: jax.Array, *, window: Any, dtype: Any) -> jax.Array:
    """dx: each pixel sums the windows that it won, in float32."""
    return _call("pool_put", shapes.pixels(dy, window, dtype), dy, tap, window=window)


def window_sum(x: jax.Array, *, window: Any, dtype: Any, divisor: Any = None) -> jax.Array:
    """The sum of each window, in float32, by `divisor`.

    Args:
      divisor: a number, or the padding (lo, hi) per axis that counts: then each window is divided
        by how many pixels it holds of the image with that padding, at least 1.
    """
    static = {"window": window, **_divided(divisor)}
    return _call("window_sum", shapes.windows(x, window, dtype), x, **static)


def window_spread(dy: jax.Array, *, window: Any, dtype: Any, divisor: Any = None) -> jax.Array:
    """dx: each pixel sums the windows that hold it, each by its `divisor`, in float32."""
    static = {"window": window, **_divided(divisor)}
    return _call("window_spread", shapes.pixels(dy, window, dtype), dy, **static)


def max_pool_unsupported(x: Any, *, window: Any) -> str | None:
    """Why the call can't be computed here, in words, or None if it can."""
    return _unsupported(window, x, shapes.windows(x, window, x.dtype))


max_pool_argmax_unsupported = max_pool_unsupported


def pool_take_unsupported(x: Any, tap: Any, *, window: Any, dtype: Any) -> str | None:
    """Why the call can't be computed here, in words, or None if it can."""
    return _unsupported(window, x, shapes.windows(x, window, dtype))


def pool_put_unsupported(dy: Any, tap: Any, *, window: Any, dtype: Any) -> str | None:
    """Why the call can't be computed here, in words, or None if it can."""
    return _unsupported(window, dy, shapes.pixels(dy, window, dtype))


def window_sum_unsupported(x: Any, *, window: Any, dtype: Any, divisor: Any = None) -> str | None:
    """Why the call can't be computed here, in words, or None if it can."""
    return _unsupported(window, x, shapes.windows(x, window, dtype))


def window_spread_unsupported(
    dy: Any, *, window: Any, dtype: Any, divisor: Any = None
) -> str | None:
    """Why the call can't be computed here, in words, or None if it can."""
    return _unsupported(window, dy, shapes.pixels(dy, window, dtype))


def _unsupported(window, operand, result):
    reason = limits.unsupported(operand, result, dtypes=DTYPES) or limits.unsupported_window(window)
    if reason is None and operand.shape[-1] < FEWEST_CHANNELS:
        return f"only {FEWEST_CHANNELS} channels or more, got {operand.shape[-1]}"
    return reason


def _divided(divisor):
    counted, number = (divisor, 1.0) if isinstance(divisor, tuple) else ((), divisor)
    return {
        "counted": np.array(counted, np.int64).reshape(-1),
        "divisor": np.float64(1.0 if number is None else number),
    }


def _call(name, results, *operands, window, **static):
    return jax.ffi.ffi_call(target(name), results, vmap_method="sequential")(
        *operands,
        window=np.array(window.size, np.int64),
        stride=np.array(window.stride, np.int64),
        pads=np.array(window.pads, np.int64).reshape(-1),
        dilation=np.array(window.dilation, np.int64),
        **static,
    )
