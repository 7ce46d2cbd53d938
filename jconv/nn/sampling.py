"""Resizing, pixel shuffling and deformable convolution: one call to an operation of `jconv.ops`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Unpack

import jax
from flax import nnx

from jconv.nn.arguments import or_one, passes_on, zeros_init
from jconv.nn.conv import Conv
from jconv.nn.convolution import Convolution, ConvolutionOptions, sizes
from jconv.ops.deform_conv import deform_conv
from jconv.ops.pixel_shuffle import pixel_shuffle, pixel_unshuffle
from jconv.ops.resize import resize
from jconv.window import Padding, PerAxis, hashable, per_axis, whole


class Resize(nnx.Module):
    """`jconv.resize` as a layer: x (N, *spatial, C) to (N, *size, C).

    Args:
      size, scale, method, align_corners, antialias, implementation: as in `jconv.resize`.

    Raises:
      ValueError: not one of size and scale; when called, what `jconv.resize` refuses.
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
        if (size is None) == (scale is None):
            raise ValueError(
                f"Resize: either size or scale must be given; got size={size}, scale={scale}"
            )
        self.size = hashable(size)
        self.scale = hashable(scale)
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
        self.factor = hashable(factor)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Blocks of channels as blocks of pixels."""
        return pixel_shuffle(x, self.factor)


class PixelUnshuffle(nnx.Module):
    """`jconv.pixel_unshuffle`: x (N, *spatial * factor, C) to (N, *spatial, C * prod(factor))."""

    def __init__(self, factor: PerAxis):
        self.factor = hashable(factor)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Blocks of pixels as blocks of channels."""
        return pixel_unshuffle(x, self.factor)


class DeformConv(Convolution):
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

    @passes_on(Convolution)
    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: int | Sequence[int],
        strides: PerAxis | None = 1,
        *,
        padding: Padding = "SAME",
        kernel_dilation: PerAxis | None = 1,
        feature_group_count: int = 1,
        offset_groups: int = 1,
        use_modulation: bool = True,
        rngs: nnx.Rngs,
        **options: Unpack[ConvolutionOptions],
    ):
        name = "DeformConv"
        in_features = whole(in_features, "in_features", name)
        out_features = whole(out_features, "out_features", name)
        taps = sizes(name, kernel_size)
        groups = whole(feature_group_count, "feature_group_count", name)
        offset_groups = whole(offset_groups, "offset_groups", name)
        if in_features % groups or out_features % groups or in_features % offset_groups:
            raise ValueError(
                "DeformConv: in_features and out_features must divide into feature_group_count "
                f"groups, in_features into offset_groups; got in_features={in_features}, "
                f"out_features={out_features}, feature_group_count={groups}, "
                f"offset_groups={offset_groups}"
            )
        shape = (*taps, in_features // groups, out_features)
        super().__init__(in_features, out_features, taps, {"kernel": shape}, rngs, **options)
        self.strides = per_axis(or_one(strides), len(taps), "strides", name)
        self.padding = hashable(padding)
        self.kernel_dilation = per_axis(or_one(kernel_dilation), len(taps), "kernel_dilation", name)
        self.feature_group_count = groups
        offsets = offset_groups * math.prod(taps)
        self.offset = self._zeros(offsets * len(taps), rngs)
        self.modulation = nnx.data(self._zeros(offsets, rngs) if use_modulation else None)

    def _zeros(self, channels, rngs):
        """A convolution of x with the same windows, whose parameters are 0."""
        return Conv(
            self.in_features, channels, self.kernel_size, self.strides, padding=self.padding,
            kernel_dilation=self.kernel_dilation, dtype=self.dtype, param_dtype=self.param_dtype,
            precision=self.precision, kernel_init=zeros_init, promote_dtype=self.promote_dtype,
            rngs=rngs,
        )  # fmt: skip

    def __call__(self, x: jax.Array) -> jax.Array:
        """y (N, *output, out_features)."""
        mask = None if self.modulation is None else jax.nn.sigmoid(self.modulation(x))
        offset = self.offset(x)
        x, kernel, bias = self._promoted(x)
        return deform_conv(
            x, offset, kernel, bias, mask, stride=self.strides, padding=self.padding,
            dilation=self.kernel_dilation, groups=self.feature_group_count,
            precision=self.precision,
        )  # fmt: skip
