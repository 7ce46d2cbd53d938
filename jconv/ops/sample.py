"""Reading an image at positions that are computed: the pixels there, and linearly between them.

    pixels    y[n, m, g, c] = x[n, position[n, m, g], g, c]              0 outside of the image
    linear    y[n, m, g, c] = sum over the corners around at[n, m, g] of their share * pixel

Shapes (any number of spatial axes; written for two):
    x   N H W G C     image; the channels in G groups, each read at positions of its own
    at  N M G 2       positions in pixels, real or whole, the axes in the order of x's
    y   N M G C

Positions are made harmless before they become integers: whatever is not a number, or far outside,
reads 0. The transpose in x is a scatter that adds up: on a GPU in no fixed order, so gradients may
differ in the last bits from run to run (XLA's flag --xla_gpu_deterministic_ops fixes the order).
"""

from __future__ import annotations

import functools
import itertools
import math
import operator

import jax
import jax.numpy as jnp
from jax import lax

from jconv.ops.dtypes import MOST_INT32, comparable


def pixels(x: jax.Array, position: tuple[jax.Array, ...]) -> jax.Array:
    """x (N, *spatial, G, C) at whole positions, one array N M G per axis: N M G C, 0 outside.

    Args:
      position: whole numbers of any dtype; NaN is outside.

    Raises:
      ValueError: an image of more pixels than int32 can count.
    """
    spatial = x.shape[1:-2]
    if 0 in spatial:
        return jnp.zeros(
            (*jnp.broadcast_shapes(*(p.shape for p in position)), x.shape[-1]), x.dtype
        )
    if all(isinstance(n, int) for n in spatial) and math.prod(spatial) > MOST_INT32:
        raise ValueError(
            f"sampling: an image has at most {MOST_INT32} pixels, what int32 counts; got spatial "
            f"{tuple(spatial)}"
        )
    flat, inside = jnp.zeros((), jnp.int32), jnp.ones((), bool)
    for p, size in zip(map(comparable, position), spatial, strict=True):
        within = (p >= 0) & (p <= size - 1)
        flat = flat * size + jnp.where(within, p, jnp.zeros((), p.dtype)).astype(jnp.int32)
        inside &= within
    x = x.reshape(x.shape[0], math.prod(spatial), *x.shape[-2:])
    y = jnp.take_along_axis(x, flat[..., None], axis=1, mode="promise_in_bounds")
    return jnp.where(inside[..., None], y, jnp.zeros((), y.dtype))


def linear(x: jax.Array, at: jax.Array) -> jax.Array:
    """x (N, *spatial, G, C) at real positions (N, M, G, axes): N M G C, pixels outside being 0.

    Linear between pixels, in each axis. The derivative in `at` at a pixel is the one from above.

    Raises:
      ValueError: as `pixels`.
    """
    parts = [shares(at[..., axis], size) for axis, size in enumerate(x.shape[1:-2])]
    total = jnp.zeros((), x.dtype)
    for corner in itertools.product(*parts):
        share = functools.reduce(operator.mul, (share for _, share in corner))
        total += pixels(x, tuple(p for p, _ in corner)) * share[..., None].astype(x.dtype)
    return total


def shares(at: jax.Array, size: int) -> tuple[tuple[jax.Array, jax.Array], ...]:
    """The two pixels around positions on an axis of `size` pixels, each with its share."""
    # Also false for NaN; -2 reads nothing, and has finite shares, so that no gradient is NaN.
    at = jnp.where((at >= -1) & (at <= size), at, jnp.full((), -2, at.dtype))
    # Without the barrier XLA computes `at` a second time for the shares, and rounds it otherwise:
    # at a whole position they would then be those of another pixel.
    at = lax.optimization_barrier(at)
    low = lax.stop_gradient(jnp.floor(at))
    return (low, 1 - (at - low)), (low + 1, at - low)
