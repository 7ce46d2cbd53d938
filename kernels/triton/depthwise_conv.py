"""Depthwise convolution and its two gradients, one channel into and one out of each group.

    y[n, p, q, c]  = sum over r, s of   x[n, p STRIDE + r DILATION - PAD, ..., c] w[r, s, c]
    dx[n, h, w, c] = sum over the windows that hold the pixel of dy[n, p, q, c] w[r, s, c]
    dw[r, s, c]    = sum over n, p, q of x[n, p STRIDE + r DILATION - PAD, ..., c] dy[n, p, q, c]

Shapes (one to three spatial axes; written for two): x and dx N H W C, w and dw R S 1 C, y and dy
N P Q C. A program owns BLOCK_W pixels of a row of y or dx, and BLOCK_C channels; of dw one row of
taps and BLOCK_C channels, summed over some of the rows of dy. The sums of these parts are added in
one order, so that dw is the same in every run.

Memory bounds all three up to windows of 7x7 or so: x and dy are read once from memory, and once for
each tap from the cache. Sums are float32.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import triton
import triton.language as tl
from jax import lax

from .. import shapes  # noqa: TID252, the package is imported as jconv_kernels
from .geometry import constants, holding, unsupported_window
from .launch import launch
from .tiles import at, blocks, channels, pixel_of, power_of_two, read_tap, rows, tile, window_of

MOST_TAPS = 1024
UNROLLED = 25  # taps that are code of their own; of 49, registers are spilled
PROGRAMS = 1024  # that a filter gradient is spread over: some for each of 132 multiprocessors


def forward(
    x: jax.Array, w: jax.Array, *, window: Any, dtype: Any, precision: Any, across: Any
) -> jax.Array:
    """y (N, *output, C) from x (N, *input, C) and w (*window, 1, C)."""
    y = shapes.windows(x, window, dtype)
    grid, cut = rows(y.shape)
    return launch(_forward, grid, [x, w], [y], **_static(window), **cut, C=x.shape[-1])[0]


def input_grad(
    dy: jax.Array, w: jax.Array, *, window: Any, dtype: Any, precision: Any, across: Any
) -> jax.Array:
    """dx (N, *input, C) from dy (N, *output, C) and w (*window, 1, C)."""
    dx = shapes.pixels(dy, window, dtype)
    grid, cut = rows(dx.shape)
    static = _static(window) | holding(window) | cut
    return launch(_input_grad, grid, [dy, w], [dx], **static, C=dy.shape[-1])[0]


def filter_grad(
    x: jax.Array, dy: jax.Array, *, window: Any, dtype: Any, precision: Any, across: Any
) -> jax.Array:
    """dw (*window, 1, C) from x (N, *input, C) and dy (N, *output, C)."""
    c, (t, r, s) = x.shape[-1], (constants(window)[name] for name in "TRS")
    lines = math.prod(dy.shape[:-2])
    block_c = channels(c, most=64)
    taps = power_of_two(s, least=1, most=s * 2)
    parts = min(blocks(PROGRAMS, t * r * blocks(c, block_c)), lines)
    together = blocks(lines, parts)
    sums = jax.ShapeDtypeStruct((blocks(lines, together), t * r, s, c), jnp.float32)
    (partial,) = launch(
        _filter_grad, (sums.shape[0], t * r, blocks(c, block_c)), [x, dy], [sums],
        **_static(window), C=c, LINES=lines, TOGETHER=together, TAPS=taps,
        BLOCK_W=power_of_two(dy.shape[-2], least=1, most=max(2048 // block_c, 1)),
        BLOCK_C=block_c,
    )  # fmt: skip
    dw = jnp.sum(partial, 0).reshape(*window.size, 1, c)
    return (lax.psum(dw, across) if across else dw).astype(dtype)


def refused(window: Any, first: Any, precision: Any) -> str | None:
    """Why no kernel here takes this call, in words, or None."""
    return unsupported_window(window, MOST_TAPS)


def _static(window):
    return constants(window) | {"UNROLL": math.prod(window.size) <= UNROLLED}


# fmt: off
@triton.jit
def _tap_product(
    x_ptr, w_ptr, n, z, p, q, c, t, r, s,
    D: tl.constexpr, H: tl.constexpr, W: tl.constexpr, C: tl.constexpr,
    R: tl.constexpr, S: tl.constexpr,
    STRIDE_D: tl.constexpr, STRIDE_H: tl.constexpr, STRIDE_W: tl.constexpr,
    PAD_D: tl.constexpr, PAD_H: tl.constexpr, PAD_W: tl.constexpr,
    DILATION_D: tl.constexpr, DILATION_H: tl.constexpr, DILATION_W: tl.constexpr,
):
    """What a tile of windows reads by one tap, times the tap."""
    x, _ = read_tap(
        x_ptr, n, z, p, q, c, (c < C)[None, :], t, r, s, D, H, W, C,
        STRIDE_D, STRIDE_H, STRIDE_W, PAD_D, PAD_H, PAD_W, DILATION_D, DILATION_H, DILATION_W,
    )
    tap = tl.load(w_ptr + ((t * R + r) * S + s) * C + c, mask=c < C, other=0.0).to(tl.float32)
    return x.to(tl.float32) * tap[None, :]


@triton.jit
def _forward(
    x_ptr, w_ptr, y_ptr,
    D: tl.constexpr, H: tl.constexpr, W: tl.constexpr, C: tl.constexpr,
    T: tl.constexpr, R: tl.constexpr, S: tl.constexpr,
    Z: tl.constexpr, P: tl.constexpr, Q: tl.constexpr,
    STRIDE_D: tl.constexpr, STRIDE_H: tl.constexpr, STRIDE_W: tl.constexpr,
    PAD_D: tl.constexpr, PAD_H: tl.constexpr, PAD_W: tl.constexpr,
    DILATION_D: tl.constexpr, DILATION_H: tl.constexpr, DILATION_W: tl.constexpr,
    UNROLL: tl.constexpr, BLOCK_W: tl.constexpr, BLOCK_C: tl.constexpr,
):
    row, q, c = tile(BLOCK_W, BLOCK_C)
    n, z, p = row // (P * Z), row // P % Z, row % P
    y = tl.zeros((BLOCK_W, BLOCK_C), tl.float32)
    if UNROLL:
        for t in tl.static_range(T):
            for r in tl.static_range(R):
                for s in tl.static_range(S):
                    y += _tap_product(
                        x_ptr, w_ptr, n, z, p, q, c, t, r, s, D, H, W, C, R, S,
                        STRIDE_D, STRIDE_H, STRIDE_W, PAD_D, PAD_H, PAD_W,
                        DILATION_D, DILATION_H, DILATION_W,
                    )
    else:
        for tap in range(T * R * S):
            y += _tap_product(
                x_ptr, w_ptr, n, z, p, q, c, tap // (R * S), tap // S % R, tap % S,
                D, H, W, C, R, S, STRIDE_D, STRIDE_H, STRIDE_W, PAD_D, PAD_H, PAD_W,
                DILATION_D, DILATION_H, DILATION_W,
            )
    y_at, stored = at(row, q, c, Q, C)
    tl.store(y_ptr + y_at, y.to(y_ptr.dtype.element_ty), mask=stored)


@triton.jit
def _input_grad(
    dy_ptr, w_ptr, dx_ptr,
    D: tl.constexpr, H: tl.constexpr, W: tl.constexpr, C: tl.constexpr,
    T: tl.constexpr, R: tl.constexpr, S: tl.constexpr,
    Z: tl.constexpr, P: tl.constexpr, Q: tl.constexpr,
    STRIDE_D: tl.constexpr, STRIDE_H: tl.constexpr, STRIDE_W: tl.constexpr,
    PAD_D: tl.constexpr, PAD_H: tl.constexpr, PAD_W: tl.constexpr,
    DILATION_D: tl.constexpr, DILATION_H: tl.constexpr, DILATION_W: tl.constexpr,
    WINDOWS_D: tl.constexpr, WINDOWS_H: tl.constexpr, WINDOWS_W: tl.constexpr,
    UNROLL: tl.constexpr, BLOCK_W: tl.constexpr, BLOCK_C: tl.constexpr,
):
    row, w, c = tile(BLOCK_W, BLOCK_C)
    n, d, h = row // (H * D), row // H % D, row % H
    dx = tl.zeros((BLOCK_W, BLOCK_C), tl.float32)
    for i in range(WINDOWS_D):
        z, t, in_d = window_of(d, i, STRIDE_D, PAD_D, DILATION_D, T, Z)
        for j in range(WINDOWS_H):
            p, r, in_h = window_of(h, j, STRIDE_H, PAD_H, DILATION_H, R, P)
            for k in range(WINDOWS_W):
                q, s, in_w = window_of(w, k, STRIDE_W, PAD_W, DILATION_W, S, Q)
                held = (in_d & in_h & in_w)[:, None] & (c < C)[None, :]
                dy_at = (((n * Z + z) * P + p) * Q + q)[:, None] * C + c[None, :]
                dy = tl.load(dy_ptr + dy_at, mask=held, other=0.0).to(tl.float32)
                w_at = ((t * R + r) * S + s)[:, None] * C + c[None, :]
                dx += dy * tl.load(w_ptr + w_at, mask=held, other=0.0).to(tl.float32)
    dx_at, stored = at(row, w, c, W, C)
    tl.store(dx_ptr + dx_at, dx.to(dx_ptr.dtype.element_ty), mask=stored)


@triton.jit
def _filter_grad(
    x_ptr, dy_ptr, sums_ptr,
    D: tl.constexpr, H: tl.constexpr, W: tl.constexpr, C: tl.constexpr,
    T: tl.constexpr, R: tl.constexpr, S: tl.constexpr,
    Z: tl.constexpr, P: tl.constexpr, Q: tl.constexpr,
    STRIDE_D: tl.constexpr, STRIDE_H: tl.constexpr, STRIDE_W: tl.constexpr,
    PAD_D: tl.constexpr, PAD_H: tl.constexpr, PAD_W: tl.constexpr,
    DILATION_D: tl.constexpr, DILATION_H: tl.constexpr, DILATION_W: tl.constexpr,
    LINES: tl.constexpr, TOGETHER: tl.constexpr, TAPS: tl.constexpr,
    UNROLL: tl.constexpr, BLOCK_W: tl.constexpr, BLOCK_C: tl.constexpr,
):
    """The sums of a row of taps over TOGETHER of the LINES (n, z, p) of dy."""
    part, tap_row = tl.program_id(0), tl.program_id(1)
    c = tl.program_id(2) * BLOCK_C + tl.arange(0, BLOCK_C)
    t, r = tap_row // R, tap_row % R
    taps = tl.arange(0, TAPS)
    dw = tl.zeros((TAPS, BLOCK_C), tl.float32)
    for number in range(TOGETHER):
        line = part * TOGETHER + number
        n, z, p = line // (P * Z), line // P % Z, line % P
        d, in_d = pixel_of(z, t, STRIDE_D, PAD_D, DILATION_D, D)
        h, in_h = pixel_of(p, r, STRIDE_H, PAD_H, DILATION_H, H)
        for first in range(0, Q, BLOCK_W):
            q = first + tl.arange(0, BLOCK_W)
            inside = in_d & in_h & (q < Q) & (line + tl.zeros((1,), tl.int32) < LINES)
            dy_at = (line * Q + q)[:, None] * C + c[None, :]
            held = inside[:, None] & (c < C)[None, :]
            dy = tl.load(dy_ptr + dy_at, mask=held, other=0.0).to(tl.float32)
            for s in tl.static_range(S):
                w, in_w = pixel_of(q, s, STRIDE_W, PAD_W, DILATION_W, W)
                x_at = (((n * D + d) * H + h) * W + w)[:, None] * C + c[None, :]
                x = tl.load(x_ptr + x_at, mask=held & in_w[:, None], other=0.0).to(tl.float32)
                dw += tl.where((taps == s)[:, None], tl.sum(x * dy, 0)[None, :], 0.0)
    at_sums = (((part * T + t) * R + r) * S + taps)[:, None] * C + c[None, :]
    tl.store(sums_ptr + at_sums, dw, mask=(taps < S)[:, None] & (c < C)[None, :])
# fmt: on
