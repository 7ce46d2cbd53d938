"""Chains of random convolutions and their effective fields, for the scripts beside this one.

The fields are means over random weights and inputs of the squared gradient, the maps that the
theory of Luo et al. 2016 (arXiv:1701.04128) speaks of: for independent weights of mean 0 those of
every layer are convolved, so that the variances add up, (k^2 - 1) / 12 each for k taps.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

import jconv
from jconv import receptive_field as rf


@dataclasses.dataclass(frozen=True)
class Chain:
    """Convolutions of `kernel` taps a side, one after the other, on images of `size` pixels.

    Attributes:
      dilations, strides: of each layer.
      residual: x + layer(x) instead of layer(x).
      dropout: probability that a number is dropped behind each layer.
    """

    dilations: Sequence[int]
    size: int
    kernel: int = 3
    strides: Sequence[int] | None = None
    channels: int = 8
    activation: Callable[[jax.Array], jax.Array] | None = None
    gain: float = 1.0
    residual: bool = False
    dropout: float = 0.0

    def __call__(self, key: jax.Array, x: jax.Array) -> jax.Array:
        """x (N, size, size, channels) through layers with weights drawn from `key`."""
        n = len(self.dilations)
        strides = self.strides or [1] * n
        keys = jax.vmap(lambda i: jax.random.split(jax.random.fold_in(key, i)))(jnp.arange(n))
        shape = (self.kernel, self.kernel, self.channels, self.channels)
        scale = (self.gain / (self.kernel**2 * self.channels)) ** 0.5
        # All at once: a generator for each layer is most of what is compiled.
        ws = jax.vmap(lambda key: jax.random.normal(key, shape))(keys[:, 0]) * scale
        for i, (dilation, stride) in enumerate(zip(self.dilations, strides, strict=True)):
            # As much on both sides, whatever the stride: a field is centred on its unit.
            padding = dilation * (self.kernel - 1) // 2
            y = jconv.conv(x, ws[i], stride=stride, dilation=dilation, padding=padding)
            if self.activation is not None and i < n - 1:
                y = self.activation(y)
            if self.dropout:
                y = jconv.dropout(keys[i, 1], y, self.dropout)
            x = x + y if self.residual else y
        return x


def fields(chain: Chain, draws: int, seed: int = 0) -> jax.Array:
    """Squared gradients of the unit in the middle, (draws, size, size), each with weights and an
    input of its own, divided by their sums: draws differ in strength by orders of magnitude."""

    @jax.jit
    def one(key):
        weight_key, input_key = jax.random.split(key)
        x = jax.random.normal(input_key, (1, chain.size, chain.size, chain.channels))
        field = rf.gradient_maps(lambda x: chain(weight_key, x), x, magnitude="square")[0]
        return field / field.sum()

    # Threefry in every layer would be nearly all of what is compiled.
    key = jax.random.key(seed, impl="rbg" if chain.dropout else None)
    return jnp.stack([one(key) for key in jax.random.split(key, draws)])


def radius_and_interval(chain: Chain, draws: int) -> rf.Interval:
    """The radius of the mean field in pixels, with 95 % bounds over draws."""
    return rf.bootstrap(rf.radius, fields(chain, draws), key=jax.random.key(1))


def text(interval: rf.Interval) -> str:
    """Value and bounds, to be printed."""
    return f"{interval.value:6.2f} ({interval.low:.2f} to {interval.high:.2f})"
