"""Standardisation of pixels spread over many programs, and its gradient: batch norm above all.

    z = (x - mean) * rstd * scale + bias          rstd = (variance + epsilon)^(-1/2)
    dx = rstd * scale * t + slope * (x - mean) + offset          t is dz where z is not held
        slope = (2 dvariance - rstd^3 sum(scale t (x - mean))) / n
        offset = (dmean - rstd sum(scale t)) / n
    dscale = sum of t (x - mean) rstd, dbias = sum of t

Shapes (`pixels.py`): x, z and their gradients B M C, statistics B G, scale and bias 1 C or B C. Two
kernels each way: sums over pixels, then the map of each number. A program owns BLOCK_C channels of
TOGETHER blocks of BLOCK_M pixels of one example. Sums are kept in registers, one for each place in
a block, added over the block at the end, and over programs in one order: in every run the same.

The variance is Welford's, of distances from a pixel of the example, so that a mean far from 0
costs nothing; parts are joined by the rule of Chan, Golub & LeVeque (1983).

Memory bounds all four: x is read twice and z written, and x and dz are read twice and dx written;
of that the second reading comes from the cache where x fits in. `group_norm.py` reads once, and
is slower where there are few examples, or one, as here.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import triton
import triton.language as tl
from jax import lax

from .launch import launch
from .pixels import Pixels, add_up, held_between, map_back, map_forward, measure, own, spread

ELEMENTS = 2048  # of a block: 16 for each of 128 threads, two loads of 16 bytes of bfloat16
PROGRAMS = 1056  # eight for each of 132 multiprocessors: 32 KiB in flight on each


def forward(
    x: jax.Array, scale: jax.Array, bias: jax.Array, *, cut: Pixels, epsilon: float, centre: bool,
    bounds: Any, over: Any,
) -> tuple[jax.Array, jax.Array, jax.Array]:  # fmt: skip
    """(z, mean, variance): B M C, B G and B G.

    Args:
      over: the axes of a mesh that the pixels are spread over.
    """
    x = cut.pixels(x)
    near, rest, variance = _statistics_of(x, cut, centre, over)
    grid, static = _spread(cut)
    (z,) = launch(
        _map, grid, [x, near, rest, variance, cut.scales(scale), cut.scales(bias)],
        [jax.ShapeDtypeStruct(x.shape, x.dtype)],
        **static, **held_between(epsilon, centre, bounds),
    )  # fmt: skip
    return z, near + rest, variance


def backward(
    dz: jax.Array, dmean: jax.Array, dvariance: jax.Array, x: jax.Array, scale: jax.Array,
    bias: jax.Array, mean: jax.Array, variance: jax.Array, *, cut: Pixels, epsilon: float,
    centre: bool, bounds: Any, over: Any,
) -> tuple[jax.Array, jax.Array, jax.Array]:  # fmt: skip
    """(dx, dscale, dbias): B M C, and the others as the scale is."""
    x, dz, like = cut.pixels(x), cut.pixels(dz), scale
    scale, bias = cut.scales(scale), cut.scales(bias)
    rows = (cut.b, cut.groups)
    dmean, dvariance, mean, variance = (a.reshape(rows) for a in (dmean, dvariance, mean, variance))
    grid, static = _spread(cut)
    static |= held_between(epsilon, centre, bounds)
    parts = jax.ShapeDtypeStruct((cut.b, static["PARTS"], cut.c), jnp.float32)
    sums = launch(_sums, grid, [dz, x, mean, variance, scale, bias], [parts, parts], **static)
    of_t, of_product = (jnp.sum(part, 1) for part in sums)
    n = cut.count
    if over:
        of_t, of_product = lax.psum((of_t, of_product), over)
        n *= lax.psum(1, over)
    group_t, group_product = (
        jnp.sum((scale * sums).reshape(*rows, cut.length), 2) for sums in (of_t, of_product)
    )
    rstd = lax.rsqrt(variance + np.float32(epsilon))
    slope = (2 * dvariance - rstd * (rstd * (rstd * group_product))) / n
    offset = (dmean - rstd * group_t) / n if centre else jnp.zeros_like(slope)
    (dx,) = launch(
        _map_back, grid, [dz, x, mean, variance, slope, offset, scale, bias],
        [jax.ShapeDtypeStruct(x.shape, x.dtype)], **static,
    )  # fmt: skip
    of_product *= jnp.repeat(rstd, cut.length, 1)
    return dx, cut.as_scale(of_product, like), cut.as_scale(of_t, like)


def _statistics_of(x, cut, centre, over):
    """(near, rest, variance), each B G; near + rest is the mean, of which near is no more than the
    nearest number.
    """
    grid, static = _spread(cut)
    near = x.reshape(cut.b, cut.m, cut.groups, cut.length)[:, 0, :, 0].astype(jnp.float32)
    near = near if centre else jnp.zeros_like(near)
    parts = jax.ShapeDtypeStruct((cut.b, static["PARTS"], cut.c), jnp.float32)
    sums = launch(_measure, grid, [x, near], [parts, parts], **static, CENTRE=bool(centre))
    means, squares = (a.reshape(*parts.shape[:2], cut.groups, cut.length) for a in sums)
    each = static["TOGETHER"] * static["BLOCK_M"]
    counts = np.minimum(cut.m - each * np.arange(static["PARTS"]), each)
    counts = counts.astype(np.float32)[:, None, None]
    rest = jnp.sum(means * counts, (1, 3)) / cut.count
    off = means - rest[:, None, :, None]
    variance = jnp.sum(squares + counts * off * off, (1, 3)) / cut.count
    return _joined(near, rest, variance, centre, over) if over else (near, rest, variance)


def _joined(near, rest, variance, centre, over):
    """Of the pixels of all devices along `over`, which have as many each."""
    if not centre:
        return near, rest, lax.pmean(variance, over)
    mean = lax.pmean(near + rest, over)
    off = (near - mean) + rest
    rest, square = lax.pmean((off, variance + off * off), over)
    return mean, rest, jnp.maximum(square - rest * rest, 0)


def _spread(cut):
    """The grid, and how the kernels cut a call."""
    grid, static = spread(cut, ELEMENTS, PROGRAMS)
    return grid, cut.constants() | static


# fmt: off
@triton.jit
def _affine(
    variance_ptr, scale_ptr, bias_ptr, group, of_scale, mine, EPSILON: tl.constexpr,
):
    """What standardised numbers are multiplied by, and what is added."""
    rstd = 1 / tl.sqrt(tl.load(variance_ptr + group, mask=mine, other=1.0) + EPSILON)
    factor = rstd * tl.load(scale_ptr + of_scale, mask=mine, other=0.0)
    return factor, tl.load(bias_ptr + of_scale, mask=mine, other=0.0)


@triton.jit
def _measure(
    x_ptr, near_ptr, mean_ptr, squares_ptr,
    M: tl.constexpr, C: tl.constexpr, L: tl.constexpr, PER_EXAMPLE: tl.constexpr,
    CENTRE: tl.constexpr, PARTS: tl.constexpr, TOGETHER: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr,
):
    b, part, c, group, _ = own(C, L, PER_EXAMPLE, PARTS, BLOCK_C)
    near = tl.load(near_ptr + group, mask=c < C, other=0.0)
    mean, squares = measure(
        x_ptr, b, part * TOGETHER, c, c < C, near, M, C, CENTRE, TOGETHER, BLOCK_M, BLOCK_C,
    )
    at_sums = (b * PARTS + part) * C + c
    tl.store(mean_ptr + at_sums, mean, mask=c < C)
    tl.store(squares_ptr + at_sums, squares, mask=c < C)


@triton.jit
def _map(
    x_ptr, near_ptr, rest_ptr, variance_ptr, scale_ptr, bias_ptr, z_ptr,
    M: tl.constexpr, C: tl.constexpr, L: tl.constexpr, PER_EXAMPLE: tl.constexpr,
    EPSILON: tl.constexpr, CENTRE: tl.constexpr,
    HELD: tl.constexpr, LOW: tl.constexpr, HIGH: tl.constexpr,
    PARTS: tl.constexpr, TOGETHER: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr,
):
    b, part, c, group, of_scale = own(C, L, PER_EXAMPLE, PARTS, BLOCK_C)
    factor, bias = _affine(variance_ptr, scale_ptr, bias_ptr, group, of_scale, c < C, EPSILON)
    near = tl.load(near_ptr + group, mask=c < C, other=0.0)
    rest = tl.load(rest_ptr + group, mask=c < C, other=0.0)
    map_forward(
        x_ptr, z_ptr, b, part * TOGETHER, c, c < C, near, rest, factor, bias,
        M, C, HELD, LOW, HIGH, TOGETHER, BLOCK_M,
    )


@triton.jit
def _sums(
    dz_ptr, x_ptr, mean_ptr, variance_ptr, scale_ptr, bias_ptr, t_ptr, product_ptr,
    M: tl.constexpr, C: tl.constexpr, L: tl.constexpr, PER_EXAMPLE: tl.constexpr,
    EPSILON: tl.constexpr, CENTRE: tl.constexpr,
    HELD: tl.constexpr, LOW: tl.constexpr, HIGH: tl.constexpr,
    PARTS: tl.constexpr, TOGETHER: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr,
):
    b, part, c, group, of_scale = own(C, L, PER_EXAMPLE, PARTS, BLOCK_C)
    factor, bias = _affine(variance_ptr, scale_ptr, bias_ptr, group, of_scale, c < C, EPSILON)
    mean = tl.load(mean_ptr + group, mask=c < C, other=0.0)
    of_t, of_product = add_up(
        dz_ptr, x_ptr, b, part * TOGETHER, c, c < C, mean, factor, bias,
        M, C, HELD, LOW, HIGH, TOGETHER, BLOCK_M, BLOCK_C,
    )
    at_sums = (b * PARTS + part) * C + c
    tl.store(t_ptr + at_sums, of_t, mask=c < C)
    tl.store(product_ptr + at_sums, of_product, mask=c < C)


@triton.jit
def _map_back(
    dz_ptr, x_ptr, mean_ptr, variance_ptr, slope_ptr, offset_ptr, scale_ptr, bias_ptr, dx_ptr,
    M: tl.constexpr, C: tl.constexpr, L: tl.constexpr, PER_EXAMPLE: tl.constexpr,
    EPSILON: tl.constexpr, CENTRE: tl.constexpr,
    HELD: tl.constexpr, LOW: tl.constexpr, HIGH: tl.constexpr,
    PARTS: tl.constexpr, TOGETHER: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr,
):
    b, part, c, group, of_scale = own(C, L, PER_EXAMPLE, PARTS, BLOCK_C)
    factor, bias = _affine(variance_ptr, scale_ptr, bias_ptr, group, of_scale, c < C, EPSILON)
    mean = tl.load(mean_ptr + group, mask=c < C, other=0.0)
    slope = tl.load(slope_ptr + group, mask=c < C, other=0.0)
    offset = tl.load(offset_ptr + group, mask=c < C, other=0.0)
    map_back(
        dz_ptr, x_ptr, dx_ptr, b, part * TOGETHER, c, c < C, mean, factor, bias, slope, offset,
        M, C, HELD, LOW, HIGH, TOGETHER, BLOCK_M,
    )
# fmt: on
