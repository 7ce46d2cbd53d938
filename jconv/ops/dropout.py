"""Dropout and its relatives: x times random numbers whose mean is 1.

    y = x * m / (1 - rate)     m is 1 with probability 1 - rate, else 0

with one draw for each entry of a mask that broadcasts to x (N, *spatial, C; written for two axes):

    dropout              N H W C     every number by itself
    channel_dropout      N 1 1 C     whole channels of one example
    stochastic_depth     N 1 1 1     whole examples, or one draw for all: 1 1 1 1
    gaussian_dropout     N H W C     m / (1 - rate) normal, with the variance of dropout's own
    alpha_dropout        N H W C     keeps the variance too, of an x with mean 0 and variance 1

The mean of y is x (the first four) and the gradient is the mask: dx = dy * m / (1 - rate). The key
is the only source of randomness: the same key gives the same mask. At rate 0 y is x, at rate 1 it
is 0, exactly; what is dropped is 0 even where x is NaN. A rate may be an array, traced too; no
gradient flows into it. Computed in float32 or wider, y has the dtype of x.

References: Srivastava et al. 2014, "Dropout: a simple way to prevent neural networks from
overfitting"; Tompson et al. 2015, arXiv:1411.4280; Huang et al. 2016, arXiv:1603.09382; Klambauer
et al. 2017, arXiv:1706.02515.
"""

from __future__ import annotations

import numbers
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec

from jconv.ops.dtypes import at_least_float32

type Rate = float | jax.Array

# Minus the limit of SELU at minus infinity: scale * alpha.
SATURATION = 1.7580993408473766


def dropout(key: jax.Array, x: jax.Array, rate: Rate) -> jax.Array:
    """x with each number 0 with probability `rate`, the others divided by 1 - rate.

    Draws what `flax.nnx.Dropout` draws from the same key.

    Raises:
      ValueError: a key that is not one typed key, an x that is not floating point, or a rate that
        is not one number from 0 to 1, or an array of another dtype than floating point (a traced
        rate's value isn't looked at).
    """
    x, _, keep = arguments("dropout", key, x, rate)
    return divided(x, drawn(key, keep, x, {}), keep)


def channel_dropout(key: jax.Array, x: jax.Array, rate: Rate) -> jax.Array:
    """x (N, *spatial, C) with each channel of each example 0 with probability `rate`.

    Raises:
      ValueError: as `dropout`, or an x without spatial axes.
    """
    x, _, keep = arguments("channel_dropout", key, x, rate, axes=3)
    return divided(x, drawn(key, keep, x, dict.fromkeys(range(1, x.ndim - 1), 1)), keep)


def stochastic_depth(key: jax.Array, x: jax.Array, rate: Rate, mode: str = "row") -> jax.Array:
    """The residual branch x (N, ...), 0 with probability `rate`, else divided by 1 - rate.

    The paper scales the branch at inference instead, by 1 - rate.

    Args:
      mode: "row": each example by itself; "batch": all or none.

    Raises:
      ValueError: as `dropout`, or another mode.
    """
    x, _, keep = arguments("stochastic_depth", key, x, rate, axes=1)
    if mode not in ("row", "batch"):
        raise ValueError(f'stochastic_depth: mode must be "row" or "batch"; got mode={mode!r}')
    shared = range(1 if mode == "row" else 0, x.ndim)
    return divided(x, drawn(key, keep, x, dict.fromkeys(shared, 1)), keep)


def gaussian_dropout(key: jax.Array, x: jax.Array, rate: Rate) -> jax.Array:
    """x times normal numbers of mean 1 and variance rate / (1 - rate).

    Raises:
      ValueError: as `dropout`, or a rate of 1.
    """
    if isinstance(rate, numbers.Real) and rate == 1:
        raise ValueError(f"gaussian_dropout: rate must be below 1; got rate={rate}")
    x, _, keep = arguments("gaussian_dropout", key, x, rate)
    wide = at_least_float32(x.dtype)
    deviation = jnp.sqrt((1 - keep) / keep).astype(wide)
    # Drawn in the default dtype, as a mask is: the same numbers whatever the dtype of x.
    noise = jax.random.normal(key, x.shape, float, out_sharding=jax.typeof(x).sharding)
    return (x.astype(wide) * (1 + deviation * noise.astype(wide))).astype(x.dtype)


def alpha_dropout(key: jax.Array, x: jax.Array, rate: Rate) -> jax.Array:
    """x with each number set to SELU's limit with probability `rate`, then shifted and scaled.

        y = a (x m - s (1 - m)) + a s rate     s = 1.758.., a = ((1 - rate) (1 + rate s^2))^(-1/2)

    so mean 0 and variance 1 stay. At rate 1 y is 0, as in PyTorch.

    Raises:
      ValueError: as `dropout`.
    """
    x, _, keep = arguments("alpha_dropout", key, x, rate)
    mask, wide = drawn(key, keep, x, {}), at_least_float32(x.dtype)
    variance = keep * (1 + (1 - keep) * SATURATION**2)
    a = jnp.where(keep > 0, lax.rsqrt(jnp.where(keep > 0, variance, 1)), 0)
    shift = (a * SATURATION * (1 - keep)).astype(wide)
    y = jnp.where(mask, x.astype(wide), -SATURATION) * a.astype(wide) + shift
    return y.astype(x.dtype)


def divided(x: jax.Array, mask: jax.Array, keep: jax.Array) -> jax.Array:
    """x / keep where the mask is true, else 0; 0 everywhere if keep is 0."""
    wide = x.astype(at_least_float32(x.dtype))
    # 1 in place of 0, or the gradient of what is not chosen is 0 / 0.
    return jnp.where(mask, wide / jnp.where(keep > 0, keep, 1).astype(wide.dtype), 0).astype(
        x.dtype
    )


def drawn(
    key: jax.Array, probability: jax.Array, x: jax.Array, sizes: Mapping[int, int]
) -> jax.Array:
    """Booleans, true with `probability`: of x's shape, but for the axes whose size is given."""
    shape = tuple(sizes.get(axis, n) for axis, n in enumerate(x.shape))
    # On a mesh with explicit axes the mask is laid out as x is; elsewhere the names are all None.
    like = jax.typeof(x).sharding
    names = [None if axis in sizes else name for axis, name in enumerate(like.spec)]
    sharding = NamedSharding(like.mesh, PartitionSpec(*names))
    return jax.random.bernoulli(key, probability, shape, out_sharding=sharding)


def arguments(
    op: str, key: jax.Array, x: jax.Array, rate: Rate, *, axes: int = 0
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """x, the rate, and 1 - rate, as arrays.

    Raises:
      ValueError: as `dropout`, or an x of fewer than `axes` axes.
    """
    x = jnp.asarray(x)
    check_key(op, key)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"{op}: x must be floating point; got x {x.shape} of {x.dtype}")
    if x.ndim < axes:
        shape = "(N, *spatial, C) with one or more spatial axes" if axes > 1 else "(N, ...)"
        raise ValueError(f"{op}: x must be {shape}; got x {x.shape}")
    if isinstance(rate, numbers.Real):
        if not 0 <= rate <= 1:
            raise ValueError(f"{op}: rate must be from 0 to 1; got rate={rate}")
        # Subtracted in Python and then rounded, as Flax does.
        return x, jnp.asarray(float(rate), float), jnp.asarray(1.0 - float(rate), float)
    if not isinstance(rate, jax.Array | np.ndarray):
        raise ValueError(f"{op}: rate must be one real number; got rate={rate!r}")
    if rate.shape:
        raise ValueError(f"{op}: rate must be one number; got rate {rate.shape}")
    if not jnp.issubdtype(rate.dtype, jnp.floating):
        raise ValueError(
            f"{op}: a rate that is an array must be floating point; got rate () of {rate.dtype}"
        )
    rate = lax.stop_gradient(jnp.asarray(rate))
    rate = rate.astype(at_least_float32(rate.dtype))
    return x, rate, 1 - rate


def check_key(op: str, key: object) -> None:
    """Refuses what is not one typed key.

    Raises:
      ValueError: an array of raw numbers, several keys, or no array at all.
    """
    if isinstance(key, jax.Array):
        if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and not key.shape:
            return
        got = jax.typeof(key).str_short()
    else:
        got = repr(key)
    raise ValueError(
        f"{op}: key, which comes first, must be one typed key from jax.random.key; got key {got}"
    )
