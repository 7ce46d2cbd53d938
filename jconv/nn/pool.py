"""Pooling and reshaping layers without parameters, for `nnx.Sequential`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
from flax import nnx

from jconv.ops.adaptive_pool import (
    OutputSize,
    adaptive_avg_pool,
    adaptive_max_pool,
    global_avg_pool,
    global_max_pool,
)
from jconv.ops.avg_pool import avg_pool
from jconv.ops.lp_pool import lp_pool
from jconv.ops.max_pool import max_pool, min_pool
from jconv.ops.maxout import maxout
from jconv.ops.unpool import max_unpool
from jconv.window import Padding, PerAxis, hashable

type Pooled = Any  # jax.Array, or with return_indices a pair: which, a type checker can't tell


class MaxPool(nnx.Module):
    """`jconv.max_pool` as a layer: x (N, *spatial, C) to (N, *output, C).

    Args:
      window_shape: pixels, one int for all axes or one per axis.
      strides: pixels from one window to the next; None means the window (PyTorch; Flax's functions
        take 1).
      padding, dilation, ceil_mode, return_indices, ties, implementation: as in `jconv.max_pool`.
    """

    def __init__(
        self,
        window_shape: PerAxis,
        strides: PerAxis | None = None,
        padding: Padding = "VALID",
        *,
        dilation: PerAxis = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
        ties: str = "first",
        implementation: str | None = None,
    ):
        self.window_shape = hashable(window_shape)
        self.strides = hashable(strides)
        self.padding = hashable(padding)
        self.dilation = hashable(dilation)
        self.ceil_mode = ceil_mode
        self.return_indices = return_indices
        self.ties = ties
        self.implementation = implementation

    def __call__(self, x: jax.Array) -> Pooled:
        """The largest pixel of each window, and with return_indices its position."""
        return max_pool(x, self.window_shape, **self._options())

    def _options(self):
        return {
            "stride": self.strides, "padding": self.padding, "dilation": self.dilation,
            "ceil_mode": self.ceil_mode, "return_indices": self.return_indices, "ties": self.ties,
            "implementation": self.implementation,
        }  # fmt: skip


class MinPool(MaxPool):
    """`jconv.min_pool` as a layer: x (N, *spatial, C) to (N, *output, C), arguments of MaxPool."""

    def __call__(self, x: jax.Array) -> Pooled:
        """The smallest pixel of each window, and with return_indices its position."""
        return min_pool(x, self.window_shape, **self._options())


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
        divisor_override: float | None = None,
        implementation: str | None = None,
    ):
        self.window_shape = hashable(window_shape)
        self.strides = hashable(strides)
        self.padding = hashable(padding)
        self.ceil_mode = ceil_mode
        self.count_include_pad = count_include_pad
        self.divisor_override = hashable(divisor_override)
        self.implementation = implementation

    def __call__(self, x: jax.Array) -> jax.Array:
        """The mean of each window."""
        return avg_pool(
            x, self.window_shape, stride=self.strides, padding=self.padding,
            ceil_mode=self.ceil_mode, count_include_pad=self.count_include_pad,
            divisor_override=self.divisor_override, implementation=self.implementation,
        )  # fmt: skip


class LPPool(nnx.Module):
    """`jconv.lp_pool` as a layer: x (N, *spatial, C) to (N, *output, C).

    Args:
      window_shape, strides: as in `MaxPool`.
      p, padding, ceil_mode, implementation: as in `jconv.lp_pool`. PyTorch's LPPool2d has p first.
    """

    def __init__(
        self,
        window_shape: PerAxis,
        p: float = 2,
        strides: PerAxis | None = None,
        padding: Padding = "VALID",
        *,
        ceil_mode: bool = False,
        implementation: str | None = None,
    ):
        self.window_shape = hashable(window_shape)
        self.p = hashable(p)
        self.strides = hashable(strides)
        self.padding = hashable(padding)
        self.ceil_mode = ceil_mode
        self.implementation = implementation

    def __call__(self, x: jax.Array) -> jax.Array:
        """The p-norm of each window."""
        return lp_pool(
            x, self.window_shape, self.p, stride=self.strides, padding=self.padding,
            ceil_mode=self.ceil_mode, implementation=self.implementation,
        )  # fmt: skip


class AdaptiveMaxPool(nnx.Module):
    """`jconv.adaptive_max_pool` as a layer: x (N, *spatial, C) to (N, *output_size, C)."""

    def __init__(self, output_size: OutputSize, *, return_indices: bool = False):
        self.output_size = hashable(output_size)
        self.return_indices = return_indices

    def __call__(self, x: jax.Array) -> Pooled:
        """The largest pixel of each bin, and with return_indices its position."""
        return adaptive_max_pool(x, self.output_size, return_indices=self.return_indices)


class AdaptiveAvgPool(nnx.Module):
    """`jconv.adaptive_avg_pool` as a layer: x (N, *spatial, C) to (N, *output_size, C)."""

    def __init__(self, output_size: OutputSize):
        self.output_size = hashable(output_size)

    def __call__(self, x: jax.Array) -> jax.Array:
        """The mean of each bin."""
        return adaptive_avg_pool(x, self.output_size)


class GlobalMaxPool(nnx.Module):
    """The largest pixel of each channel of x (N, *spatial, C): (N, C), or (N, 1, ..., C)."""

    def __init__(self, *, keepdims: bool = False):
        self.keepdims = keepdims

    def __call__(self, x: jax.Array) -> jax.Array:
        """The maximum over all spatial axes."""
        return global_max_pool(x, keepdims=self.keepdims)


class GlobalAvgPool(nnx.Module):
    """The mean of each channel of x (N, *spatial, C): (N, C), or (N, 1, ..., C) with keepdims."""

    def __init__(self, *, keepdims: bool = False):
        self.keepdims = keepdims

    def __call__(self, x: jax.Array) -> jax.Array:
        """The mean over all spatial axes."""
        return global_avg_pool(x, keepdims=self.keepdims)


class MaxUnpool(nnx.Module):
    """`jconv.max_unpool` as a layer: y and its positions (N, *spatial, C) to (N, *output, C).

    Args:
      window_shape, strides, padding, dilation: those of the `MaxPool` whose positions come in.
    """

    def __init__(
        self,
        window_shape: PerAxis,
        strides: PerAxis | None = None,
        padding: Padding = "VALID",
        *,
        dilation: PerAxis = 1,
    ):
        self.window_shape = hashable(window_shape)
        self.strides = hashable(strides)
        self.padding = hashable(padding)
        self.dilation = hashable(dilation)

    def __call__(
        self, y: jax.Array, indices: jax.Array, output_size: int | Sequence[int] | None = None
    ) -> jax.Array:
        """y at its positions in an image of zeros; `output_size` where the window does not tell."""
        return max_unpool(
            y, indices, self.window_shape, stride=self.strides, padding=self.padding,
            dilation=self.dilation, output_size=output_size,
        )  # fmt: skip


class Maxout(nnx.Module):
    """`jconv.maxout` as a layer: x (..., C) to (..., C/pieces)."""

    def __init__(self, pieces: int):
        self.pieces = pieces

    def __call__(self, x: jax.Array) -> jax.Array:
        """The largest of every `pieces` successive channels."""
        return maxout(x, self.pieces)


class Flatten(nnx.Module):
    """x (N, ...) as (N, everything else), row-major: channels of one pixel stay together."""

    def __call__(self, x: jax.Array) -> jax.Array:
        """x with all axes but the first as one."""
        return x.reshape(x.shape[0], math.prod(x.shape[1:]))
