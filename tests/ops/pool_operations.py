"""One small case of every pooling beside its plain formulation, for the tests by property."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jconv.ops.adaptive_pool import (
    adaptive_avg_pool,
    adaptive_max_pool,
    global_avg_pool,
    global_max_pool,
)
from jconv.ops.lp_pool import lp_pool
from jconv.ops.max_pool import max_pool, min_pool
from jconv.ops.maxout import maxout
from jconv.ops.pad import pad
from jconv.ops.random_pool import fractional_max_pool, stochastic_pool
from jconv.ops.unpool import max_unpool
from tests.ops.operations import Op, patches

IMAGE = (2, 4, 3, 2)


def twice(x):
    """Every row twice, so that every window of two rows holds ties."""
    return jnp.repeat(x, 2, axis=1)


def positive(x):
    return 2 + jnp.sin(x)


def over_bins(x, reduce, rows, columns):
    """One number for each product of a bin of rows and a bin of columns."""
    return jnp.stack([jnp.stack([reduce(x[:, r, c], (1, 2)) for c in columns], 1) for r in rows], 1)


BINS = (slice(0, 2), slice(1, 3), slice(2, 4)), (slice(0, 2), slice(1, 3))
POSITIONS = np.array([[[7, 7], [0, 19]], [[-1, 3], [7, 3]], [[12, 7], [18, 0]]], np.int32)[None]


def unpooled(y):
    """A matrix of the last number at each position, per channel."""
    matrix = np.zeros((20, 6, 2))
    for q, c in np.ndindex(6, 2):
        position = POSITIONS.reshape(6, 2)[q, c]
        if position >= 0:
            matrix[position, :, c] = np.eye(6)[q]
    flat = jnp.einsum("pqc,nqc->npc", jnp.asarray(matrix, y.dtype), y.reshape(y.shape[0], 6, 2))
    return flat.reshape(y.shape[0], 5, 4, 2)


def drawn(x):
    """The pixel of each window under a mark, with all pixels laid end to end."""
    a = patches(positive(x))
    ends = jnp.cumsum(jax.lax.stop_gradient(a), 0)
    mark = (
        jax.random.uniform(jax.random.key(1), a.shape[1:], jnp.float32).astype(a.dtype) * ends[-1]
    )
    return jnp.take_along_axis(a, (ends <= mark).sum(0)[None], 0)[0]


OPS = {
    "pad": Op(
        functools.partial(pad, padding=((1, 0), (0, 2)), padding_mode="reflect"),
        lambda x: jnp.pad(x, ((0, 0), (1, 0), (0, 2), (0, 0)), mode="reflect"),
        ((2, 3, 4, 2),), (0,),
    ),
    "min_pool": Op(
        functools.partial(min_pool, window=2, stride=1), lambda x: patches(x).min(0), (IMAGE,), ()
    ),
    "max_pool_tied": Op(  # jnp.max, too, shares its gradient among equals.
        lambda x: max_pool(twice(x), 2, stride=1, ties="shared"),
        lambda x: patches(twice(x)).max(0), (IMAGE,), (),
    ),
    "max_pool_tied_direct": Op(
        lambda x: max_pool(twice(x), 2, stride=1, ties="shared", implementation="direct"),
        lambda x: patches(twice(x)).max(0), (IMAGE,), (),
    ),
    "lp_pool": Op(
        lambda x: lp_pool(positive(x), 2, 3, stride=1),
        lambda x: jnp.sum(patches(positive(x)) ** 3, 0) ** (1 / 3), (IMAGE,), (),
    ),
    "max_unpool": Op(
        lambda y: max_unpool(y, jnp.broadcast_to(POSITIONS, y.shape), output_size=(5, 4)),
        unpooled, ((2, 3, 2, 2),), (0,),
    ),
    "adaptive_avg_pool": Op(
        functools.partial(adaptive_avg_pool, output_size=(3, 2)),
        lambda x: over_bins(x, jnp.mean, *BINS), (IMAGE,), (0,),
    ),
    "adaptive_max_pool": Op(
        functools.partial(adaptive_max_pool, output_size=(3, 2)),
        lambda x: over_bins(x, jnp.max, *BINS), (IMAGE,), (),
    ),
    "global_avg_pool": Op(global_avg_pool, lambda x: x.mean((1, 2)), (IMAGE,), (0,)),
    "global_max_pool": Op(global_max_pool, lambda x: x.max((1, 2)), (IMAGE,), ()),
    "fractional_max_pool": Op(  # Two outputs of an axis are its first and last window, always.
        lambda x: fractional_max_pool(jax.random.key(0), x, 2, output_size=2),
        lambda x: over_bins(x, jnp.max, BINS[0][::2], BINS[1]), (IMAGE,), (),
    ),
    "stochastic_pool": Op(
        lambda x: stochastic_pool(jax.random.key(1), positive(x), 2, stride=1), drawn, (IMAGE,), ()
    ),
    "stochastic_pool_mean": Op(
        lambda x: stochastic_pool(None, positive(x), 2, stride=1, deterministic=True),
        lambda x: jnp.sum(patches(positive(x)) ** 2, 0) / patches(positive(x)).sum(0), (IMAGE,), (),
    ),
    "maxout": Op(
        functools.partial(maxout, pieces=2),
        lambda x: x.reshape(*x.shape[:-1], 2, 2).max(-1), ((2, 2, 2, 4),), (),
    ),
}  # fmt: skip
