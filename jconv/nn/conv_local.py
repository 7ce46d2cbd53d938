"""Locally connected layer: a convolution layer whose pixels don't share their weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Unpack

import jax
import jax.numpy as jnp
from flax import nnx

from jconv.nn.arguments import or_one, passes_on
from jconv.nn.convolution import (
    FLAX_MODES,
    Convolution,
    ConvolutionOptions,
    checked_mask,
    one_batch_axis,
    sizes,
)
from jconv.ops.conv_local import conv_local
from jconv.window import Padding, PerAxis, Window, centred, per_axis


class ConvLocal(Convolution):
    """`flax.linen.ConvLocal`: x (*batch, *input_size, in_features), a filter for every output.

    Parameters, those of Linen: kernel (*output, in_features * prod(kernel_size), out_features),
    whose middle axis holds channel, then tap; bias (*output, out_features). Arguments are Linen's,
    without input_dilation and feature_group_count (which Linen refuses), and:

    Args:
      input_size: pixels per spatial axis, which Linen reads off its first input.
      padding: what `jconv.conv` takes, and Flax's "CIRCULAR" and "REFLECT".
      padding_mode: "zeros" | "reflect" | "replicate" | "circular": what the padding holds.

    Raises:
      ValueError: a mask of another shape than the kernel's, a padding_mode beside a padding that is
        one; when called, inputs of another size.
    """

    @passes_on(Convolution)
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
        mask: jax.Array | None = None,
        rngs: nnx.Rngs,
        **options: Unpack[ConvolutionOptions],
    ):
        taps = sizes("ConvLocal", kernel_size)
        input_size = per_axis(input_size, len(taps), "input_size", "ConvLocal")
        if isinstance(padding, str) and padding in FLAX_MODES:
            if padding_mode != "zeros":
                raise ValueError(
                    f"ConvLocal: padding={padding!r} is a padding_mode of its own; got "
                    f"padding_mode={padding_mode!r} beside it"
                )
            dilation = per_axis(or_one(kernel_dilation), len(taps), "kernel_dilation", "ConvLocal")
            padding, padding_mode = centred(taps, dilation), FLAX_MODES[padding]
        self.window = Window.of(
            input_size, taps, stride=or_one(strides), padding=padding,
            dilation=or_one(kernel_dilation), op="ConvLocal",
        )  # fmt: skip
        output = self.window.output
        shape = (*output, in_features * math.prod(taps), out_features)
        self.mask = nnx.data(checked_mask("ConvLocal", mask, shape))
        super().__init__(
            in_features, out_features, taps, {"kernel": shape}, rngs, (*output, out_features),
            **options,
        )  # fmt: skip
        self.padding_mode = padding_mode

    def __call__(self, inputs: jax.Array) -> jax.Array:
        """y (*batch, *output, out_features) from inputs (*batch, *input_size, in_features)."""
        x, batch = one_batch_axis("ConvLocal", inputs, len(self.kernel_size), self.in_features)
        if x.shape[1:-1] != self.window.input:
            raise ValueError(
                f"ConvLocal: inputs must be (*batch, *input_size, in_features) with input_size="
                f"{self.window.input}; got inputs {(*batch, *x.shape[1:])}"
            )
        x, kernel, bias = self._promoted(x, self.mask)
        w = kernel.reshape(*self.window.output, self.in_features, *self.kernel_size, -1)
        y = conv_local(
            x, jnp.moveaxis(w, len(self.kernel_size), -2), bias, stride=self.window.stride,
            padding=self.window.pads, dilation=self.window.dilation,
            padding_mode=self.padding_mode, precision=self.precision,
        )  # fmt: skip
        return y.reshape(*batch, *y.shape[1:])
