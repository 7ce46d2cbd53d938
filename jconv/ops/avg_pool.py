"""Average pooling: a window of ones, and its adjoint.

    y[n, p, q, c] = 1 / (number of pixels) * sum over r, s of
                    x[n, p*stride + r - lo, q*stride + s - lo, c]

Shapes (any number of spatial axes; written for two): x N H W C, y N P Q C, window R S. Linear, so
two operations, each the transpose of the other, give every derivative; sums of float16 and bfloat16
are taken in float32:

    window_sum     y = D 1 x      [N HW C] -> [N PQ C]
    spread         dx = 1' D dy   [N PQ C] -> [N HW C]     each pixel sums the windows that hold it

D divides each window by its `divisor`: a number; the padding that counts, and so by the number of
pixels in the window; or None, by nothing.
"""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jconv.algorithms import pool_adjoint
from jconv.core import Implementation, Operation, linear, onednn, triton
from jconv.ops.dtypes import at_least_float32
from jconv.ops.pooling import (
    apart,
    fold,
    more_taps_than,
    more_windows_than,
    pixels,
    pooling_window,
    taps,
    transposed_by,
    xla_window,
)
from jconv.window import Padding, PerAxis, hashable, resolve_padding

# Sums of shifted arrays took 0.67 of a reduce_window's time for windows of 2x2 at stride 2
# (avgpool2), 0.4 for 3x3 at stride 2, 1.2 for 5x5 at stride 1; their adjoint 1.0, 0.3 and 1.2.
MOST_TERMS = 16


def avg_pool(
    x: jax.Array,
    window: PerAxis,
    *,
    stride: PerAxis | None = None,
    padding: Padding = "VALID",
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: float | None = None,
    implementation: str | None = None,
) -> jax.Array:
    """The mean of each window of x (N, *spatial, C): y (N, *output, C).

    Args:
      window, stride, padding, ceil_mode, implementation: as in `max_pool`.
      count_include_pad: divides by the window's size, padding included (not what ceil_mode adds
        beyond it: PyTorch); False divides by the number of pixels of the image in the window.
      divisor_override: divides by this real number instead, finite and not 0.

    Raises:
      ValueError: arguments that don't fit each other, another divisor, or an x that is not floating
        point or complex: a mean of integers is not one.
      NotImplementedError: the implementation that was asked for can't compute this call.
    """
    return window_mean(
        "avg_pool", jnp.asarray(x), window, stride, padding, ceil_mode,
        count_include_pad=count_include_pad, divisor_override=divisor_override,
        implementation=implementation,
    )  # fmt: skip


def window_mean(
    op, x, window, stride, padding, ceil_mode, *, count_include_pad=True, divisor_override=None,
    implementation=None,
):  # fmt: skip
    """`avg_pool`, with the errors of `op`."""
    win = pooling_window(
        op, x, window, stride, padding, 1, ceil_mode, kind="floating-point or complex numbers"
    )
    dtype = at_least_float32(x.dtype)
    divisor = math.prod(win.size)
    pads = resolve_padding(padding, win.input, win.extent, win.stride, op)
    counted = pads if count_include_pad else ((0, 0),) * len(win.size)
    if divisor_override is not None:
        divisor = _divisor(op, divisor_override, dtype)
    elif win.pads != counted:  # not every window lies inside what counts
        divisor = counted
    return window_sum(x, window=win, dtype=x.dtype, divisor=divisor, implementation=implementation)


def _divisor(op, value, dtype):
    """`value` in the dtype of the sums, where it must be neither 0 nor infinite."""
    number, most = hashable(value), jnp.finfo(dtype)
    real = isinstance(number, int | float) and not isinstance(number, bool)
    if not real or not float(most.tiny) <= abs(number) <= float(most.max):
        raise ValueError(
            f"{op}: divisor_override must be a real number, finite and other than 0 in {dtype}; "
            f"got divisor_override={value!r}"
        )
    return float(number)


def _window_sum_shifted(x, *, window, dtype, divisor=None):
    wide = at_least_float32(x.dtype)
    read = (pixels(x, tap, window, 0).astype(wide) for tap in taps(window))
    return _divided(functools.reduce(jnp.add, read), divisor, window, dtype)


def _window_sum_xla(x, *, window, dtype, divisor=None):
    x = x.astype(at_least_float32(x.dtype))
    y = lax.reduce_window(x, np.zeros((), x.dtype), lax.add, **xla_window(window))
    return _divided(y, divisor, window, dtype)


def _spread_shifted(dy, *, window, dtype, divisor=None):
    wide = at_least_float32(dy.dtype)
    dy = _divided(dy.astype(wide), divisor, window, wide)
    return pool_adjoint.spread(dy, window, dtype=wide).astype(dtype)


def _spread_xla(dy, *, window, dtype, divisor=None):
    """Each pixel sums the windows that hold it: windows of dy, dilated by the stride."""
    wide = at_least_float32(dy.dtype)
    dy = _divided(dy.astype(wide), divisor, window, wide)
    interior = (
        (lo, hi, s - 1) for (lo, hi), s in zip(window.input_grad_pads, window.stride, strict=True)
    )
    dy = lax.pad(dy, jnp.zeros((), dy.dtype), [(0, 0, 0), *interior, (0, 0, 0)])
    ones = (1,) * dy.ndim
    dx = lax.reduce_window(
        dy,
        np.zeros((), dy.dtype),
        lax.add,
        (1, *window.size, 1),
        ones,
        "VALID",
        ones,
        (1, *window.dilation, 1),
    )
    return dx.astype(dtype)


def _too_many_taps(*avals, window, **static):
    return more_taps_than(window, MOST_TERMS)


def _too_many_windows(*avals, window, **static):
    return more_windows_than(window, MOST_TERMS)


def _divided(sums, divisor, window, dtype):
    """N P Q C, each window by its divisor: a number, what `_counts` counts, or none."""
    if isinstance(divisor, tuple):
        divisor = _counts(window, divisor, sums.dtype)
    return (sums if divisor is None else sums / np.asarray(divisor, sums.dtype)).astype(dtype)


window_sum = Operation(
    "window_sum",
    (
        Implementation("lax", _window_sum_xla, by_name_only=True, inline=True),
        onednn("window_sum"),
        triton("window_sum", apart(1, 1)),
        Implementation("shifted", _window_sum_shifted, _too_many_taps),
        Implementation("direct", _window_sum_xla),
    ),
    fold=lambda *a, **k: fold(window_sum, *a, **k),
)
spread = Operation(
    "window_spread",
    (
        onednn("window_spread"),
        triton("window_spread", apart(1, 1)),
        Implementation("shifted", _spread_shifted, _too_many_windows),
        Implementation("direct", _spread_xla),
    ),
    fold=lambda *a, **k: fold(spread, *a, **k),
)

linear(window_sum, transposed_by(spread))
linear(spread, transposed_by(window_sum))


def _counts(window, pads, dtype):
    """How many pixels of the image with `pads` each window holds, at least 1: 1 P Q 1."""
    counts, ndim = np.ones((), dtype), len(pads) + 2
    axes = zip(
        window.input, window.size, window.output, window.stride, window.pads, pads, strict=True
    )
    for axis, (n, size, p, s, (before, _), (lo, hi)) in enumerate(axes, 1):
        start = np.arange(p) * s - before
        held = np.minimum(start + size, n + hi) - np.maximum(start, -lo)
        shape = [p if a == axis else 1 for a in range(ndim)]
        # Windows without a pixel have the sum 0, whatever it is divided by.
        counts = counts * np.maximum(held, 1).astype(dtype).reshape(shape)
    return counts
