"""Standardisation across named axes, or of what a mask counts: the same rule with another mean.

A collective inside a primitive would have to redo JAX's typing of varying axes, so this is a
`custom_jvp` of plain arrays. The mathematics is that of `jconv.ops.standardize`.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jconv.algorithms.moments import two_passes
from jconv.ops.dtypes import at_least_float32

type AxisName = str | tuple[str, ...] | None


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3, 4, 5))
def standardize_across(
    x: jax.Array,
    mask: jax.Array | None,
    axes: tuple[int, ...],
    epsilon: float,
    centre: bool,
    axis_name: AxisName,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(y, mean, variance) of x over `axes`, which are kept with size 1: float32 or wider."""
    return _standardize(x, _mean_over(axes, mask, axis_name), epsilon, centre)


@standardize_across.defjvp
def _standardize_across_jvp(axes, epsilon, centre, axis_name, primals, tangents):
    (x, mask), (dx, _) = primals, tangents
    y, mean, variance = standardize_across(x, mask, axes, epsilon, centre, axis_name)
    t, rstd = dx.astype(y.dtype), lax.rsqrt(variance + epsilon)
    mean_of = _mean_over(axes, mask, axis_name)
    product = mean_of(y * t)
    dmean = mean_of(t) if centre else jnp.zeros_like(product)
    dy = rstd * (t - dmean - y * product)
    return (y, mean, variance), (dy, dmean, 2 * product / rstd)


def counted(
    x: jax.Array, axes: tuple[int, ...], mask: jax.Array | None, axis_name: AxisName
) -> Any:
    """How many numbers are normalised together, on all devices: one number, or one per statistic.

    Counted as integers: float32 can't count beyond 2**24.
    """
    if mask is None:
        count = math.prod(x.shape[axis] for axis in axes)
        return count if axis_name is None else count * lax.psum(1, axis_name)
    return _total(mask.astype(jnp.int32), axes, axis_name)


def _standardize(x, mean_of, epsilon, centre):
    x = x.astype(at_least_float32(x.dtype))
    if not centre:
        square = mean_of(lax.square(x))
        return x * lax.rsqrt(square + epsilon), jnp.zeros_like(square), square
    mean, rest, variance = two_passes(x, mean_of)
    return ((x - mean) - rest) * lax.rsqrt(variance + epsilon), mean, variance


def _mean_over(axes, mask, axis_name):
    """The function that takes the mean over `axes` and named axes, of what counts."""
    if mask is None:

        def mean_of(t):
            mean = jnp.mean(t, axes, keepdims=True)
            return mean if axis_name is None else lax.pmean(mean, axis_name)

        return mean_of
    count = jnp.maximum(_total(mask.astype(jnp.int32), axes, axis_name), 1)

    def masked_mean_of(t):
        return _total(jnp.where(mask, t, 0), axes, axis_name) / count.astype(t.dtype)

    return masked_mean_of


def _total(t, axes, axis_name):
    total = jnp.sum(t, axes, keepdims=True, dtype=t.dtype)
    return total if axis_name is None else lax.psum(total, axis_name)
