"""How results are cut into tiles, one for each program, and which windows hold a pixel."""

from __future__ import annotations

import math
from collections.abc import Sequence

import triton
import triton.language as tl

ELEMENTS = 1024  # 8 for each of 128 threads: 16 bytes of bfloat16 are one load


def rows(shape: Sequence[int], elements: int = ELEMENTS) -> tuple[tuple[int, ...], dict[str, int]]:
    """The grid, and BLOCK_W and BLOCK_C, of an array (N, *spatial, C) cut along W and C.

    Programs are numbered by the row (all axes before W), and by the blocks of W and of C.
    """
    *outer, w, c = shape
    block_c = channels(c)
    block_w = power_of_two(w, least=1, most=max(elements // block_c, 1))
    grid = (math.prod(outer), blocks(w, block_w), blocks(c, block_c))
    return grid, {"BLOCK_W": block_w, "BLOCK_C": block_c}


def channels(c: int, most: int = 128) -> int:
    """How many channels a program takes: many, but few that there are not."""
    sizes = (size for size in (128, 64, 32) if size <= most)
    return next((size for size in sizes if 8 * blocks(c, size) * size <= 9 * c), 16)


def blocks(extent: int, size: int) -> int:
    """How many blocks of `size` cover `extent`."""
    return -(-extent // size)


def power_of_two(extent: int, *, least: int, most: int) -> int:
    """The smallest power of two that holds `extent`, between two others."""
    return min(max(1 << max(extent - 1, 0).bit_length(), least), most)


@triton.jit
def tile(BLOCK_W: tl.constexpr, BLOCK_C: tl.constexpr):
    """The row of this program, its pixels in it and its channels."""
    w = tl.program_id(1) * BLOCK_W + tl.arange(0, BLOCK_W)
    c = tl.program_id(2) * BLOCK_C + tl.arange(0, BLOCK_C)
    return tl.program_id(0), w, c


@triton.jit
def at(row, w, c, W: tl.constexpr, C: tl.constexpr):
    """Where a tile lies in an array of rows (W, C), and what of it is in the array."""
    return (row * W + w)[:, None] * C + c[None, :], (w < W)[:, None] & (c < C)[None, :]


@triton.jit
def pixel_of(
    output, tap, STRIDE: tl.constexpr, PAD: tl.constexpr, DILATION: tl.constexpr, N: tl.constexpr
):
    """The pixel that a window reads by a tap, along one axis of N, and whether there is one."""
    # The zeros make a vector of a number: the interpreter knows no mask of a number and a vector.
    pixel = output * STRIDE - PAD + tap * DILATION + tl.zeros((1,), tl.int32)
    return pixel, (pixel >= 0) & (pixel < N)


@triton.jit
def window_of(
    pixel, number, STRIDE: tl.constexpr, PAD: tl.constexpr, DILATION: tl.constexpr,
    TAPS: tl.constexpr, OUTPUTS: tl.constexpr,
):  # fmt: skip
    """The last window but `number` that may hold a pixel, along one axis: the window, the tap by
    which it reads the pixel, and whether it does.
    """
    from_first = pixel + PAD + tl.zeros((1,), tl.int32)
    window = from_first // STRIDE - number
    offset = from_first - window * STRIDE
    tap = offset // DILATION
    held = (from_first >= 0) & (window >= 0) & (window < OUTPUTS)
    return window, tap, held & (offset % DILATION == 0) & (tap < TAPS)


@triton.jit
def read_tap(
    x_ptr, n, z, p, q, c, there, t, r, s,
    D: tl.constexpr, H: tl.constexpr, W: tl.constexpr, C: tl.constexpr,
    STRIDE_D: tl.constexpr, STRIDE_H: tl.constexpr, STRIDE_W: tl.constexpr,
    PAD_D: tl.constexpr, PAD_H: tl.constexpr, PAD_W: tl.constexpr,
    DILATION_D: tl.constexpr, DILATION_H: tl.constexpr, DILATION_W: tl.constexpr,
):  # fmt: skip
    """What windows (q) in a row (n, z, p), or each with its own, read of channels (c) by one tap: 0
    outside of the image, and where windows and channels are not `there`; and what lies inside.
    """
    d, in_d = pixel_of(z, t, STRIDE_D, PAD_D, DILATION_D, D)
    h, in_h = pixel_of(p, r, STRIDE_H, PAD_H, DILATION_H, H)
    w, in_w = pixel_of(q, s, STRIDE_W, PAD_W, DILATION_W, W)
    held = (in_d & in_h & in_w)[:, None] & there
    x_at = (((n * D + d) * H + h) * W + w)[:, None] * C + c[None, :]
    return tl.load(x_ptr + x_at, mask=held, other=0.0), held
