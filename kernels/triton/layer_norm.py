"""Standardisation of rows with its affine map, and its gradient: layer and RMS norm.

    z = (x - mean) * rstd * scale + bias          rstd = (variance + epsilon)^(-1/2)
    dx = rstd * (scale t - y sum(scale t y) / C - sum(scale t) / C) + dmean / C
         + 2 (x - mean) dvariance / C             t is dz where z is not held, y = (x - mean) * rstd
    dscale = sum of t y, dbias = sum of t, over rows

Shapes: x, z and their gradients M C, statistics M 1, scale and bias 1 C; the C numbers of a row lie
together. A program owns BLOCK_M rows, all of their C numbers, in registers: the variance is that of
the distances from the mean, corrected for the mean's rounding. For the gradient it goes through
TOGETHER such blocks, one after the other; the sums of the programs are added in one order.

Memory bounds both: x is read once and z written, x and dz read once and dx written.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import triton
import triton.language as tl

from .launch import launch
from .pixels import held_between, hold, passed
from .tiles import blocks, power_of_two

MOST_COLUMNS = 2**14  # of a row: in registers, over as many warps as there may be
ELEMENTS = 2048  # of the rows of one block
PROGRAMS = 528  # that a gradient's rows are spread over: four for each of 132 multiprocessors


def forward(
    x: jax.Array, scale: jax.Array, bias: jax.Array, *, axes: tuple[int, ...], epsilon: float,
    centre: bool, bounds: Any,
) -> tuple[jax.Array, jax.Array, jax.Array]:  # fmt: skip
    """(z, mean, variance) of x over its last axes: M C, M 1 and M 1."""
    cut: Any = Cut.of(x, scale, axes)
    row = jax.ShapeDtypeStruct((cut.m, 1), jnp.float32)
    z, mean, variance = launch(
        _forward, (blocks(cut.m, cut.block_m),),
        [x.reshape(cut.m, cut.c), cut.lines(scale), cut.lines(bias)],
        [jax.ShapeDtypeStruct((cut.m, cut.c), x.dtype), row, row],
        **cut.constants(), **held_between(epsilon, centre, bounds),
    )  # fmt: skip
    return z, mean, variance


def backward(
    dz: jax.Array, dmean: jax.Array, dvariance: jax.Array, x: jax.Array, scale: jax.Array,
    bias: jax.Array, mean: jax.Array, variance: jax.Array, *, axes: tuple[int, ...],
    epsilon: float, centre: bool, bounds: Any,
) -> tuple[jax.Array, jax.Array, jax.Array]:  # fmt: skip
    """(dx, dscale, dbias): M C, and the others as the scale is."""
    cut: Any = Cut.of(x, scale, axes)
    together = blocks(blocks(cut.group, cut.block_m), max(PROGRAMS // cut.groups, 1))
    programs = blocks(cut.group, cut.block_m * together)
    sums = jax.ShapeDtypeStruct((cut.groups, programs, cut.c), jnp.float32)
    rows = [a.reshape(cut.m, 1) for a in (dmean, dvariance, mean, variance)]
    dx, dscale, dbias = launch(
        _grad, (programs, cut.groups),
        [dz.reshape(cut.m, cut.c), x.reshape(cut.m, cut.c), *rows, cut.lines(scale),
         cut.lines(bias)],
        [jax.ShapeDtypeStruct((cut.m, cut.c), x.dtype), sums, sums],
        **cut.constants(), **held_between(epsilon, centre, bounds), TOGETHER=together,
        PROGRAMS=programs,
    )  # fmt: skip
    dscale, dbias = (cut.as_scale(jnp.sum(partial, 1), scale) for partial in (dscale, dbias))
    return dx, dscale, dbias


def refused(x: Any, scale: Any, axes: tuple[int, ...]) -> str | None:
    """Why no kernel here takes rows like these, or None."""
    first = x.ndim - len(axes)
    if axes != tuple(range(first, x.ndim)):
        return f"only for the last axes, got axes {axes}"
    if (c := math.prod(x.shape[first:])) > MOST_COLUMNS:
        return f"only for rows of at most {MOST_COLUMNS} numbers, got {c}"
    if Cut.of(x, scale, axes) is None:
        return f"only for a scale of each number of a row, or of all, got scale {scale.shape}"
    return None


@dataclasses.dataclass(frozen=True)
class Cut:
    """A call as rows: M rows of C numbers, those of a group with the same scale.

    Attributes:
      groups: how many; a vmap over scales makes more than one.
      one: all numbers of a group have one scale.
    """

    m: int
    c: int
    groups: int
    one: bool

    @classmethod
    def of(cls, x: Any, scale: Any, axes: tuple[int, ...]) -> Cut | None:
        """None if scales lie otherwise."""
        first = x.ndim - len(axes)
        outer, line = scale.shape[:first], scale.shape[first:]
        split = next((i for i, n in enumerate(outer) if n == 1), first)
        whole = outer[:split] == x.shape[:split] and set(outer[split:]) <= {1}
        one = set(line) <= {1} and line != x.shape[first:]
        if not whole or not (one or line == x.shape[first:]):
            return None
        return cls(math.prod(x.shape[:first]), math.prod(x.shape[first:]), math.prod(outer), one)

    @property
    def group(self) -> int:
        """Rows of a group."""
        return self.m // self.groups

    @property
    def block_c(self) -> int:
        """The power of two that holds a row."""
        return power_of_two(self.c, least=16, most=MOST_COLUMNS)

    @property
    def block_m(self) -> int:
        """Rows of a block."""
        return power_of_two(self.group, least=1, most=max(ELEMENTS // self.block_c, 1))

    def constants(self) -> dict[str, Any]:
        """For a kernel."""
        warps = min(max(self.block_m * self.block_c // 512, 1), 16)
        return {"M": self.m, "C": self.c, "GROUP": self.group, "BLOCK_M": self.block_m,
                "BLOCK_C": self.block_c, "warps": warps}  # fmt: skip

    def lines(self, scale: jax.Array) -> jax.Array:
        """(groups, C)."""
        return jnp.broadcast_to(scale.reshape(self.groups, -1), (self.groups, self.c))

    def as_scale(self, lines: jax.Array, scale: jax.Array) -> jax.Array:
        """What belongs to each scale, of (groups, C)."""
        return (jnp.sum(lines, 1) if self.one else lines).reshape(scale.shape)


# fmt: off
@triton.jit
def _forward(
    x_ptr, scale_ptr, bias_ptr, z_ptr, mean_ptr, variance_ptr,
    M: tl.constexpr, C: tl.constexpr, GROUP: tl.constexpr,
    EPSILON: tl.constexpr, CENTRE: tl.constexpr,
    HELD: tl.constexpr, LOW: tl.constexpr, HIGH: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr,
):
    m, c = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M), tl.arange(0, BLOCK_C)
    inside, at = (m < M)[:, None] & (c < C)[None, :], m[:, None] * C + c[None, :]
    centred = tl.load(x_ptr + at, mask=inside, other=0.0).to(tl.float32)
    mean = tl.zeros((BLOCK_M,), tl.float32)
    if CENTRE:
        near = tl.sum(centred, 1) / C
        centred = tl.where(inside, centred - near[:, None], 0.0)
        rest = tl.sum(centred, 1) / C
        centred = tl.where(inside, centred - rest[:, None], 0.0)
        mean = near + rest
    variance = tl.sum(centred * centred, 1) / C
    if GROUP == M:
        scale = tl.load(scale_ptr + c, mask=c < C, other=0.0)[None, :]
        bias = tl.load(bias_ptr + c, mask=c < C, other=0.0)[None, :]
    else:
        line = (m // GROUP)[:, None] * C + c[None, :]
        scale = tl.load(scale_ptr + line, mask=inside, other=0.0)
        bias = tl.load(bias_ptr + line, mask=inside, other=0.0)
    z = centred * (scale / tl.sqrt(variance + EPSILON)[:, None]) + bias
    if HELD:
        z = hold(z, LOW, HIGH)
    tl.store(z_ptr + at, z.to(z_ptr.dtype.element_ty), mask=inside)
    tl.store(mean_ptr + m, mean, mask=m < M)
    tl.store(variance_ptr + m, variance, mask=m < M)


@triton.jit
def _grad(
    dz_ptr, x_ptr, dmean_ptr, dvariance_ptr, mean_ptr, variance_ptr, scale_ptr, bias_ptr,
    dx_ptr, dscale_ptr, dbias_ptr,
    M: tl.constexpr, C: tl.constexpr, GROUP: tl.constexpr,
    EPSILON: tl.constexpr, CENTRE: tl.constexpr,
    HELD: tl.constexpr, LOW: tl.constexpr, HIGH: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr, TOGETHER: tl.constexpr,
    PROGRAMS: tl.constexpr,
):
    program, group, c = tl.program_id(0), tl.program_id(1), tl.arange(0, BLOCK_C)
    scale = tl.load(scale_ptr + group * C + c, mask=c < C, other=0.0)[None, :]
    bias = tl.load(bias_ptr + group * C + c, mask=c < C, other=0.0)[None, :]
    dscale, dbias = tl.zeros((BLOCK_C,), tl.float32), tl.zeros((BLOCK_C,), tl.float32)
    for block in range(TOGETHER):
        in_group = (program * TOGETHER + block) * BLOCK_M + tl.arange(0, BLOCK_M)
        m, row = group * GROUP + in_group, in_group < GROUP
        inside, at = row[:, None] & (c < C)[None, :], m[:, None] * C + c[None, :]
        mean = tl.load(mean_ptr + m, mask=row, other=0.0)[:, None]
        rstd = 1 / tl.sqrt(tl.load(variance_ptr + m, mask=row, other=1.0)[:, None] + EPSILON)
        dmean = tl.load(dmean_ptr + m, mask=row, other=0.0)[:, None]
        dvariance = tl.load(dvariance_ptr + m, mask=row, other=0.0)[:, None]
        t = tl.load(dz_ptr + at, mask=inside, other=0.0).to(tl.float32)
        centred = tl.load(x_ptr + at, mask=inside, other=0.0).to(tl.float32) - mean
        y = tl.where(inside, centred * rstd, 0.0)
        if HELD:
            t = passed(t, y * scale + bias, LOW, HIGH)
        weighted = scale * t
        dx = rstd * (weighted - y * (tl.sum(weighted * y, 1) / C)[:, None])
        dx += y * (2 * dvariance / (rstd * C))
        if CENTRE:
            dx += dmean / C - rstd * (tl.sum(weighted, 1) / C)[:, None]
        tl.store(dx_ptr + at, dx.to(dx_ptr.dtype.element_ty), mask=inside)
        dscale += tl.sum(t * y, 0)
        dbias += tl.sum(t, 0)
    sums = (group * PROGRAMS + program) * C + c
    tl.store(dscale_ptr + sums, dscale, mask=c < C)
    tl.store(dbias_ptr + sums, dbias, mask=c < C)
# fmt: on
