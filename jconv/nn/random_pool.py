"""Pooling layers that draw: random numbers as `flax.nnx.Dropout` keeps them, one call to one op."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jconv.nn.pool import Pooled
from jconv.ops.random_pool import fractional_max_pool, stochastic_pool
from jconv.window import Padding, PerAxis


class _Random(nnx.Module):
    """Where a layer's keys come from, and whether it draws at all."""

    def __init__(self, deterministic: bool, rng_collection: str, rngs: Any):
        if isinstance(rngs, nnx.Rngs):
            rngs = rngs[rng_collection]
        self.deterministic = deterministic
        self.rng_collection = rng_collection
        self.rngs = nnx.data(None) if rngs is None else rngs.fork()

    def set_view(self, deterministic: bool | None = None) -> None:
        """What `nnx.view(model, deterministic=...)` calls."""
        if deterministic is not None:
            self.deterministic = deterministic

    def _key(self, deterministic, rngs):
        """A key, or None where nothing is drawn."""
        if self.deterministic if deterministic is None else deterministic:
            return None
        rngs = self.rngs if rngs is None else rngs
        if rngs is None:
            raise ValueError(
                f"{type(self).__name__}: rngs must be given, to the layer or to the call, unless "
                "it is deterministic; got rngs=None"
            )
        if isinstance(rngs, nnx.Rngs):
            rngs = rngs[self.rng_collection]
        return rngs() if isinstance(rngs, nnx.RngStream) else rngs


class StochasticPool(_Random):
    """`jconv.stochastic_pool` as a layer: x (N, *spatial, C) to (N, *output, C).

    Training draws a pixel from each window; evaluation (`deterministic=True`, `model.eval()` or
    `nnx.view`) takes the mean of the draw.

    Args:
      window_shape, strides, padding, ceil_mode: as in `MaxPool`.
      rng_collection: the stream of `rngs` that keys are taken from.
      rngs: `nnx.Rngs` or a stream; None where every call brings its own or nothing is drawn.

    Raises:
      ValueError: when called, a draw without rngs.
    """

    def __init__(
        self,
        window_shape: PerAxis,
        strides: PerAxis | None = None,
        padding: Padding = "VALID",
        *,
        ceil_mode: bool = False,
        deterministic: bool = False,
        rng_collection: str = "dropout",
        rngs: nnx.Rngs | nnx.RngStream | None = None,
    ):
        super().__init__(deterministic, rng_collection, rngs)
        self.window_shape = window_shape
        self.strides = strides
        self.padding = padding
        self.ceil_mode = ceil_mode

    def __call__(
        self,
        x: jax.Array,
        *,
        deterministic: bool | None = None,
        rngs: nnx.Rngs | nnx.RngStream | jax.Array | None = None,
    ) -> jax.Array:
        """A pixel of each window; both arguments go before the layer's own."""
        key = self._key(deterministic, rngs)
        return stochastic_pool(
            key, x, self.window_shape, stride=self.strides, padding=self.padding,
            ceil_mode=self.ceil_mode, deterministic=key is None,
        )  # fmt: skip


class FractionalMaxPool(_Random):
    """`jconv.fractional_max_pool` as a layer: x (N, *spatial, C) to (N, *output, C).

    Training draws the windows; evaluation (`deterministic=True`, `model.eval()` or `nnx.view`)
    takes those of u = 1/2, the same for every call, example and channel. PyTorch draws in both.

    Args:
      window_shape: pixels, one int for all axes or one per axis.
      output_size, output_ratio, return_indices: as in `jconv.fractional_max_pool`.
      rng_collection, rngs: as in `StochasticPool`.

    Raises:
      ValueError: when called, a draw without rngs.
    """

    def __init__(
        self,
        window_shape: PerAxis,
        *,
        output_size: PerAxis | None = None,
        output_ratio: float | Sequence[float] | None = None,
        return_indices: bool = False,
        deterministic: bool = False,
        rng_collection: str = "dropout",
        rngs: nnx.Rngs | nnx.RngStream | None = None,
    ):
        super().__init__(deterministic, rng_collection, rngs)
        self.window_shape = window_shape
        self.output_size = output_size
        self.output_ratio = output_ratio
        self.return_indices = return_indices

    def __call__(
        self,
        x: jax.Array,
        *,
        deterministic: bool | None = None,
        rngs: nnx.Rngs | nnx.RngStream | jax.Array | None = None,
    ) -> Pooled:
        """Maxima, and with return_indices their positions; both arguments go before the layer's
        own.
        """
        key = self._key(deterministic, rngs)
        middle = None if key is not None else jnp.full((x.shape[0], x.shape[-1], x.ndim - 2), 0.5)
        return fractional_max_pool(
            key, x, self.window_shape, output_size=self.output_size,
            output_ratio=self.output_ratio, samples=middle, return_indices=self.return_indices,
        )  # fmt: skip
