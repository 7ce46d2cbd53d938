"""Depthwise and depthwise-separable convolution layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

import jax
from flax import nnx

from jconv.nn.arguments import or_one, passes_on, value_of
from jconv.nn.conv import Conv
from jconv.nn.convolution import Convolution, ConvolutionOptions, one_batch_axis, sizes
from jconv.ops.separable_conv import separable_conv
from jconv.window import Padding, PerAxis, hashable, per_axis, whole


class DepthwiseConv(Conv):
    """Each channel convolved with filters of its own.

    `Conv` with as many groups as channels, and nothing else: parameters kernel (*kernel_size, 1,
    in_features * channel_multiplier) and bias, those of
    `flax.nnx.Conv(feature_group_count=in_features)`.

    Args:
      channel_multiplier: filters for each channel.
      options: the keyword arguments of `Conv`.

    Raises:
      ValueError: as `Conv`.
    """

    def __init__(
        self,
        in_features: int,
        kernel_size: int | Sequence[int],
        strides: PerAxis | None = 1,
        *,
        channel_multiplier: int = 1,
        rngs: nnx.Rngs,
        **options: Any,
    ):
        multiplier = whole(channel_multiplier, "channel_multiplier", "DepthwiseConv")
        super().__init__(
            in_features, in_features * multiplier, kernel_size, strides,
            feature_group_count=in_features, rngs=rngs, **options,
        )  # fmt: skip
        self.channel_multiplier = multiplier


class SeparableConv(Convolution):
    """Depthwise convolution, then its channels mixed: (*batch, *output, out_features).

    Parameters: depthwise_kernel (*kernel_size, 1, in_features * channel_multiplier),
    pointwise_kernel (1, ..., 1, in_features * channel_multiplier, out_features), bias
    (out_features,): Keras's, whose depthwise kernel has the last two axes (in_features,
    channel_multiplier). Other arguments are those of `Conv`.

    Args:
      channel_multiplier: depthwise filters for each channel.

    Raises:
      ValueError: when called, as `Conv`.
    """

    depthwise_kernel: nnx.Param[jax.Array]
    pointwise_kernel: nnx.Param[jax.Array]

    @passes_on(Convolution)
    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: int | Sequence[int],
        strides: PerAxis | None = 1,
        *,
        channel_multiplier: int = 1,
        padding: Padding = "SAME",
        padding_mode: str = "zeros",
        kernel_dilation: PerAxis | None = 1,
        implementation: str | None = None,
        rngs: nnx.Rngs,
        **options: Unpack[ConvolutionOptions],
    ):
        name = "SeparableConv"
        taps = sizes(name, kernel_size)
        multiplier = whole(channel_multiplier, "channel_multiplier", name)
        channels = in_features * multiplier
        kernels = {
            "depthwise_kernel": (*taps, 1, channels),
            "pointwise_kernel": (*(1 for _ in taps), channels, out_features),
        }
        super().__init__(in_features, out_features, taps, kernels, rngs, **options)
        self.strides = per_axis(or_one(strides), len(taps), "strides", name)
        self.channel_multiplier = multiplier
        self.padding = hashable(padding)
        self.padding_mode = padding_mode
        self.kernel_dilation = per_axis(or_one(kernel_dilation), len(taps), "kernel_dilation", name)
        self.implementation = implementation

    def __call__(self, inputs: jax.Array) -> jax.Array:
        """y (*batch, *output, out_features) from inputs (*batch, *spatial, in_features)."""
        x, batch = one_batch_axis("SeparableConv", inputs, len(self.kernel_size), self.in_features)
        values = map(value_of, (self.depthwise_kernel, self.pointwise_kernel, self.bias))
        x, depthwise, pointwise, bias = self.promote_dtype((x, *values), dtype=self.dtype)
        y = separable_conv(
            x, depthwise, pointwise, bias, stride=self.strides, padding=self.padding,
            dilation=self.kernel_dilation, padding_mode=self.padding_mode,
            precision=self.precision, implementation=self.implementation,
        )  # fmt: skip
        return y.reshape(*batch, *y.shape[1:])
