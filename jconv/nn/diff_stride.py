"""Spectral pooling as a layer, by a stride that is given or learned (DiffStride)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jconv.ops.spectral_pool import spectral_pool, spectral_size
from jconv.window import PerAxis, hashable


class SpectralPool(nnx.Module):
    """`jconv.spectral_pool` to a size, without parameters: x (N, *spatial, C) to (N, *size, C)."""

    def __init__(self, size: PerAxis):
        self.size = hashable(size)

    def __call__(self, x: jax.Array) -> jax.Array:
        """The frequencies that `size` pixels hold."""
        return spectral_pool(x, size=self.size)


class DiffStride(nnx.Module):
    """Downsampling by a stride that is learned: x (N, *spatial, C) to (N, *size, C).

    Parameter: strides (axes,), or (1,) where they are shared. Put it behind a convolution of stride
    1, in the place of its stride (Riad et al. 2022, arXiv:2202.01653).

    A compiled program has fixed shapes, so the size is fixed in it and the stride moves the mask
    within; `fit` chooses the size anew, between steps: once an epoch, say, for every new size is a
    new compilation. Until then a stride that falls below the one fitted is cut off by the old size;
    one that rises wastes pixels, but changes no result. Without `fit`, and outside of `jit`, every
    call takes the size of its stride.

    Args:
      strides: their first values, real, one for each spatial axis.
      smoothness_factor: frequencies over which the mask falls; the gradient comes from these.
      shared_strides: one parameter for all axes.
      size: of the result, pixels per axis; None until `fit`.
      param_dtype: of the strides.

    Raises:
      ValueError: strides below 1, or shared ones that differ; when called, what
        `jconv.spectral_pool` refuses.
    """

    strides: nnx.Param[jax.Array]

    def __init__(
        self,
        strides: Sequence[float],
        *,
        smoothness_factor: float = 4.0,
        shared_strides: bool = False,
        size: PerAxis | None = None,
        param_dtype: Any = jnp.float32,
    ):
        first = tuple(map(float, strides))
        if not first or min(first) < 1 or (shared_strides and len(set(first)) > 1):
            raise ValueError(
                "DiffStride: strides must be at least 1, one for each spatial axis, and all the "
                f"same where they are shared; got strides={first}, shared_strides={shared_strides}"
            )
        self.axes = len(first)
        self.strides = nnx.Param(jnp.asarray(first[:1] if shared_strides else first, param_dtype))
        self.smoothness_factor = hashable(smoothness_factor)
        self.size = hashable(size)

    def __call__(self, x: jax.Array) -> jax.Array:
        """The frequencies of x that the strides let through."""
        strides = jnp.broadcast_to(self.strides[...], (self.axes,))
        return spectral_pool(x, strides, size=self.size, smoothness=self.smoothness_factor)

    def fit(self, spatial: Sequence[int]) -> tuple[int, ...]:
        """Sets `size` to what the strides leave of images of `spatial` pixels, and returns it.

        Outside of `jit`: the size is part of the graph, which changes.
        """
        strides = jnp.broadcast_to(self.strides[...], (self.axes,))
        self.size = spectral_size(spatial, strides.tolist(), smoothness=self.smoothness_factor)
        return self.size
