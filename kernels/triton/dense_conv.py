"""Convolution and its two gradients as products of matrices that are never written: implicit GEMM.

    y[m, k]  = sum over taps and c of  x[pixel(m, tap), c] w[tap, c, k]           m = (n, p, q)
    dx[m, c] = sum over taps and k of  dy[window(m, tap), k] w[tap, c, k]         m = (n, h, w)
    dw[tap, c, k] = sum over m of      x[pixel(m, tap), c] dy[m, k]               m = (n, p, q)

Shapes (one to three spatial axes; written for two): x and dx N H W C, w and dw R S C/G K, y and dy
N P Q K; within a kernel C and K are those of one group. A program owns BLOCK_M rows of a result and
BLOCK_N of its columns, in float32, and goes through the taps and BLOCK_K of what is summed over at
a time. The rows of dx are those pixels that the stride gives the same taps, one phase after the
other, so that no product is with zeros alone where taps are 1 or more to a phase. dw is summed by
parts of m, which are added in one order: in every run the same.

Tensor cores bound them from some 64 channels on, memory below. Programs of one row of tiles follow
one another and share what they read in the cache. Few channels, such as an image's 3, fill 16
columns of a product all the same: the rest of it is lost.
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
from .geometry import constants, three, unsupported_window
from .launch import interpreting, launch
from .tiles import blocks, power_of_two, read_tap

MOST_TAPS = 4096
SIDE = 128  # of a tile at most: each number that is read is used so often
DEPTH_BYTES = 128  # of a row of an operand: one line of the cache, and of shared memory's swizzle
PROGRAMS = 264  # that a filter gradient is spread over: two for each of 132 multiprocessors
PRECISIONS = {
    lax.Precision.DEFAULT: "tf32", lax.Precision.HIGH: "tf32x3", lax.Precision.HIGHEST: "ieee",
}  # fmt: skip


def forward(
    x: jax.Array, w: jax.Array, *, window: Any, dtype: Any, precision: Any, across: Any
) -> jax.Array:
    """y (N, *output, K) from x (N, *input, C) and w (*window, C/G, K)."""
    c, features = w.shape[-2:]
    y = shapes.output(x, w, window, jnp.float32 if across else dtype)
    k, m = features // window.groups, math.prod(y.shape[:-1])
    cut = _cut(m, k, c, x.dtype)
    (y,) = launch(
        _forward, (blocks(m, cut["BLOCK_M"]) * blocks(k, cut["BLOCK_N"]), window.groups), [x, w],
        [y], **constants(window), **_static(window, precision), **cut, M=m, C=c, K=k,
    )  # fmt: skip
    return lax.psum(y, across).astype(dtype) if across else y


def input_grad(
    dy: jax.Array, w: jax.Array, *, window: Any, dtype: Any, precision: Any, across: Any
) -> jax.Array:
    """dx (N, *input, C) from dy (N, *output, K) and w (*window, C/G, K)."""
    c, features = w.shape[-2:]
    dx = shapes.input_grad(dy, w, window, jnp.float32 if across else dtype)
    k, phases = features // window.groups, _phases(window)
    m = dx.shape[0] * math.prod(map(blocks, window.input, window.stride))
    cut = _cut(m, c, k, dy.dtype)
    grid = blocks(m, cut["BLOCK_M"]) * blocks(c, cut["BLOCK_N"]), math.prod(window.stride)
    (dx,) = launch(
        _input_grad, (*grid, window.groups), [dy, w], [dx], **constants(window), **phases,
        **_static(window, precision), **cut, M=m, C=c, K=k,
    )  # fmt: skip
    return lax.psum(dx, across).astype(dtype) if across else dx


def filter_grad(
    x: jax.Array, dy: jax.Array, *, window: Any, dtype: Any, precision: Any, across: Any
) -> jax.Array:
    """dw (*window, C/G, K) from x (N, *input, C) and dy (N, *output, K)."""
    dw = shapes.filter_grad(x, dy, window, dtype)
    (*_, c, features), m = dw.shape, math.prod(dy.shape[:-1])
    k, taps = features // window.groups, math.prod(window.size)
    cut = _cut(c, k, m, x.dtype)
    tiles = taps * blocks(c, cut["BLOCK_M"]) * blocks(k, cut["BLOCK_N"])
    together = blocks(blocks(m, cut["BLOCK_K"]), blocks(PROGRAMS, tiles * window.groups))
    parts = blocks(m, cut["BLOCK_K"] * together)
    sums = jax.ShapeDtypeStruct((parts, taps * c, features), jnp.float32)
    (sums,) = launch(
        _filter_grad, (parts * tiles, window.groups), [x, dy], [sums], **constants(window),
        **_static(window, precision), **cut, M=m, C=c, K=k, TOGETHER=together,
    )  # fmt: skip
    total = jnp.sum(sums, 0).reshape(dw.shape)
    return (lax.psum(total, across) if across else total).astype(dw.dtype)


def refused(window: Any, first: Any, precision: Any) -> str | None:
    """Why no kernel here takes this call, in words, or None."""
    if reason := unsupported_window(window, MOST_TAPS):
        return reason
    if max(window.groups, math.prod(window.stride)) >= 2**16:
        return f"only fewer than 65536 groups and phases, got {window.groups}, {window.stride}"
    if first.dtype == jnp.float32 and _precision(precision) is None:
        return f"only precisions of jax.lax.Precision, got {precision!r}"
    return None


def _precision(asked) -> str | None:
    """The name that Triton has for it; of two the higher one."""
    asked = asked if isinstance(asked, tuple) else (asked,)
    default = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]
    try:
        found = [lax.Precision(default if p is None else p) for p in asked]
    except ValueError:
        return None
    return PRECISIONS[max(found, key=list(PRECISIONS).index)]


def _static(window, precision):
    return {"G": window.groups, "PRECISION": _precision(precision) or "tf32",
            "UPCAST": interpreting()}  # fmt: skip


def _cut(m, n, depth, dtype):
    """The tile of a product (m, depth) (depth, n): a side is at least 16 for the tensor cores."""
    block_m = power_of_two(m, least=16, most=SIDE)
    block_n = power_of_two(n, least=16, most=SIDE)
    block_k = power_of_two(depth, least=16, most=DEPTH_BYTES // jnp.dtype(dtype).itemsize)
    # 2048 numbers to a warp, but four where a warp group can multiply, on Hopper: from 64 rows on.
    warps = max(block_m * block_n // 2048, 4 if block_m >= 64 else 1)
    return {"BLOCK_M": block_m, "BLOCK_N": block_n, "BLOCK_K": block_k, "stages": 3,
            "warps": warps}  # fmt: skip


def _phases(window):
    """From one tap that reads a pixel to the next, and how many there are at most."""
    periods = [s // math.gcd(s, d) for s, d in zip(window.stride, window.dilation, strict=True)]
    most = [blocks(taps, period) for taps, period in zip(window.size, periods, strict=True)]
    named = {}
    for name, values in (("PERIOD", periods), ("MOST", most)):
        named |= {f"{name}_{a}": v for a, v in zip("DHW", three(values, 1), strict=True)}
    return named


# fmt: off
@triton.jit
def _split(m, A: tl.constexpr, B: tl.constexpr, C: tl.constexpr):
    """The numbers of an index along axes (N, A, B, C)."""
    return m // (A * B * C), m // (B * C) % A, m // C % B, m % C


@triton.jit
def _multiply(a, b, acc, PRECISION: tl.constexpr, UPCAST: tl.constexpr):
    """acc + a b, summed in float32."""
    if UPCAST:  # the interpreter multiplies bfloat16 as the integers that it is stored in
        a, b = a.to(tl.float32), b.to(tl.float32)
    return tl.dot(a, b, acc, input_precision=PRECISION)


@triton.jit
def _forward(
    x_ptr, w_ptr, y_ptr,
    D: tl.constexpr, H: tl.constexpr, W: tl.constexpr, C: tl.constexpr, K: tl.constexpr,
    T: tl.constexpr, R: tl.constexpr, S: tl.constexpr,
    Z: tl.constexpr, P: tl.constexpr, Q: tl.constexpr,
    STRIDE_D: tl.constexpr, STRIDE_H: tl.constexpr, STRIDE_W: tl.constexpr,
    PAD_D: tl.constexpr, PAD_H: tl.constexpr, PAD_W: tl.constexpr,
    DILATION_D: tl.constexpr, DILATION_H: tl.constexpr, DILATION_W: tl.constexpr,
    G: tl.constexpr, M: tl.constexpr, PRECISION: tl.constexpr, UPCAST: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):
    COLUMNS: tl.constexpr = (K + BLOCK_N - 1) // BLOCK_N
    STEPS: tl.constexpr = (C + BLOCK_K - 1) // BLOCK_K
    program, g = tl.program_id(0), tl.program_id(1)
    m = program // COLUMNS * BLOCK_M + tl.arange(0, BLOCK_M)
    k = program % COLUMNS * BLOCK_N + tl.arange(0, BLOCK_N)
    n, z, p, q = _split(m, Z, P, Q)
    y = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for step in range(T * R * S * STEPS):
        tap, c = step // STEPS, step % STEPS * BLOCK_K + tl.arange(0, BLOCK_K)
        x, _ = read_tap(
            x_ptr, n, z, p, q, g * C + c, (m < M)[:, None] & (c < C)[None, :],
            tap // (R * S), tap // S % R, tap % S, D, H, W, G * C, STRIDE_D, STRIDE_H, STRIDE_W,
            PAD_D, PAD_H, PAD_W, DILATION_D, DILATION_H, DILATION_W,
        )
        w_at = (tap * C + c)[:, None] * (G * K) + (g * K + k)[None, :]
        w = tl.load(w_ptr + w_at, mask=(c < C)[:, None] & (k < K)[None, :], other=0.0)
        y = _multiply(x, w, y, PRECISION, UPCAST)
    y_at = m[:, None] * (G * K) + (g * K + k)[None, :]
    stored = (m < M)[:, None] & (k < K)[None, :]
    tl.store(y_ptr + y_at, y.to(y_ptr.dtype.element_ty), mask=stored)


@triton.jit
def _first_tap(
    phase, STRIDE: tl.constexpr, PAD: tl.constexpr, DILATION: tl.constexpr,
    PERIOD: tl.constexpr, TAPS: tl.constexpr,
):
    """The first tap by which windows read the pixels of a phase; TAPS where none does."""
    tap = phase * 0 + TAPS
    for t in tl.static_range(PERIOD):
        tap = tl.where((phase + PAD - t * DILATION) % STRIDE == 0, t, tap)
    return tap


@triton.jit
def _window_of_tap(
    pixel, tap, STRIDE: tl.constexpr, PAD: tl.constexpr, DILATION: tl.constexpr,
    TAPS: tl.constexpr, OUTPUTS: tl.constexpr,
):
    """The window that reads a pixel by a tap of its phase, and whether there is one."""
    from_first = pixel + PAD - tap * DILATION
    window, tap = from_first // STRIDE, tap + tl.zeros((1,), tl.int32)
    return window, (from_first >= 0) & (window < OUTPUTS) & (tap < TAPS)


@triton.jit
def _input_grad(
    dy_ptr, w_ptr, dx_ptr,
    D: tl.constexpr, H: tl.constexpr, W: tl.constexpr, C: tl.constexpr, K: tl.constexpr,
    T: tl.constexpr, R: tl.constexpr, S: tl.constexpr,
    Z: tl.constexpr, P: tl.constexpr, Q: tl.constexpr,
    STRIDE_D: tl.constexpr, STRIDE_H: tl.constexpr, STRIDE_W: tl.constexpr,
    PAD_D: tl.constexpr, PAD_H: tl.constexpr, PAD_W: tl.constexpr,
    DILATION_D: tl.constexpr, DILATION_H: tl.constexpr, DILATION_W: tl.constexpr,
    PERIOD_D: tl.constexpr, PERIOD_H: tl.constexpr, PERIOD_W: tl.constexpr,
    MOST_D: tl.constexpr, MOST_H: tl.constexpr, MOST_W: tl.constexpr,
    G: tl.constexpr, M: tl.constexpr, PRECISION: tl.constexpr, UPCAST: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):
    COLUMNS: tl.constexpr = (C + BLOCK_N - 1) // BLOCK_N
    STEPS: tl.constexpr = (K + BLOCK_K - 1) // BLOCK_K
    program, phase, g = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    _, phase_d, phase_h, phase_w = _split(phase, STRIDE_D, STRIDE_H, STRIDE_W)
    first_t = _first_tap(phase_d, STRIDE_D, PAD_D, DILATION_D, PERIOD_D, T)
    first_r = _first_tap(phase_h, STRIDE_H, PAD_H, DILATION_H, PERIOD_H, R)
    first_s = _first_tap(phase_w, STRIDE_W, PAD_W, DILATION_W, PERIOD_W, S)
    m = program // COLUMNS * BLOCK_M + tl.arange(0, BLOCK_M)
    c = program % COLUMNS * BLOCK_N + tl.arange(0, BLOCK_N)
    n, d, h, w = _split(
        m, (D + STRIDE_D - 1) // STRIDE_D, (H + STRIDE_H - 1) // STRIDE_H,
        (W + STRIDE_W - 1) // STRIDE_W,
    )
    d, h, w = d * STRIDE_D + phase_d, h * STRIDE_H + phase_h, w * STRIDE_W + phase_w
    there = (m < M) & (d < D) & (h < H) & (w < W)
    dx = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for step in range(MOST_D * MOST_H * MOST_W * STEPS):
        number, k = step // STEPS, step % STEPS * BLOCK_K + tl.arange(0, BLOCK_K)
        t = first_t + number // (MOST_H * MOST_W) * PERIOD_D
        r = first_r + number // MOST_W % MOST_H * PERIOD_H
        s = first_s + number % MOST_W * PERIOD_W
        z, in_d = _window_of_tap(d, t, STRIDE_D, PAD_D, DILATION_D, T, Z)
        p, in_h = _window_of_tap(h, r, STRIDE_H, PAD_H, DILATION_H, R, P)
        q, in_w = _window_of_tap(w, s, STRIDE_W, PAD_W, DILATION_W, S, Q)
        held = (there & in_d & in_h & in_w)[:, None] & (k < K)[None, :]
        dy_at = (((n * Z + z) * P + p) * Q + q)[:, None] * (G * K) + (g * K + k)[None, :]
        dy = tl.load(dy_ptr + dy_at, mask=held, other=0.0)
        one = tl.zeros((1,), tl.int32)  # of a number, for the interpreter's masks
        taken = (t + one < T) & (r + one < R) & (s + one < S)
        read = (k < K)[:, None] & (c < C)[None, :] & taken[:, None]
        w_at = (((t * R + r) * S + s) * C + c)[None, :] * (G * K) + (g * K + k)[:, None]
        filter = tl.load(w_ptr + w_at, mask=read, other=0.0)
        dx = _multiply(dy, filter, dx, PRECISION, UPCAST)
    dx_at = (((n * D + d) * H + h) * W + w)[:, None] * (G * C) + (g * C + c)[None, :]
    tl.store(dx_ptr + dx_at, dx.to(dx_ptr.dtype.element_ty), mask=there[:, None] & (c < C)[None, :])


@triton.jit
def _filter_grad(
    x_ptr, dy_ptr, sums_ptr,
    D: tl.constexpr, H: tl.constexpr, W: tl.constexpr, C: tl.constexpr, K: tl.constexpr,
    T: tl.constexpr, R: tl.constexpr, S: tl.constexpr,
    Z: tl.constexpr, P: tl.constexpr, Q: tl.constexpr,
    STRIDE_D: tl.constexpr, STRIDE_H: tl.constexpr, STRIDE_W: tl.constexpr,
    PAD_D: tl.constexpr, PAD_H: tl.constexpr, PAD_W: tl.constexpr,
    DILATION_D: tl.constexpr, DILATION_H: tl.constexpr, DILATION_W: tl.constexpr,
    G: tl.constexpr, M: tl.constexpr, PRECISION: tl.constexpr, UPCAST: tl.constexpr,
    TOGETHER: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):
    ROWS: tl.constexpr = (C + BLOCK_M - 1) // BLOCK_M
    COLUMNS: tl.constexpr = (K + BLOCK_N - 1) // BLOCK_N
    part, tap, row, column = _split(tl.program_id(0), T * R * S, ROWS, COLUMNS)
    g = tl.program_id(1)
    c, k = row * BLOCK_M + tl.arange(0, BLOCK_M), column * BLOCK_N + tl.arange(0, BLOCK_N)
    dw = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for number in range(TOGETHER):
        m = (part * TOGETHER + number) * BLOCK_K + tl.arange(0, BLOCK_K)
        n, z, p, q = _split(m, Z, P, Q)
        x, _ = read_tap(
            x_ptr, n, z, p, q, g * C + c, (m < M)[:, None] & (c < C)[None, :],
            tap // (R * S), tap // S % R, tap % S, D, H, W, G * C, STRIDE_D, STRIDE_H, STRIDE_W,
            PAD_D, PAD_H, PAD_W, DILATION_D, DILATION_H, DILATION_W,
        )
        dy_at = m[:, None] * (G * K) + (g * K + k)[None, :]
        dy = tl.load(dy_ptr + dy_at, mask=(m < M)[:, None] & (k < K)[None, :], other=0.0)
        dw = _multiply(tl.trans(x), dy, dw, PRECISION, UPCAST)
    dw_at = ((part * (T * R * S) + tap) * C + c)[:, None] * (G * K) + (g * K + k)[None, :]
    tl.store(sums_ptr + dw_at, dw, mask=(c < C)[:, None] & (k < K)[None, :])
# fmt: on
