"""Standardisation of pixels, an example's groups to a program, and its gradient: group and instance
norm, and layer norm over images.

Formulae and shapes as in `batch_norm.py`. A program owns GROUPS whole groups of one example, all of
their pixels: at least 64 bytes of bfloat16 lie together. They are BLOCKS tiles of BLOCK_M pixels
and BLOCK_C channels; one tile stays in registers and is read once, more are read twice, the second
time from the cache. A scale's gradient is summed over each example here, over examples behind, in
one order.

Memory bounds both: x is read and z written, x and dz are read and dx written. With fewer programs
than multiprocessors, `batch_norm.py` is faster.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import triton
import triton.language as tl

from .launch import launch
from .pixels import (
    Pixels,
    add_up,
    block_of,
    held_between,
    hold,
    map_back,
    map_forward,
    measure,
    read_back,
)
from .tiles import blocks, power_of_two

MOST_HELD = 16384  # numbers in registers: 32 for each of 512 threads
MOST_HELD_BACK = 8192  # of x, and of dz
ELEMENTS = 4096  # of a tile, where there are more
LEAST_CHANNELS = 32  # side by side: 64 bytes of bfloat16, two sectors of memory
MOST_CHANNELS = 2048  # of a program
PROGRAMS = 132  # as many as multiprocessors, or there are idle ones


def pays(cut: Pixels) -> bool:
    """Whether there are programs enough, and not too many channels in a group."""
    if power_of_two(cut.length, least=1, most=2 * MOST_CHANNELS) > MOST_CHANNELS:
        return False
    return cut.b * blocks(cut.groups, _together(cut)) >= PROGRAMS or (
        cut.b > 1 and cut.m * _block_c(cut) <= MOST_HELD_BACK
    )


def forward(
    x: jax.Array, scale: jax.Array, bias: jax.Array, *, cut: Pixels, epsilon: float, centre: bool,
    bounds: Any,
) -> tuple[jax.Array, jax.Array, jax.Array]:  # fmt: skip
    """(z, mean, variance): B M C, B G and B G."""
    x, row = cut.pixels(x), jax.ShapeDtypeStruct((cut.b, cut.groups), jnp.float32)
    z, mean, variance = launch(
        _forward, (cut.b, blocks(cut.groups, _together(cut))),
        [x, cut.scales(scale), cut.scales(bias)],
        [jax.ShapeDtypeStruct(x.shape, x.dtype), row, row],
        **_static(cut, MOST_HELD), **held_between(epsilon, centre, bounds),
    )  # fmt: skip
    return z, mean, variance


def backward(
    dz: jax.Array, dmean: jax.Array, dvariance: jax.Array, x: jax.Array, scale: jax.Array,
    bias: jax.Array, mean: jax.Array, variance: jax.Array, *, cut: Pixels, epsilon: float,
    centre: bool, bounds: Any,
) -> tuple[jax.Array, jax.Array, jax.Array]:  # fmt: skip
    """(dx, dscale, dbias): B M C, and the others as the scale is."""
    x, sums = cut.pixels(x), jax.ShapeDtypeStruct((cut.b, cut.c), jnp.float32)
    rows = (a.reshape(cut.b, cut.groups) for a in (dmean, dvariance, mean, variance))
    dx, dscale, dbias = launch(
        _backward, (cut.b, blocks(cut.groups, _together(cut))),
        [cut.pixels(dz), x, *rows, cut.scales(scale), cut.scales(bias)],
        [jax.ShapeDtypeStruct(x.shape, x.dtype), sums, sums],
        **_static(cut, MOST_HELD_BACK), **held_between(epsilon, centre, bounds),
    )  # fmt: skip
    return dx, cut.as_scale(dscale, scale), cut.as_scale(dbias, scale)


def _together(cut):
    """Groups of a program: enough channels side by side, beginning at whole 16 bytes."""
    some = range(blocks(LEAST_CHANNELS, cut.length), LEAST_CHANNELS + 1)
    return min(next((n for n in some if n * cut.length % 8 == 0), some[0]), cut.groups)


def _block_c(cut):
    return power_of_two(_together(cut) * cut.length, least=16, most=MOST_CHANNELS)


def _static(cut, most_held):
    block_c = _block_c(cut)
    whole = power_of_two(cut.m, least=1, most=2 * most_held)
    tile = whole * block_c if whole * block_c <= most_held else ELEMENTS
    block_m = max(min(tile // block_c, whole), 1)
    return cut.constants() | {
        "GROUPS": _together(cut), "BLOCKS": blocks(cut.m, block_m), "BLOCK_M": block_m,
        "BLOCK_C": block_c, "BLOCK_G": power_of_two(_together(cut), least=1, most=block_c),
        "warps": min(max(block_m * block_c // 512, 1), 16),
    }  # fmt: skip


# fmt: off
@triton.jit
def _own(C: tl.constexpr, L: tl.constexpr, PER_EXAMPLE: tl.constexpr, GROUPS: tl.constexpr,
         BLOCK_C: tl.constexpr):
    """The program's example, its channels and which are there, the first one of each channel's
    group, the group's number, and where scales are.
    """
    b, i = tl.program_id(0), tl.arange(0, BLOCK_C)
    before = tl.program_id(1) * (GROUPS * L)
    c, first = before + i, before + i // L * L
    of_scale = c
    if PER_EXAMPLE:
        of_scale = b * C + c
    return b, c, (i < GROUPS * L) & (c < C), first, b * (C // L) + first // L, of_scale


@triton.jit
def _over_group(v, L: tl.constexpr, GROUPS: tl.constexpr, BLOCK_C: tl.constexpr,
                BLOCK_G: tl.constexpr):
    """The sum over its group for each channel."""
    if GROUPS == 1:
        v = tl.zeros((BLOCK_C,), tl.float32) + tl.sum(v, 0)
    elif L > 1:
        own = (tl.arange(0, BLOCK_C) // L)[:, None] == tl.arange(0, BLOCK_G)[None, :]
        sums = tl.sum(tl.where(own, v[:, None], 0.0), 0)
        v = tl.sum(tl.where(own, sums[None, :], 0.0), 1)
    return v


@triton.jit
def _forward(
    x_ptr, scale_ptr, bias_ptr, z_ptr, mean_ptr, variance_ptr,
    M: tl.constexpr, C: tl.constexpr, L: tl.constexpr, PER_EXAMPLE: tl.constexpr,
    EPSILON: tl.constexpr, CENTRE: tl.constexpr,
    HELD: tl.constexpr, LOW: tl.constexpr, HIGH: tl.constexpr,
    GROUPS: tl.constexpr, BLOCKS: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_G: tl.constexpr,
):
    b, c, mine, first, group, of_scale = _own(C, L, PER_EXAMPLE, GROUPS, BLOCK_C)
    scale = tl.load(scale_ptr + of_scale, mask=mine, other=0.0)
    bias = tl.load(bias_ptr + of_scale, mask=mine, other=0.0)
    near, rest = tl.zeros((BLOCK_C,), tl.float32), tl.zeros((BLOCK_C,), tl.float32)
    if CENTRE:
        near = tl.load(x_ptr + b * M * C + first, mask=mine, other=0.0).to(tl.float32)
    # The only tile, or read for nothing, which the compiler sees.
    at, _, inside = block_of(b, 0, c, mine, M, C, BLOCK_M)
    x = tl.load(x_ptr + at, mask=inside, other=0.0).to(tl.float32)
    off = tl.where(inside, x - near[None, :], 0.0)
    if BLOCKS == 1:
        if CENTRE:
            rest = _over_group(tl.sum(off, 0), L, GROUPS, BLOCK_C, BLOCK_G) / (M * L)
            off = tl.where(inside, off - rest[None, :], 0.0)
        squares = tl.sum(off * off, 0)
    else:
        own, squares = measure(
            x_ptr, b, 0, c, mine, near, M, C, CENTRE, BLOCKS, BLOCK_M, BLOCK_C,
        )
        rest = _over_group(own, L, GROUPS, BLOCK_C, BLOCK_G) / L
        squares += tl.where(mine, M * (own - rest) * (own - rest), 0.0)
    variance = _over_group(squares, L, GROUPS, BLOCK_C, BLOCK_G) / (M * L)
    factor = scale / tl.sqrt(variance + EPSILON)
    if BLOCKS == 1:
        z = off * factor[None, :] + bias[None, :]
        if HELD:
            z = hold(z, LOW, HIGH)
        tl.store(z_ptr + at, z.to(z_ptr.dtype.element_ty), mask=inside)
    else:
        map_forward(
            x_ptr, z_ptr, b, 0, c, mine, near, rest, factor, bias,
            M, C, HELD, LOW, HIGH, BLOCKS, BLOCK_M,
        )
    tl.store(mean_ptr + group, near + rest, mask=mine & (c == first))
    tl.store(variance_ptr + group, variance, mask=mine & (c == first))


@triton.jit
def _backward(
    dz_ptr, x_ptr, dmean_ptr, dvariance_ptr, mean_ptr, variance_ptr, scale_ptr, bias_ptr,
    dx_ptr, dscale_ptr, dbias_ptr,
    M: tl.constexpr, C: tl.constexpr, L: tl.constexpr, PER_EXAMPLE: tl.constexpr,
    EPSILON: tl.constexpr, CENTRE: tl.constexpr,
    HELD: tl.constexpr, LOW: tl.constexpr, HIGH: tl.constexpr,
    GROUPS: tl.constexpr, BLOCKS: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_G: tl.constexpr,
):
    b, c, mine, _first, group, of_scale = _own(C, L, PER_EXAMPLE, GROUPS, BLOCK_C)
    scale = tl.load(scale_ptr + of_scale, mask=mine, other=0.0)
    bias = tl.load(bias_ptr + of_scale, mask=mine, other=0.0)
    mean = tl.load(mean_ptr + group, mask=mine, other=0.0)
    rstd = 1 / tl.sqrt(tl.load(variance_ptr + group, mask=mine, other=1.0) + EPSILON)
    factor = rstd * scale
    # The only tile, or read for nothing, which the compiler sees.
    at, _, inside = block_of(b, 0, c, mine, M, C, BLOCK_M)
    t, centred = read_back(dz_ptr, x_ptr, at, inside, mean, factor, bias, HELD, LOW, HIGH)
    if BLOCKS == 1:
        of_t, of_product = tl.sum(t, 0), tl.sum(t * centred, 0)
    else:
        of_t, of_product = add_up(
            dz_ptr, x_ptr, b, 0, c, mine, mean, factor, bias,
            M, C, HELD, LOW, HIGH, BLOCKS, BLOCK_M, BLOCK_C,
        )
    total = _over_group(factor * of_product, L, GROUPS, BLOCK_C, BLOCK_G)
    slope = tl.load(dvariance_ptr + group, mask=mine, other=0.0) * (2.0 / (M * L))
    slope -= rstd * rstd * (total / (M * L))
    offset = tl.zeros((BLOCK_C,), tl.float32)
    if CENTRE:
        total = _over_group(factor * of_t, L, GROUPS, BLOCK_C, BLOCK_G)
        offset = (tl.load(dmean_ptr + group, mask=mine, other=0.0) - total) / (M * L)
    if BLOCKS == 1:
        dx = factor[None, :] * t + slope[None, :] * centred + offset[None, :]
        tl.store(dx_ptr + at, dx.to(dx_ptr.dtype.element_ty), mask=inside)
    else:
        map_back(
            dz_ptr, x_ptr, dx_ptr, b, 0, c, mine, mean, factor, bias, slope, offset,
            M, C, HELD, LOW, HIGH, BLOCKS, BLOCK_M,
        )
    tl.store(dscale_ptr + b * C + c, of_product * rstd, mask=mine)
    tl.store(dbias_ptr + b * C + c, of_t, mask=mine)
# fmt: on
