"""Max pooling, its argmax, and the two linear maps at the argmax, each the other's transpose.

Shapes (one to three spatial axes; written for two): x and dx N H W C, y, dy and tap N P Q C. A
program owns BLOCK_W pixels of one row of its result and BLOCK_C channels. The input gradient is
gathered: every pixel sums the windows that it won, in a fixed order and without atomics.

Memory bounds all of them. Each array is moved once, but for the rows that neighbouring windows
share, which are cached; a tap is one byte where windows have at most 256 pixels. Sums are float32;
NaN wins and stays; of equals the first wins.
"""

from __future__ import annotations

from typing import Any

import jax
import triton
import triton.language as tl

from .. import shapes  # noqa: TID252, the package is imported as jconv_kernels
from .geometry import constants, holding, unsupported, unsupported_window
from .launch import launch
from .tiles import at, pixel_of, read_tap, rows, tile, window_of

DTYPES = ("float32", "bfloat16", "float16")
MOST_TAPS = 64


def max_pool(x: jax.Array, *, window: Any, across: Any = ()) -> jax.Array:
    """The largest pixel of each window."""
    y = shapes.windows(x, window, x.dtype)
    grid, tile = rows(y.shape)
    return launch(_largest, grid, [x], [y], **constants(window), **tile, C=x.shape[-1])[0]


def max_pool_argmax(x: jax.Array, *, window: Any, across: Any = ()) -> tuple[jax.Array, jax.Array]:
    """The largest pixel of each window, and which tap of the window it was."""
    y, tap = shapes.windows(x, window, x.dtype), shapes.taps(x, window)
    grid, tile = rows(y.shape)
    y, tap = launch(
        _largest_and_tap, grid, [x], [y, tap], **constants(window), **tile, C=x.shape[-1]
    )
    return y, tap


def pool_take(
    x: jax.Array, tap: jax.Array, *, window: Any, dtype: Any, across: Any = ()
) -> jax.Array:
    """The pixel of each window that its tap reads, 0 where that is padding."""
    y = shapes.windows(x, window, dtype)
    grid, tile = rows(y.shape)
    return launch(_take, grid, [x, tap], [y], **constants(window), **tile, C=x.shape[-1])[0]


def pool_put(
    dy: jax.Array, tap: jax.Array, *, window: Any, dtype: Any, across: Any = ()
) -> jax.Array:
    """dx: each pixel sums the windows that it won, in float32."""
    dx = shapes.pixels(dy, window, dtype)
    grid, tile = rows(dx.shape)
    static = constants(window) | holding(window) | tile
    return launch(_put, grid, [dy, tap], [dx], **static, C=dy.shape[-1])[0]


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


def _unsupported(window, operand, result):
    return unsupported(operand, result, dtypes=DTYPES) or unsupported_window(window, MOST_TAPS)


# fmt: off
@triton.jit
def _winner(
    x_ptr, row, q, c,
    D: tl.constexpr, H: tl.constexpr, W: tl.constexpr, C: tl.constexpr,
    T: tl.constexpr, R: tl.constexpr, S: tl.constexpr,
    Z: tl.constexpr, P: tl.constexpr, Q: tl.constexpr,
    STRIDE_D: tl.constexpr, STRIDE_H: tl.constexpr, STRIDE_W: tl.constexpr,
    PAD_D: tl.constexpr, PAD_H: tl.constexpr, PAD_W: tl.constexpr,
    DILATION_D: tl.constexpr, DILATION_H: tl.constexpr, DILATION_W: tl.constexpr,
    BLOCK_W: tl.constexpr, BLOCK_C: tl.constexpr,
):
    """The largest pixels of a tile of windows, and their taps; T*R*S where a window holds none."""
    NONE: tl.constexpr = T * R * S
    n, z, p = row // (P * Z), row // P % Z, row % P
    best = tl.full((BLOCK_W, BLOCK_C), float("-inf"), tl.float32)
    tap = tl.full((BLOCK_W, BLOCK_C), NONE, tl.int32)
    for t in tl.static_range(T):
        for r in tl.static_range(R):
            for s in tl.static_range(S):
                x, held = read_tap(
                    x_ptr, n, z, p, q, c, (c < C)[None, :], t, r, s, D, H, W, C,
                    STRIDE_D, STRIDE_H, STRIDE_W, PAD_D, PAD_H, PAD_W,
                    DILATION_D, DILATION_H, DILATION_W,
                )
                x = x.to(tl.float32)
                beats = held & ((tap == NONE) | (x > best) | ((x != x) & (best == best)))
                best = tl.where(beats, x, best)
                tap = tl.where(beats, (t * R + r) * S + s, tap)
    return best, tap


@triton.jit
def _largest(
    x_ptr, y_ptr,
    D: tl.constexpr, H: tl.constexpr, W: tl.constexpr, C: tl.constexpr,
    T: tl.constexpr, R: tl.constexpr, S: tl.constexpr,
    Z: tl.constexpr, P: tl.constexpr, Q: tl.constexpr,
    STRIDE_D: tl.constexpr, STRIDE_H: tl.constexpr, STRIDE_W: tl.constexpr,
    PAD_D: tl.constexpr, PAD_H: tl.constexpr, PAD_W: tl.constexpr,
    DILATION_D: tl.constexpr, DILATION_H: tl.constexpr, DILATION_W: tl.constexpr,
    BLOCK_W: tl.constexpr, BLOCK_C: tl.constexpr,
):
    row, q, c = tile(BLOCK_W, BLOCK_C)
    best, _ = _winner(
        x_ptr, row, q, c, D, H, W, C, T, R, S, Z, P, Q, STRIDE_D, STRIDE_H, STRIDE_W,
        PAD_D, PAD_H, PAD_W, DILATION_D, DILATION_H, DILATION_W, BLOCK_W, BLOCK_C,
    )
    y_at, stored = at(row, q, c, Q, C)
    tl.store(y_ptr + y_at, best.to(y_ptr.dtype.element_ty), mask=stored)


@triton.jit
def _largest_and_tap(
    x_ptr, y_ptr, tap_ptr,
    D: tl.constexpr, H: tl.constexpr, W: tl.constexpr, C: tl.constexpr,
    T: tl.constexpr, R: tl.constexpr, S: tl.constexpr,
    Z: tl.constexpr, P: tl.constexpr, Q: tl.constexpr,
    STRIDE_D: tl.constexpr, STRIDE_H: tl.constexpr, STRIDE_W: tl.constexpr,
    PAD_D: tl.constexpr, PAD_H: tl.constexpr, PAD_W: tl.constexpr,
    DILATION_D: tl.constexpr, DILATION_H: tl.constexpr, DILATION_W: tl.constexpr,
    BLOCK_W: tl.constexpr, BLOCK_C: tl.constexpr,
):
    row, q, c = tile(BLOCK_W, BLOCK_C)
    best, tap = _winner(
        x_ptr, row, q, c, D, H, W, C, T, R, S, Z, P, Q, STRIDE_D, STRIDE_H, STRIDE_W,
        PAD_D, PAD_H, PAD_W, DILATION_D, DILATION_H, DILATION_W, BLOCK_W, BLOCK_C,
    )
    y_at, stored = at(row, q, c, Q, C)
    tap = tl.where(tap == T * R * S, 0, tap)
    tl.store(y_ptr + y_at, best.to(y_ptr.dtype.element_ty), mask=stored)
    tl.store(tap_ptr + y_at, tap.to(tap_ptr.dtype.element_ty), mask=stored)


@triton.jit
def _take(
    x_ptr, tap_ptr, y_ptr,
    D: tl.constexpr, H: tl.constexpr, W: tl.constexpr, C: tl.constexpr,
    T: tl.constexpr, R: tl.constexpr, S: tl.constexpr,
    Z: tl.constexpr, P: tl.constexpr, Q: tl.constexpr,
    STRIDE_D: tl.constexpr, STRIDE_H: tl.constexpr, STRIDE_W: tl.constexpr,
    PAD_D: tl.constexpr, PAD_H: tl.constexpr, PAD_W: tl.constexpr,
    DILATION_D: tl.constexpr, DILATION_H: tl.constexpr, DILATION_W: tl.constexpr,
    BLOCK_W: tl.constexpr, BLOCK_C: tl.constexpr,
):
    row, q, c = tile(BLOCK_W, BLOCK_C)
    n, z, p = row // (P * Z), row // P % Z, row % P
    y_at, stored = at(row, q, c, Q, C)
    tap = tl.load(tap_ptr + y_at, mask=stored, other=0).to(tl.int32)
    d, in_d = pixel_of(z, tap // (R * S), STRIDE_D, PAD_D, DILATION_D, D)
    h, in_h = pixel_of(p, tap // S % R, STRIDE_H, PAD_H, DILATION_H, H)
    w, in_w = pixel_of(q[:, None], tap % S, STRIDE_W, PAD_W, DILATION_W, W)
    x_at = (((n * D + d) * H + h) * W + w) * C + c[None, :]
    x = tl.load(x_ptr + x_at, mask=stored & in_d & in_h & in_w, other=0.0)
    tl.store(y_ptr + y_at, x.to(y_ptr.dtype.element_ty), mask=stored)


@triton.jit
def _put(
    dy_ptr, tap_ptr, dx_ptr,
    D: tl.constexpr, H: tl.constexpr, W: tl.constexpr, C: tl.constexpr,
    T: tl.constexpr, R: tl.constexpr, S: tl.constexpr,
    Z: tl.constexpr, P: tl.constexpr, Q: tl.constexpr,
    STRIDE_D: tl.constexpr, STRIDE_H: tl.constexpr, STRIDE_W: tl.constexpr,
    PAD_D: tl.constexpr, PAD_H: tl.constexpr, PAD_W: tl.constexpr,
    DILATION_D: tl.constexpr, DILATION_H: tl.constexpr, DILATION_W: tl.constexpr,
    WINDOWS_D: tl.constexpr, WINDOWS_H: tl.constexpr, WINDOWS_W: tl.constexpr,
    BLOCK_W: tl.constexpr, BLOCK_C: tl.constexpr,
):
    row, w, c = tile(BLOCK_W, BLOCK_C)
    n, d, h = row // (H * D), row // H % D, row % H
    dx = tl.zeros((BLOCK_W, BLOCK_C), tl.float32)
    for i in tl.static_range(WINDOWS_D):
        z, t, in_d = window_of(d, i, STRIDE_D, PAD_D, DILATION_D, T, Z)
        for j in tl.static_range(WINDOWS_H):
            p, r, in_h = window_of(h, j, STRIDE_H, PAD_H, DILATION_H, R, P)
            for k in tl.static_range(WINDOWS_W):
                q, s, in_w = window_of(w, k, STRIDE_W, PAD_W, DILATION_W, S, Q)
                held = (in_d & in_h & in_w)[:, None] & (c < C)[None, :]
                dy_at = (((n * Z + z) * P + p) * Q + q)[:, None] * C + c[None, :]
                won = tl.load(tap_ptr + dy_at, mask=held, other=0).to(tl.int32)
                dy = tl.load(dy_ptr + dy_at, mask=held, other=0.0).to(tl.float32)
                dx += tl.where(won == ((t * R + r) * S + s)[:, None], dy, 0.0)
    dx_at, stored = at(row, w, c, W, C)
    tl.store(dx_ptr + dx_at, dx.to(dx_ptr.dtype.element_ty), mask=stored)
# fmt: on
