"""Pooling layers that draw: random numbers as `flax.nnx.Dropout` keeps them, one call to one op."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

import jax
import jax.numpy as jnp
from flax import nnx

from jconv.nn.arguments import passes_on
from jconv.nn.pool import Pooled
from jconv.nn.random_layer import RandomLayer, RandomOptions
from jconv.ops.random_pool import fractional_max_pool, stochastic_pool
from jconv.window import Padding, PerAxis, hashable


class RandomPool(RandomLayer):
    """What the layers here share: in training they draw, in evaluation they do without."""

    _wanted = "rngs must be given, to the layer or to the call, unless it is deterministic"

    def __call__(
        self,
        x: jax.Array,
        *,
        deterministic: bool | None = None,
        rngs: nnx.Rngs | nnx.RngStream | jax.Array | None = None,
    ) -> Pooled:
        """x pooled.

        Args:
          deterministic, rngs: in place of the layer's own; `rngs` may be a key.
        """
        return self.pool(self._key(rngs) if self._draws(deterministic) else None, x)

    def pool(self, key: jax.Array | None, x: jax.Array) -> Pooled:
        """The operation of this layer; without a key, that of evaluation."""
        raise NotImplementedError


class StochasticPool(RandomPool):
    """`jconv.stochastic_pool` as a layer: x (N, *spatial, C) to (N, *output, C).

    Training draws a pixel from each window; evaluation (`deterministic=True`, `model.eval()` or
    `nnx.view`) takes the mean of the draw.

    Args:
      window_shape, strides, padding, ceil_mode: as in `MaxPool`.
      options: the keyword arguments of `RandomLayer`.

    Raises:
      ValueError: when called, a draw without rngs.
    """

    @passes_on(RandomLayer)
    def __init__(
        self,
        window_shape: PerAxis,
        strides: PerAxis | None = None,
        padding: Padding = "VALID",
        *,
        ceil_mode: bool = False,
        **options: Unpack[RandomOptions],
    ):
        super().__init__(**options)
        self.window_shape = hashable(window_shape)
        self.strides = hashable(strides)
        self.padding = hashable(padding)
        self.ceil_mode = ceil_mode

    def pool(self, key: jax.Array | None, x: jax.Array) -> jax.Array:
        """A pixel of each window, or the mean of the draw."""
        return stochastic_pool(
            key, x, self.window_shape, stride=self.strides, padding=self.padding,
            ceil_mode=self.ceil_mode, deterministic=key is None,
        )  # fmt: skip


class FractionalMaxPool(RandomPool):
    """`jconv.fractional_max_pool` as a layer: x (N, *spatial, C) to (N, *output, C).

    Training draws the windows; evaluation (`deterministic=True`, `model.eval()` or `nnx.view`)
    takes those of u = 1/2, the same for every call, example and channel. PyTorch draws in both.

    Args:
      window_shape: pixels, one int for all axes or one per axis.
      output_size, output_ratio, return_indices: as in `jconv.fractional_max_pool`.
      options: the keyword arguments of `RandomLayer`.

    Raises:
      ValueError: when called, a draw without rngs.
    """

    @passes_on(RandomLayer)
    def __init__(
        self,
        window_shape: PerAxis,
        *,
        output_size: PerAxis | None = None,
        output_ratio: float | Sequence[float] | None = None,
        return_indices: bool = False,
        **options: Unpack[RandomOptions],
    ):
        super().__init__(**options)
        self.window_shape = hashable(window_shape)
        self.output_size = hashable(output_size)
        self.output_ratio = hashable(output_ratio)
        self.return_indices = return_indices

    def pool(self, key: jax.Array | None, x: jax.Array) -> Pooled:
        """Maxima, and with return_indices their positions."""
        middle = None if key is not None else jnp.full((x.shape[0], x.shape[-1], x.ndim - 2), 0.5)
        return fractional_max_pool(
            key, x, self.window_shape, output_size=self.output_size,
            output_ratio=self.output_ratio, samples=middle, return_indices=self.return_indices,
        )  # fmt: skip
