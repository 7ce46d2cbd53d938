"""Dropout's relatives as layers: a rate, and one call to one operation of `jconv.ops`."""

from __future__ import annotations

import numbers
from typing import Unpack

import jax
from flax import nnx

from jconv.nn.arguments import passes_on
from jconv.nn.random_layer import RandomLayer, RandomOptions
from jconv.ops.drop_block import drop_block
from jconv.ops.dropout import (
    Rate,
    alpha_dropout,
    channel_dropout,
    gaussian_dropout,
    stochastic_depth,
)
from jconv.window import PerAxis, hashable


class DropLayer(RandomLayer):
    """What the layers here share: in training they drop a share of their inputs.

    Args:
      rate: the share that is dropped, from 0 to 1; may be an array.
      options: the keyword arguments of `RandomLayer`; deterministic=True gives the inputs back.

    Raises:
      ValueError: as `RandomLayer`; when called, what the operation refuses.
    """

    @passes_on(RandomLayer)
    def __init__(self, rate: Rate, **options: Unpack[RandomOptions]):
        super().__init__(**options)
        self.rate = rate

    def __call__(
        self,
        inputs: jax.Array,
        *,
        deterministic: bool | None = None,
        rngs: nnx.Rngs | nnx.RngStream | jax.Array | None = None,
    ) -> jax.Array:
        """The operation on inputs, or in deterministic mode the inputs.

        Args:
          deterministic, rngs: in place of the layer's own; `rngs` may be a key.
        """
        # A rate that is an array may be traced: it can't be compared here.
        nothing = isinstance(self.rate, numbers.Real) and self.rate == 0
        draws = self._draws(deterministic) and not nothing
        return self.drop(self._key(rngs), inputs) if draws else inputs

    def drop(self, key: jax.Array, inputs: jax.Array) -> jax.Array:
        """The operation of this layer."""
        raise NotImplementedError


class ChannelDropout(DropLayer):
    """`jconv.channel_dropout` as a layer: whole channels of inputs (N, *spatial, C)."""

    def drop(self, key: jax.Array, inputs: jax.Array) -> jax.Array:
        """inputs without some channels."""
        return channel_dropout(key, inputs, self.rate)


class AlphaDropout(DropLayer):
    """`jconv.alpha_dropout` as a layer, for networks of `selu`."""

    def drop(self, key: jax.Array, inputs: jax.Array) -> jax.Array:
        """inputs, some of them at SELU's limit."""
        return alpha_dropout(key, inputs, self.rate)


class GaussianDropout(DropLayer):
    """`jconv.gaussian_dropout` as a layer: inputs times normal numbers."""

    def drop(self, key: jax.Array, inputs: jax.Array) -> jax.Array:
        """inputs times normal numbers."""
        return gaussian_dropout(key, inputs, self.rate)


class StochasticDepth(DropLayer):
    """`jconv.stochastic_depth` as a layer, for the end of a residual branch.

    Args:
      mode: "row" or "batch".
      options: those of `RandomLayer`.
    """

    @passes_on(DropLayer)
    def __init__(self, rate: Rate, mode: str = "row", **options: Unpack[RandomOptions]):
        super().__init__(rate, **options)
        self.mode = mode

    def drop(self, key: jax.Array, inputs: jax.Array) -> jax.Array:
        """inputs without some examples."""
        return stochastic_depth(key, inputs, self.rate, self.mode)


class DropBlock(DropLayer):
    """`jconv.drop_block` as a layer: blocks of pixels of inputs (N, *spatial, C).

    Args:
      block_size: pixels, one int for all axes or one per axis.
      options: those of `RandomLayer`.
    """

    @passes_on(DropLayer)
    def __init__(self, rate: Rate, block_size: PerAxis, **options: Unpack[RandomOptions]):
        super().__init__(rate, **options)
        self.block_size = hashable(block_size)

    def drop(self, key: jax.Array, inputs: jax.Array) -> jax.Array:
        """inputs without some blocks."""
        return drop_block(key, inputs, self.rate, self.block_size)
