"""Sums over windows, by a divisor, and their transpose: average pooling and its gradient.

Shapes and tiles as in `max_pooling.py`. Memory bounds both: each array is moved once, but for the
rows that neighbouring windows share, which are cached. Sums are float32; the gradient is gathered,
in a fixed order and without atomics.
"""

from __future__ import annotations

from typing import Any

import jax
import triton
import triton.language as tl

from .. import shapes  # noqa: TID252, the package is imported as jconv_kernels
from .geometry import constants, holding, three, unsupported, unsupported_window
from .launch import launch
from .tiles import at, read_tap, rows, tile, window_of

DTYPES = ("float32", "bfloat16", "float16")
MOST_TAPS = 64


def window_sum(
    x: jax.Array, *, window: Any, dtype: Any, divisor: Any = None, across: Any = ()
) -> jax.Array:
    """The sum of each window, in float32, by `divisor`.

    Args:
      divisor: a number, or the padding (lo, hi) per axis that counts: then each window is divided
        by how many pixels it holds of the image with that padding, at least 1.
    """
    y = shapes.windows(x, window, dtype)
    grid, blocks = rows(y.shape)
    static = constants(window) | _divided(divisor) | blocks
    return launch(_sum, grid, [x], [y], **static, C=x.shape[-1])[0]


def window_spread(
    dy: jax.Array, *, window: Any, dtype: Any, divisor: Any = None, across: Any = ()
) -> jax.Array:
    """dx: each pixel sums the windows that hold it, each by its `divisor`, in float32."""
    dx = shapes.pixels(dy, window, dtype)
    grid, blocks = rows(dx.shape)
    static = constants(window) | holding(window) | _divided(divisor) | blocks
    return launch(_spread, grid, [dy], [dx], **static, C=dy.shape[-1])[0]


def window_sum_unsupported(x: Any, *, window: Any, dtype: Any, divisor: Any = None) -> str | None:
    """Why the call can't be computed here, in words, or None if it can."""
    return _unsupported(window, x, shapes.windows(x, window, dtype))


def window_spread_unsupported(
    dy: Any, *, window: Any, dtype: Any, divisor: Any = None
) -> str | None:
    """Why the call can't be computed here, in words, or None if it can."""
    return _unsupported(window, dy, shapes.pixels(dy, window, dtype))


def _unsupported(window, operand, result):
    return unsupported(operand, result, dtypes=DTYPES) or unsupported_window(window, MOST_TAPS)


def _divided(divisor):
    """The divisor as constants: a number, or the padding that counts."""
    counted = isinstance(divisor, tuple)
    pads = divisor if counted else ()
    named = {"COUNTED": counted, "DIVISOR": 1.0 if counted or divisor is None else float(divisor)}
    for side, name in enumerate(("LO", "HI")):
        values = three([pad[side] for pad in pads], 0)
        named |= dict(zip((f"{name}_D", f"{name}_H", f"{name}_W"), values, strict=True))
    return named


# fmt: off
@triton.jit
def _held(
    window, SIZE: tl.constexpr, STRIDE: tl.constexpr, PAD: tl.constexpr, N: tl.constexpr,
    LO: tl.constexpr, HI: tl.constexpr,
):
    """How many pixels of an axis of N with LO and HI more a window holds, at least 1."""
    start = window * STRIDE - PAD + tl.zeros((1,), tl.int32)
    end = tl.minimum(start + SIZE, N + HI)
    return tl.maximum(end - tl.maximum(start, -LO), 1).to(tl.float32)


@triton.jit
def _sum(
    x_ptr, y_ptr,
    D: tl.constexpr, H: tl.constexpr, W: tl.constexpr, C: tl.constexpr,
    T: tl.constexpr, R: tl.constexpr, S: tl.constexpr,
    Z: tl.constexpr, P: tl.constexpr, Q: tl.constexpr,
    STRIDE_D: tl.constexpr, STRIDE_H: tl.constexpr, STRIDE_W: tl.constexpr,
    PAD_D: tl.constexpr, PAD_H: tl.constexpr, PAD_W: tl.constexpr,
    DILATION_D: tl.constexpr, DILATION_H: tl.constexpr, DILATION_W: tl.constexpr,
    COUNTED: tl.constexpr, DIVISOR: tl.constexpr,
    LO_D: tl.constexpr, LO_H: tl.constexpr, LO_W: tl.constexpr,
    HI_D: tl.constexpr, HI_H: tl.constexpr, HI_W: tl.constexpr,
    BLOCK_W: tl.constexpr, BLOCK_C: tl.constexpr,
):
    row, q, c = tile(BLOCK_W, BLOCK_C)
    n, z, p = row // (P * Z), row // P % Z, row % P
    y = tl.zeros((BLOCK_W, BLOCK_C), tl.float32)
    for t in tl.static_range(T):
        for r in tl.static_range(R):
            for s in tl.static_range(S):
                x, _ = read_tap(
                    x_ptr, n, z, p, q, c, (c < C)[None, :], t, r, s, D, H, W, C,
                    STRIDE_D, STRIDE_H, STRIDE_W, PAD_D, PAD_H, PAD_W,
                    DILATION_D, DILATION_H, DILATION_W,
                )
                y += x.to(tl.float32)
    if COUNTED:
        count = _held(z, T, STRIDE_D, PAD_D, D, LO_D, HI_D)
        count = count * _held(p, R, STRIDE_H, PAD_H, H, LO_H, HI_H)
        y = y / (count * _held(q, S, STRIDE_W, PAD_W, W, LO_W, HI_W))[:, None]
    else:
        y = y / DIVISOR
    y_at, stored = at(row, q, c, Q, C)
    tl.store(y_ptr + y_at, y.to(y_ptr.dtype.element_ty), mask=stored)


@triton.jit
def _spread(
    dy_ptr, dx_ptr,
    D: tl.constexpr, H: tl.constexpr, W: tl.constexpr, C: tl.constexpr,
    T: tl.constexpr, R: tl.constexpr, S: tl.constexpr,
    Z: tl.constexpr, P: tl.constexpr, Q: tl.constexpr,
    STRIDE_D: tl.constexpr, STRIDE_H: tl.constexpr, STRIDE_W: tl.constexpr,
    PAD_D: tl.constexpr, PAD_H: tl.constexpr, PAD_W: tl.constexpr,
    DILATION_D: tl.constexpr, DILATION_H: tl.constexpr, DILATION_W: tl.constexpr,
    WINDOWS_D: tl.constexpr, WINDOWS_H: tl.constexpr, WINDOWS_W: tl.constexpr,
    COUNTED: tl.constexpr, DIVISOR: tl.constexpr,
    LO_D: tl.constexpr, LO_H: tl.constexpr, LO_W: tl.constexpr,
    HI_D: tl.constexpr, HI_H: tl.constexpr, HI_W: tl.constexpr,
    BLOCK_W: tl.constexpr, BLOCK_C: tl.constexpr,
):
    row, w, c = tile(BLOCK_W, BLOCK_C)
    n, d, h = row // (H * D), row // H % D, row % H
    dx = tl.zeros((BLOCK_W, BLOCK_C), tl.float32)
    for i in tl.static_range(WINDOWS_D):
        z, _t, in_d = window_of(d, i, STRIDE_D, PAD_D, DILATION_D, T, Z)
        for j in tl.static_range(WINDOWS_H):
            p, _r, in_h = window_of(h, j, STRIDE_H, PAD_H, DILATION_H, R, P)
            for k in tl.static_range(WINDOWS_W):
                q, _s, in_w = window_of(w, k, STRIDE_W, PAD_W, DILATION_W, S, Q)
                held = (in_d & in_h & in_w)[:, None] & (c < C)[None, :]
                dy_at = (((n * Z + z) * P + p) * Q + q)[:, None] * C + c[None, :]
                dy = tl.load(dy_ptr + dy_at, mask=held, other=0.0).to(tl.float32)
                if COUNTED:
                    count = _held(z, T, STRIDE_D, PAD_D, D, LO_D, HI_D)
                    count = count * _held(p, R, STRIDE_H, PAD_H, H, LO_H, HI_H)
                    dy = dy / (count * _held(q, S, STRIDE_W, PAD_W, W, LO_W, HI_W))[:, None]
                dx += dy
    if not COUNTED:
        dx = dx / DIVISOR
    dx_at, stored = at(row, w, c, W, C)
    tl.store(dx_ptr + dx_at, dx.to(dx_ptr.dtype.element_ty), mask=stored)
# fmt: on
