"""Resizing, pixel shuffling and deformable convolution: one call to an operation of `jconv.ops`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn.dtypes import promote_dtype as flax_promote_dtype
from jax.nn.initializers import Initializer

from jconv.nn.arguments import NONE
from jconv.nn.conv import Conv
from jconv.ops.deform_conv import deform_conv
from jconv.ops.pixel_shuffle import pixel_shuffle, pixel_unshuffle
from jconv.ops.resize import resize
from jconv.window import Padding, PerAxis, per_axis, whole

default_kernel_init = nnx.initializers.lecun_normal()
zeros_init = nnx.initializers.zeros_init()


class Resize(nnx.Module):
    """`jconv.resize` as a layer: x (N, *spatial, C) to (N, *size, C).

    Args:
      size, scale, method, align_corners, antialias, implementation: as in `jconv.resize`; one of
        size and scale.
    """

    def __init__(
        self,
        size: PerAxis | None = None,
        *,
        scale: float | Sequence[float] | None = None,
        method: str = "nearest",
        align_corners: bool = False,
        antialias: bool = False,
        implementation: str | None = None,
    ):
        self.size = size
        self.scale = scale
        self.method = method
        self.align_corners = align_corners
        self.antialias = antialias
        self.implementation = implementation

    def __call__(self, x: jax.Array) -> jax.Array:
        """x at its new size."""
        return resize(
            x, self.size, scale=self.scale, method=self.method, align_corners=self.align_corners,
            antialias=self.antialias, implementation=self.implementation,
        )  # fmt: skip


class PixelShuffle(nnx.Module):
    """`jconv.pixel_shuffle`: x (N, *spatial, C * prod(factor)) to (N, *spatial * factor, C)."""

    def __init__(self, factor: PerAxis):
        self.factor = factor

    def __call__(self, x: jax.Array) -> jax.Array:
        """Blocks of channels as blocks of pixels."""
        return pixel_shuffle(x, self.factor)


class PixelUnshuffle(nnx.Module):
    """`jconv.pixel_unshuffle`: x (N, *spatial * factor, C) to (N, *spatial, C * prod(factor))."""

    def __init__(self, factor: PerAxis):
        self.factor = factor

    def __call__(self, x: jax.Array) -> jax.Array:
        """Blocks of pixels as blocks of channels."""
        return pixel_unshuffle(x, self.factor)


class DeformConv(nnx.Module):
    """Deformable convolution: x (N, *spatial, in_features) to (N, *output, out_features).

    Parameters: kernel (*kernel_size, in_features / feature_group_count, out_features) and bias
    (out_features,), and two convolutions of x, `offset` and `modulation`, with the same windows,
    that say where each tap reads and, through a sigmoid, what it is multiplied by. Both start at 0:
    at first taps stand on their regular places, each multiplied by 1/2, as in the paper. There,
    these two learn at a tenth of the rate of the rest.

    Args:
      kernel_size: taps per axis; as many entries as there are spatial axes.
      offset_groups: channels are split into so many groups, each with offsets of its own.
      use_modulation: False leaves the factors out (version 1).

    Raises:
      ValueError: features that don't divide into groups; when called, an input that
        `jconv.deform_conv` refuses.

    References: Dai et al. 2017, arXiv:1703.06211; Zhu et al. 2019, arXiv:1811.11168.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: int | Sequence[int],
        strides: PerAxis = 1,
        *,
        padding: Padding = "SAME",
        kernel_dilation: PerAxis = 1,
        feature_group_count: int = 1,
        offset_groups: int = 1,
        use_modulation: bool = True,
        use_bias: bool = True,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        precision: jax.lax.PrecisionLike = None,
        kernel_init: Initializer = default_kernel_init,
        bias_init: Initializer = zeros_init,
        promote_dtype: Callable[..., Any] = flax_promote_dtype,
        rngs: nnx.Rngs,
        kernel_metadata: Mapping[str, Any] = NONE,
        bias_metadata: Mapping[str, Any] = NONE,
    ):
        sizes = tuple(kernel_size) if isinstance(kernel_size, Sequence) else (kernel_size,)
        self.kernel_size = per_axis(sizes, len(sizes), "kernel_size", "DeformConv")
        groups = whole(feature_group_count, "feature_group_count", "DeformConv")
        offset_groups = whole(offset_groups, "offset_groups", "DeformConv")
        if in_features % groups or out_features % groups or in_features % offset_groups:
            raise ValueError(
                "DeformConv: in_features and out_features must divide into feature_group_count "
                f"groups, in_features into offset_groups; got in_features={in_features}, "
                f"out_features={out_features}, feature_group_count={groups}, "
                f"offset_groups={offset_groups}"
            )
        shape = (*self.kernel_size, in_features // groups, out_features)
        self.kernel = nnx.Param(kernel_init(rngs.params(), shape, param_dtype), **kernel_metadata)
        self.bias = nnx.data(None)
        if use_bias:
            bias = bias_init(rngs.params(), (out_features,), param_dtype)
            self.bias = nnx.Param(bias, **bias_metadata)

        def zeros(channels):
            return Conv(
                in_features, channels, self.kernel_size, strides, padding=padding,
                kernel_dilation=kernel_dilation, dtype=dtype, param_dtype=param_dtype,
                precision=precision, kernel_init=zeros_init, promote_dtype=promote_dtype, rngs=rngs,
            )  # fmt: skip

        taps = offset_groups * math.prod(self.kernel_size)
        self.offset = zeros(taps * len(self.kernel_size))
        self.modulation = nnx.data(zeros(taps) if use_modulation else None)
        self.strides = strides
        self.padding = padding
        self.kernel_dilation = kernel_dilation
        self.feature_group_count = groups
        self.dtype = dtype
        self.precision = precision
        self.promote_dtype = promote_dtype

    def __call__(self, x: jax.Array) -> jax.Array:
        """y (N, *output, out_features)."""
        mask = None if self.modulation is None else jax.nn.sigmoid(self.modulation(x))
        offset = self.offset(x)
        bias = None if self.bias is None else self.bias[...]
        x, kernel, bias = self.promote_dtype((x, self.kernel[...], bias), dtype=self.dtype)
        return deform_conv(
            x, offset, kernel, bias, mask, stride=self.strides, padding=self.padding,
            dilation=self.kernel_dilation, groups=self.feature_group_count,
            precision=self.precision,
        )  # fmt: skip
