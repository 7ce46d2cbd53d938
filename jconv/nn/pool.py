"""Pooling and reshaping layers without parameters, for `nnx.Sequential`."""

from __future__ import annotations

import math

import jax
from flax import nnx

from jconv.ops import avg_pool, max_pool
from jconv.window import Padding, PerAxis


class MaxPool(nnx.Module):
    """`jconv.max_pool` as a layer: x (N, *spatial, C) to (N, *output, C).

    Args:
      window_shape: pixels, one int for all axes or one per axis.
      strides: pixels from one window to the next; None means the window (PyTorch; Flax's functions
        take 1).
      padding, dilation, ceil_mode, implementation: as in `jconv.max_pool`.
    """

    def __init__(
        self,
        window_shape: PerAxis,
        strides: PerAxis | None = None,
        padding: Padding = "VALID",
        *,
        dilation: PerAxis = 1,
        ceil_mode: bool = False,
        implementation: str | None = None,
    ):
        self.window_shape = window_shape
        self.strides = strides
        self.padding = padding
        self.dilation = dilation
        self.ceil_mode = ceil_mode
        self.implementation = implementation

    def __call__(self, x: jax.Array) -> jax.Array:
        """The largest pixel of each window."""
        y = max_pool(
            x, self.window_shape, stride=self.strides, padding=self.padding, dilation=self.dilation,
            ceil_mode=self.ceil_mode, implementation=self.implementation,
        )  # fmt: skip
        assert isinstance(y, jax.Array)
        return y


class AvgPool(nnx.Module):
    """`jconv.avg_pool` as a layer: x (N, *spatial, C) to (N, *output, C).

    Args:
      window_shape, strides: as in `MaxPool`.
      padding, ceil_mode, count_include_pad, divisor_override, implementation: as in
        `jconv.avg_pool`.
    """

    def __init__(
        self,
        window_shape: PerAxis,
        strides: PerAxis | None = None,
        padding: Padding = "VALID",
        *,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
        implementation: str | None = None,
    ):
        self.window_shape = window_shape
        self.strides = strides
        self.padding = padding
        self.ceil_mode = ceil_mode
        self.count_include_pad = count_include_pad
        self.divisor_override = divisor_override
        self.implementation = implementation

    def __call__(self, x: jax.Array) -> jax.Array:
        """The mean of each window."""
        return avg_pool(
            x, self.window_shape, stride=self.strides, padding=self.padding,
            ceil_mode=self.ceil_mode, count_include_pad=self.count_include_pad,
            divisor_override=self.divisor_override, implementation=self.implementation,
        )  # fmt: skip


class GlobalAvgPool(nnx.Module):
    """The mean of each channel of x (N, *spatial, C): (N, C)."""

    def __call__(self, x: jax.Array) -> jax.Array:
        """The mean over all spatial axes."""
        return avg_pool(x, x.shape[1:-1]).reshape(x.shape[0], x.shape[-1])


class Flatten(nnx.Module):
    """x (N, ...) as (N, everything else), row-major: channels of one pixel stay together."""

    def __call__(self, x: jax.Array) -> jax.Array:
        """x with all axes but the first as one."""
        return x.reshape(x.shape[0], math.prod(x.shape[1:]))
