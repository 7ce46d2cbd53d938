"""A standardisation as examples of pixels: which axes are which, and the steps that kernels share.

Every norm but that of rows is one over B examples of M pixels of C channels, that lie together: G
groups of L channels. The M pixels and the L channels of a group are normalised together.

    batch norm       B = 1, M = N H W, L = 1        instance norm    B = N, M = H W, L = 1
    group norm       B = N, M = H W, L = C / G      layer norm over H W C, a scale of C    G = 1
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import triton
import triton.language as tl

from .tiles import blocks, channels, power_of_two

MOST_CHANNELS = 2**20  # blocks of them are one axis of a grid, which takes 2**16


@dataclasses.dataclass(frozen=True)
class Pixels:
    """A call as B examples of M pixels of C channels.

    Attributes:
      length: channels of a group, L.
      outer: how many axes of x are examples.
      shape: of x, with size 1 along the axes that are pixels.
      per_example: each example has scales of its own, as a vmap over scales makes.
    """

    b: int
    m: int
    c: int
    length: int
    outer: int
    shape: tuple[int, ...]
    per_example: bool

    @classmethod
    def of(cls, x: Any, scale: Any, axes: tuple[int, ...]) -> Pixels | str:
        """The reason in words, where the axes or the scales lie otherwise."""
        runs = [list(run) for _, run in itertools.groupby(range(x.ndim), lambda axis: axis in axes)]
        if 0 in axes:
            runs.insert(0, [])
        if len(runs) > 4:
            return f"only for axes in a row, or beside the last ones, got axes {axes}"
        examples, pixels, *channels = runs
        if not channels:  # normalised to the end: pixels share their scale, channels don't
            own = [axis for axis in pixels if scale.shape[axis] != 1]
            first = own[0] if own else pixels[-1]
            pixels, channels = pixels[: first - pixels[0]], [pixels[first - pixels[0] :]]
        if any(scale.shape[axis] != 1 for axis in pixels):
            return f"only for a scale that all pixels share, got scale {scale.shape}"
        b, m, *rest = (
            math.prod(x.shape[axis] for axis in run) for run in (examples, pixels, *channels)
        )
        if math.prod(rest) >= MOST_CHANNELS:
            return f"only for fewer than {MOST_CHANNELS} channels, got {math.prod(rest)}"
        return cls(
            b, m, math.prod(rest), rest[-1] if channels[-1][0] in axes else 1, len(examples),
            tuple(1 if axis in pixels else n for axis, n in enumerate(x.shape)),
            any(scale.shape[axis] != 1 for axis in examples),
        )  # fmt: skip

    @property
    def groups(self) -> int:
        """Of one example."""
        return self.c // self.length

    @property
    def count(self) -> int:
        """How many numbers are normalised together."""
        return self.m * self.length

    def constants(self) -> dict[str, Any]:
        """For a kernel."""
        return {"M": self.m, "C": self.c, "L": self.length, "PER_EXAMPLE": self.per_example}

    def pixels(self, x: jax.Array) -> jax.Array:
        """(B, M, C)."""
        return x.reshape(self.b, self.m, self.c)

    def scales(self, scale: jax.Array) -> jax.Array:
        """(B, C), or (1, C) where examples share them."""
        shape = self.shape if self.per_example else (1,) * self.outer + self.shape[self.outer :]
        return jnp.broadcast_to(scale, shape).reshape(-1, self.c)

    def as_scale(self, sums: jax.Array, scale: jax.Array) -> jax.Array:
        """What belongs to each scale, of (B, C)."""
        shared = tuple(axis for axis, n in enumerate(scale.shape) if n == 1)
        return jnp.sum(sums.reshape(self.shape), shared, keepdims=True)


def spread(cut: Pixels, elements: int, programs: int) -> tuple[tuple[int, int], dict[str, int]]:
    """The grid, and how each example's pixels are cut into PARTS of TOGETHER blocks.

    Args:
      elements: of a block.
      programs: the fewest, where there are pixels for as many.
    """
    block_c = channels(cut.c, most=64)
    block_m = power_of_two(cut.m, least=1, most=elements // block_c)
    columns = blocks(cut.c, block_c)
    parts = max(programs // (cut.b * columns), 1)
    together = blocks(blocks(cut.m, block_m), parts)
    parts = blocks(cut.m, block_m * together)
    static = {"PARTS": parts, "TOGETHER": together, "BLOCK_M": block_m, "BLOCK_C": block_c}
    return (cut.b * parts, columns), static


def held_between(epsilon: float, centre: bool, bounds: Any) -> dict[str, Any]:
    """Of every norm's kernels."""
    low, high = (-math.inf, math.inf) if bounds is None else bounds
    return {"EPSILON": float(epsilon), "CENTRE": bool(centre), "HELD": bounds is not None,
            "LOW": float(low), "HIGH": float(high)}  # fmt: skip


def kept(x: Any, axes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of x's statistics."""
    return tuple(1 if axis in axes else n for axis, n in enumerate(x.shape))


@triton.jit
def hold(z, LOW: tl.constexpr, HIGH: tl.constexpr):
    """z between two numbers; NaN stays."""
    return tl.where(z < LOW, LOW, tl.where(z > HIGH, HIGH, z))


@triton.jit
def passed(t, z, LOW: tl.constexpr, HIGH: tl.constexpr):
    """t where z is not held, else 0."""
    passes = z > LOW
    if float("inf") != HIGH:  # an infinite z passes a ReLU
        passes = passes & (z < HIGH)
    return tl.where(passes, t, 0.0)


# What a program does with TOGETHER blocks of BLOCK_M pixels of example b, beginning with block
# `first`, in its channels c, of which those are there that are `mine`. Vectors are of channels.


# fmt: off
@triton.jit
def own(C: tl.constexpr, L: tl.constexpr, PER_EXAMPLE: tl.constexpr,
        PARTS: tl.constexpr, BLOCK_C: tl.constexpr):
    """Of a program of `spread`: its example and part, its channels, their groups and where their
    scales are.
    """
    b, part = tl.program_id(0) // PARTS, tl.program_id(0) % PARTS
    c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    of_scale = c
    if PER_EXAMPLE:
        of_scale = b * C + c
    return b, part, c, b * (C // L) + c // L, of_scale


@triton.jit
def block_of(b, block, c, mine, M: tl.constexpr, C: tl.constexpr, BLOCK_M: tl.constexpr):
    """Where a block lies in an array (B, M, C), its pixels, and what of it is there."""
    m = block * BLOCK_M + tl.arange(0, BLOCK_M)
    return (b * M + m)[:, None] * C + c[None, :], m, (m < M)[:, None] & mine[None, :]


@triton.jit
def measure(
    x_ptr, b, first, c, mine, near,
    M: tl.constexpr, C: tl.constexpr, CENTRE: tl.constexpr,
    TOGETHER: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr,
):
    """The mean distance of the pixels from `near`, and the sum of squared distances from that
    mean: Welford's rule for each place in a block, Chan's over the places.
    """
    mean = tl.zeros((BLOCK_M, BLOCK_C), tl.float32)
    squares = tl.zeros((BLOCK_M, BLOCK_C), tl.float32)
    count = tl.zeros((BLOCK_M,), tl.float32)
    for number in range(TOGETHER):
        at, m, inside = block_of(b, first + number, c, mine, M, C, BLOCK_M)
        x = tl.load(x_ptr + at, mask=inside, other=0.0).to(tl.float32)
        off = tl.where(inside, x - near[None, :], mean)
        step = off - mean
        if CENTRE:
            mean += step * (1.0 / (number + 1))  # where there is a pixel, there were as many before
        squares += step * (off - mean)
        count += (m < M).to(tl.float32)
    total = tl.sum(mean * count[:, None], 0) / tl.sum(count, 0)
    off = mean - total[None, :]
    return total, tl.sum(squares + off * off * count[:, None], 0)


@triton.jit
def map_forward(
    x_ptr, z_ptr, b, first, c, mine, near, rest, factor, bias,
    M: tl.constexpr, C: tl.constexpr, HELD: tl.constexpr, LOW: tl.constexpr, HIGH: tl.constexpr,
    TOGETHER: tl.constexpr, BLOCK_M: tl.constexpr,
):
    """z = (x - near - rest) * factor + bias, held."""
    for number in range(TOGETHER):
        at, _, inside = block_of(b, first + number, c, mine, M, C, BLOCK_M)
        x = tl.load(x_ptr + at, mask=inside, other=0.0).to(tl.float32)
        z = ((x - near[None, :]) - rest[None, :]) * factor[None, :] + bias[None, :]
        if HELD:
            z = hold(z, LOW, HIGH)
        tl.store(z_ptr + at, z.to(z_ptr.dtype.element_ty), mask=inside)


@triton.jit
def read_back(
    dz_ptr, x_ptr, at, inside, mean, factor, bias,
    HELD: tl.constexpr, LOW: tl.constexpr, HIGH: tl.constexpr,
):
    """t, which is dz where z is not held, and the distances from the mean: 0 where nothing is."""
    t = tl.load(dz_ptr + at, mask=inside, other=0.0).to(tl.float32)
    x = tl.load(x_ptr + at, mask=inside, other=0.0).to(tl.float32)
    centred = tl.where(inside, x - mean[None, :], 0.0)
    if HELD:
        t = passed(t, centred * factor[None, :] + bias[None, :], LOW, HIGH)
    return t, centred


@triton.jit
def add_up(
    dz_ptr, x_ptr, b, first, c, mine, mean, factor, bias,
    M: tl.constexpr, C: tl.constexpr, HELD: tl.constexpr, LOW: tl.constexpr, HIGH: tl.constexpr,
    TOGETHER: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr,
):
    """The sums over pixels of t, and of t times the distance from the mean."""
    sums = tl.zeros((BLOCK_M, BLOCK_C), tl.float32)
    products = tl.zeros((BLOCK_M, BLOCK_C), tl.float32)
    for number in range(TOGETHER):
        at, _, inside = block_of(b, first + number, c, mine, M, C, BLOCK_M)
        t, centred = read_back(dz_ptr, x_ptr, at, inside, mean, factor, bias, HELD, LOW, HIGH)
        sums += t
        products += t * centred
    return tl.sum(sums, 0), tl.sum(products, 0)


@triton.jit
def map_back(
    dz_ptr, x_ptr, dx_ptr, b, first, c, mine, mean, factor, bias, slope, offset,
    M: tl.constexpr, C: tl.constexpr, HELD: tl.constexpr, LOW: tl.constexpr, HIGH: tl.constexpr,
    TOGETHER: tl.constexpr, BLOCK_M: tl.constexpr,
):
    """dx = factor * t + slope * (x - mean) + offset."""
    for number in range(TOGETHER):
        at, _, inside = block_of(b, first + number, c, mine, M, C, BLOCK_M)
        t, centred = read_back(dz_ptr, x_ptr, at, inside, mean, factor, bias, HELD, LOW, HIGH)
        dx = factor[None, :] * t + slope[None, :] * centred + offset[None, :]
        tl.store(dx_ptr + at, dx.to(dx_ptr.dtype.element_ty), mask=inside)
# fmt: on
