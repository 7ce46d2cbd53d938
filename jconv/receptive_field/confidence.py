"""How sure a measure of a field is, given how many inputs it was measured on.

The measures are ratios and counts, whose errors no simple formula gives; so: a percentile bootstrap
over inputs (Efron 1979, "Bootstrap methods: another look at the jackknife"). The maps of N inputs
are drawn N times with replacement, the measure is taken of their mean, and so on `samples` times.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jconv.window import whole


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Interval:
    """A measure with the ends of its confidence interval, each a pytree as the measure returns."""

    value: Any
    low: Any
    high: Any


def bootstrap(
    measure: Callable[[jax.Array], Any],
    maps: jax.Array,
    *,
    key: jax.Array,
    samples: int = 1000,
    level: float = 0.95,
    chunk: int = 50,
) -> Interval:
    """`measure` of the mean of maps (N, *spatial), and where it lies with other inputs.

    It speaks of inputs alone: other weights, seeds or units are not in it. Below some ten inputs
    percentile intervals are too narrow.

    Args:
      measure: takes a field (*spatial) and returns an array or a pytree, such as
        `lambda field: gaussian_fit(field).sigma`; JAX must be able to map it.
      key: a typed key, from `jax.random.key`.
      samples: fields that are drawn.
      level: the probability that the interval holds the value.
      chunk: so many drawn fields are held in memory at a time.

    Raises:
      ValueError: maps of less than two inputs, or a level that is no probability.
    """
    maps = jnp.asarray(maps)
    if maps.ndim < 2 or maps.shape[0] < 2:
        raise ValueError(
            f"bootstrap: maps must be (N, *spatial) of two or more inputs; got maps {maps.shape}"
        )
    if not 0 < level < 1:
        raise ValueError(f"bootstrap: level must be between 0 and 1; got level={level}")
    samples = whole(samples, "samples", "bootstrap")
    chunk = min(whole(chunk, "chunk", "bootstrap"), samples)
    n = maps.shape[0]

    def drawn(key):
        index = jax.random.randint(key, (n,), 0, n)
        counts = jnp.zeros(n, maps.dtype).at[index].add(jnp.ones((), maps.dtype))
        return measure(jnp.tensordot(counts / n, maps, 1, precision="highest"))

    @jax.jit
    def run(keys):
        found = lax.map(drawn, keys, batch_size=chunk)
        ends = jnp.asarray([(1 - level) / 2, (1 + level) / 2])
        return jax.tree.map(lambda a: jnp.quantile(a.astype(ends.dtype), ends, axis=0), found)

    ends = run(jax.random.split(key, samples))
    low, high = (jax.tree.map(lambda a, i=i: a[i], ends) for i in (0, 1))
    return Interval(measure(maps.mean(0)), low, high)
