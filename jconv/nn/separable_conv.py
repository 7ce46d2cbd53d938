"""Depthwise and depthwise-separable convolution layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn.dtypes import promote_dtype as flax_promote_dtype
from jax.nn.initializers import Initializer

from jconv.nn.arguments import (
    NONE,
    default_bias_init,
    default_kernel_init,
    one_batch_axis,
    or_one,
    sizes,
)
from jconv.nn.conv import Conv
from jconv.ops.separable_conv import separable_conv
from jconv.window import Padding, PerAxis, whole


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


class SeparableConv(nnx.Module):
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
        use_bias: bool = True,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        precision: jax.lax.PrecisionLike = None,
        kernel_init: Initializer = default_kernel_init,
        bias_init: Initializer = default_bias_init,
        promote_dtype: Callable[..., Any] = flax_promote_dtype,
        implementation: str | None = None,
        rngs: nnx.Rngs,
        kernel_metadata: Mapping[str, Any] = NONE,
        bias_metadata: Mapping[str, Any] = NONE,
    ):
        self.kernel_size = sizes("SeparableConv", kernel_size)
        multiplier = whole(channel_multiplier, "channel_multiplier", "SeparableConv")
        channels, one_tap = in_features * multiplier, (1,) * len(self.kernel_size)
        depthwise = kernel_init(rngs.params(), (*self.kernel_size, 1, channels), param_dtype)
        pointwise = kernel_init(rngs.params(), (*one_tap, channels, out_features), param_dtype)
        self.depthwise_kernel = nnx.Param(depthwise, **kernel_metadata)
        self.pointwise_kernel = nnx.Param(pointwise, **kernel_metadata)
        self.bias = nnx.data(None)
        if use_bias:
            bias = bias_init(rngs.params(), (out_features,), param_dtype)
            self.bias = nnx.Param(bias, **bias_metadata)
        self.in_features = in_features
        self.out_features = out_features
        self.strides = strides
        self.channel_multiplier = multiplier
        self.padding = padding
        self.padding_mode = padding_mode
        self.kernel_dilation = kernel_dilation
        self.use_bias = use_bias
        self.dtype = dtype
        self.param_dtype = param_dtype
        self.precision = precision
        self.promote_dtype = promote_dtype
        self.implementation = implementation

    def __call__(self, inputs: jax.Array) -> jax.Array:
        """y (*batch, *output, out_features) from inputs (*batch, *spatial, in_features)."""
        x, batch = one_batch_axis("SeparableConv", inputs, len(self.kernel_size), self.in_features)
        kernels = self.depthwise_kernel[...], self.pointwise_kernel[...]
        bias = None if self.bias is None else self.bias[...]
        x, depthwise, pointwise, bias = self.promote_dtype((x, *kernels, bias), dtype=self.dtype)
        y = separable_conv(
            x, depthwise, pointwise, bias, stride=or_one(self.strides), padding=self.padding,
            dilation=or_one(self.kernel_dilation), padding_mode=self.padding_mode,
            precision=self.precision, implementation=self.implementation,
        )  # fmt: skip
        return y.reshape(*batch, *y.shape[1:])
