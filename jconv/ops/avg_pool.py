"""Average pooling: a window of ones, and its adjoint.

    y[n, p, q, c] = 1 / (number of pixels) * sum over r, s of
                    x[n, p*stride + r - lo, q*stride + s - lo, c]

Shapes (any number of spatial axes; written for two): x N H W C, y N P Q C, window R S. Linear, so
two operations, each the transpose of the other, give every derivative; sums of float16 and bfloat16
are taken in float32:

    window_sum     y = 1 x     [N HW C] -> [N PQ C]
    spread         dx = 1' dy  [N PQ C] -> [N HW C]     each pixel sums the windows that hold it
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jconv.core import Implementation, Operation, linear, one_body, onednn
from jconv.ops.dtypes import at_least_float32
from jconv.ops.pooling import fold, pooling_window, transposed_by, xla_window
from jconv.window import Padding, PerAxis, hashable, resolve_padding


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
    divisor = None if divisor_override is None else _divisor(op, divisor_override, dtype)
    y = window_sum(x, window=win, dtype=dtype, implementation=implementation)
    if divisor is not None:
        return (y / divisor).astype(x.dtype)
    pads = resolve_padding(padding, win.input, win.extent, win.stride, op)
    counted = pads if count_include_pad else ((0, 0),) * len(win.size)
    if win.pads == counted:  # every window lies inside what counts
        return (y / np.asarray(math.prod(win.size), dtype)).astype(x.dtype)
    return (y / _counts(win, counted, dtype)).astype(x.dtype)


def _divisor(op, value, dtype):
    """`value` in the dtype of the sums, where it must be neither 0 nor infinite."""
    number, most = hashable(value), jnp.finfo(dtype)
    real = isinstance(number, int | float) and not isinstance(number, bool)
    if not real or not float(most.tiny) <= abs(number) <= float(most.max):
        raise ValueError(
            f"{op}: divisor_override must be a real number, finite and other than 0 in {dtype}; "
            f"got divisor_override={value!r}"
        )
    return np.asarray(number, dtype)


def _window_sum_xla(x, *, window, dtype):
    x = x.astype(at_least_float32(x.dtype))
    return lax.reduce_window(x, np.zeros((), x.dtype), lax.add, **xla_window(window)).astype(dtype)


def _spread_xla(dy, *, window, dtype):
    """Each pixel sums the windows that hold it: windows of dy, dilated by the stride."""
    dy = dy.astype(at_least_float32(dy.dtype))
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


window_sum = Operation(
    "window_sum",
    one_body(_window_sum_xla, onednn("window_sum")),
    fold=lambda *a, **k: fold(window_sum, *a, **k),
)
spread = Operation(
    "window_spread",
    (onednn("window_spread"), Implementation("direct", _spread_xla)),
    fold=lambda *a, **k: fold(spread, *a, **k),
)

linear(window_sum, transposed_by(spread))
linear(spread, transposed_by(window_sum))


def _counts(window, pads, dtype):
    """How many pixels of the image with `pads` each window holds, at least 1: 1 P Q 1."""
    counts, ndim = jnp.ones((), dtype), len(pads) + 2
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
