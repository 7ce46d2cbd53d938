"""Mean and variance in one pass over memory where that is accurate, in two more where it is not.

    one pass     mean = E[x], variance = E[x^2] - mean^2
    two passes   rest = E[x - mean], variance = E[(x - mean)^2] - rest^2

The first loses as many bits as E[x^2] has more than the variance: it is kept where these are at
most two everywhere, mean^2 <= 3 variance, and else all is computed again. For the CPU:
there XLA takes a sum of squares at the speed of memory and one of squared distances at half of it,
and a choice between two branches costs nothing, where on a GPU it would wait for the host.

Memory: none beside the results. Source of the second: Chan, Golub & LeVeque 1983.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

MOST_LOST = 3  # mean^2 beside the variance: two bits


def moments(x: jax.Array, axes: tuple[int, ...]) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(mean, rest, variance) of a floating x over `axes`, kept with size 1.

    The mean of x is mean + rest, of which `rest` is what the dtype of `mean` can't hold.
    """
    mean_of = functools.partial(jnp.mean, axis=axes, keepdims=True)
    mean, square = mean_of(x), mean_of(lax.square(x))
    variance = jnp.maximum(square - lax.square(mean), 0)
    accurate = lax.square(mean) <= MOST_LOST * variance
    return lax.cond(
        # A mean that is not finite is so by either way.
        jnp.any(jnp.isfinite(mean) & ~accurate),
        lambda mean, rest, variance: two_passes(x, mean_of, mean),
        lambda *given: given,
        *(mean, mean - mean, variance),
    )


def two_passes(
    x: jax.Array, mean_of: Callable[[jax.Array], jax.Array], about: jax.Array | None = None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """As `moments`, of what `mean_of` takes the mean of.

    By the distances from `about`, which is near the mean; None takes the mean.
    """
    # The same number wherever it stands: XLA would compute it again inside of both sums' loops, and
    # not round it there, so that nothing was left of what the rounding lost.
    near: jax.Array = lax.optimization_barrier(mean_of(x) if about is None else about)
    # The same distances, twice: where two sums share them, XLA writes them to memory.
    off, square = mean_of(x + (-near)), mean_of(lax.square(x - near))
    mean = near + off
    return mean, (near - mean) + off, jnp.maximum(square - lax.square(off), 0)
