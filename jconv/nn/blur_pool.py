"""Blur pooling as a layer without parameters, for `nnx.Sequential`."""

from __future__ import annotations

import jax
from flax import nnx

from jconv.ops.blur_pool import blur_pool
from jconv.window import PerAxis, hashable


class BlurPool(nnx.Module):
    """`jconv.blur_pool` as a layer: x (N, *spatial, C) to (N, *output, C).

    Args:
      window_shape: taps of the binomial filter, one int for all axes or one per axis.
      strides: pixels from one window to the next.
      padding_mode: as in `jconv.blur_pool`.
    """

    def __init__(
        self,
        window_shape: PerAxis = 3,
        strides: PerAxis = 2,
        *,
        padding_mode: str = "reflect",
    ):
        self.window_shape = hashable(window_shape)
        self.strides = hashable(strides)
        self.padding_mode = padding_mode

    def __call__(self, x: jax.Array) -> jax.Array:
        """The blurred image, strided."""
        return blur_pool(x, self.window_shape, stride=self.strides, padding_mode=self.padding_mode)
