"""Locally connected layer: a convolution layer whose pixels don't share their weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn.dtypes import promote_dtype as flax_promote_dtype
from jax.nn.initializers import Initializer

from jconv.nn.arguments import (
    FLAX_MODES,
    NONE,
    checked_mask,
    default_bias_init,
    default_kernel_init,
    one_batch_axis,
    or_one,
    promoted,
    sizes,
)
from jconv.ops.conv_local import conv_local
from jconv.window import Padding, PerAxis, Window, centred, per_axis


class ConvLocal(nnx.Module):
    """`flax.linen.ConvLocal`: x (*batch, *input_size, in_features), a filter for every output.

    Parameters, those of Linen: kernel (*output, in_features * prod(kernel_size), out_features),
    whose middle axis holds channel, then tap; bias (*output, out_features). Arguments are Linen's,
    without input_dilation and feature_group_count (which Linen refuses), and:

    Args:
      input_size: pixels per spatial axis, which Linen reads off its first input.
      padding: what `jconv.conv` takes, and Flax's "CIRCULAR" and "REFLECT".
      padding_mode: "zeros" | "reflect" | "replicate" | "circular": what the padding holds.

    Raises:
      ValueError: a mask of another shape than the kernel's; when called, inputs of another size.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: int | Sequence[int],
        strides: PerAxis | None = 1,
        *,
        input_size: PerAxis,
        padding: Padding = "SAME",
        padding_mode: str = "zeros",
        kernel_dilation: PerAxis | None = 1,
        use_bias: bool = True,
        mask: jax.Array | None = None,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        precision: jax.lax.PrecisionLike = None,
        kernel_init: Initializer = default_kernel_init,
        bias_init: Initializer = default_bias_init,
        promote_dtype: Callable[..., Any] = flax_promote_dtype,
        rngs: nnx.Rngs,
        kernel_metadata: Mapping[str, Any] = NONE,
        bias_metadata: Mapping[str, Any] = NONE,
    ):
        self.kernel_size = sizes("ConvLocal", kernel_size)
        axes = len(self.kernel_size)
        if isinstance(padding, str) and padding in FLAX_MODES:
            dilation = per_axis(or_one(kernel_dilation), axes, "kernel_dilation", "ConvLocal")
            padding, padding_mode = centred(self.kernel_size, dilation), FLAX_MODES[padding]
        self.window = Window.of(
            per_axis(input_size, axes, "input_size", "ConvLocal"), self.kernel_size,
            stride=or_one(strides), padding=padding, dilation=or_one(kernel_dilation),
            op="ConvLocal",
        )  # fmt: skip
        output = self.window.output
        shape = (*output, in_features * math.prod(self.kernel_size), out_features)
        mask = checked_mask("ConvLocal", mask, shape)
        self.kernel = nnx.Param(kernel_init(rngs.params(), shape, param_dtype), **kernel_metadata)
        self.bias = nnx.data(None)
        if use_bias:
            bias = bias_init(rngs.params(), (*output, out_features), param_dtype)
            self.bias = nnx.Param(bias, **bias_metadata)
        self.in_features = in_features
        self.out_features = out_features
        self.padding_mode = padding_mode
        self.use_bias = use_bias
        self.mask = nnx.data(mask)
        self.dtype = dtype
        self.param_dtype = param_dtype
        self.precision = precision
        self.promote_dtype = promote_dtype

    def __call__(self, inputs: jax.Array) -> jax.Array:
        """y (*batch, *output, out_features) from inputs (*batch, *input_size, in_features)."""
        x, batch = one_batch_axis("ConvLocal", inputs, len(self.kernel_size), self.in_features)
        if x.shape[1:-1] != self.window.input:
            raise ValueError(
                f"ConvLocal: inputs must be (*batch, *input_size, in_features) with input_size="
                f"{self.window.input}; got inputs {inputs.shape}"
            )
        x, kernel, bias = promoted(self, x)
        w = kernel.reshape(*self.window.output, self.in_features, *self.kernel_size, -1)
        y = conv_local(
            x, jnp.moveaxis(w, len(self.kernel_size), -2), bias, stride=self.window.stride,
            padding=self.window.pads, dilation=self.window.dilation,
            padding_mode=self.padding_mode, precision=self.precision,
        )  # fmt: skip
        return y.reshape(*batch, *y.shape[1:])
