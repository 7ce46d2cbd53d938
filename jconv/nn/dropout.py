"""Layers that draw random numbers in training: arguments and streams are those of `nnx.Dropout`.

`model.train()` and `model.eval()` switch them, and so does `nnx.view(model, deterministic=...)`.
"""

from __future__ import annotations

from typing import Any

import jax
from flax import nnx

from jconv.ops.drop_block import drop_block
from jconv.ops.dropout import alpha_dropout, channel_dropout, gaussian_dropout, stochastic_depth
from jconv.window import PerAxis


class RandomLayer(nnx.Module):
    """What the layers here share: a rate, the switch, and a stream of keys of their own.

    Args:
      rate: the share that is dropped, from 0 to 1.
      deterministic: True gives the inputs back; None leaves it to the call.
      rng_collection: the stream of `rngs` that the keys come from.
      rngs: `nnx.Rngs` or a stream, which is forked, or None where the call gives them.

    Raises:
      ValueError: no such `rngs`; when called, no keys, no word on `deterministic`, or what the
        operation refuses.
    """

    def __init__(
        self,
        rate: float,
        *,
        deterministic: bool | None = False,
        rng_collection: str = "dropout",
        rngs: nnx.Rngs | nnx.RngStream | None = None,
    ):
        self.rate = rate
        self.deterministic = deterministic
        self.rng_collection = rng_collection
        if rngs is None:
            self.rngs = nnx.data(None)
        elif isinstance(rngs, nnx.Rngs):
            self.rngs = rngs[rng_collection].fork()
        elif isinstance(rngs, nnx.RngStream):
            self.rngs = rngs.fork()
        else:
            raise ValueError(
                f"{type(self).__name__}: rngs must be nnx.Rngs, nnx.RngStream or None; got {rngs!r}"
            )

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
        deterministic = self.deterministic if deterministic is None else deterministic
        if deterministic is None:
            raise ValueError(
                f"{type(self).__name__}: deterministic must be True or False, of the layer or in "
                "the call; got None for both"
            )
        return inputs if deterministic or self.rate == 0 else self.drop(self._key(rngs), inputs)

    def drop(self, key: jax.Array, inputs: jax.Array) -> jax.Array:
        """The operation of this layer."""
        raise NotImplementedError

    def set_view(self, deterministic: bool | None = None) -> None:
        """What `nnx.view(model, deterministic=...)` calls."""
        if deterministic is not None:
            self.deterministic = deterministic

    def _key(self, rngs: Any) -> jax.Array:
        rngs = self.rngs if rngs is None else rngs
        if isinstance(rngs, nnx.Rngs):
            return rngs[self.rng_collection]()
        if isinstance(rngs, nnx.RngStream):
            return rngs()
        if isinstance(rngs, jax.Array):
            return rngs
        raise ValueError(
            f"{type(self).__name__}: rngs must be nnx.Rngs, nnx.RngStream or a key, of the layer "
            f"or in the call; got {rngs!r}"
        )


class ChannelDropout(RandomLayer):
    """`jconv.channel_dropout` as a layer: whole channels of inputs (N, *spatial, C)."""

    def drop(self, key: jax.Array, inputs: jax.Array) -> jax.Array:
        """inputs without some channels."""
        return channel_dropout(key, inputs, self.rate)


class AlphaDropout(RandomLayer):
    """`jconv.alpha_dropout` as a layer, for networks of `selu`."""

    def drop(self, key: jax.Array, inputs: jax.Array) -> jax.Array:
        """inputs, some of them at SELU's limit."""
        return alpha_dropout(key, inputs, self.rate)


class GaussianDropout(RandomLayer):
    """`jconv.gaussian_dropout` as a layer: inputs times normal numbers."""

    def drop(self, key: jax.Array, inputs: jax.Array) -> jax.Array:
        """inputs times normal numbers."""
        return gaussian_dropout(key, inputs, self.rate)


class StochasticDepth(RandomLayer):
    """`jconv.stochastic_depth` as a layer, for the end of a residual branch.

    Args:
      mode: "row" or "batch".
      options: the keyword arguments of `RandomLayer`.
    """

    def __init__(self, rate: float, mode: str = "row", **options: Any):
        super().__init__(rate, **options)
        self.mode = mode

    def drop(self, key: jax.Array, inputs: jax.Array) -> jax.Array:
        """inputs without some examples."""
        return stochastic_depth(key, inputs, self.rate, self.mode)


class DropBlock(RandomLayer):
    """`jconv.drop_block` as a layer: blocks of pixels of inputs (N, *spatial, C).

    Args:
      block_size: pixels, one int for all axes or one per axis.
      options: the keyword arguments of `RandomLayer`.
    """

    def __init__(self, rate: float, block_size: PerAxis, **options: Any):
        super().__init__(rate, **options)
        self.block_size = block_size

    def drop(self, key: jax.Array, inputs: jax.Array) -> jax.Array:
        """inputs without some blocks."""
        return drop_block(key, inputs, self.rate, self.block_size)
