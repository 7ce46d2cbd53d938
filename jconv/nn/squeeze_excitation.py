"""Squeeze and excitation: each channel of an image scaled by what the whole image shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.nn.initializers import Initializer

from jconv.nn.arguments import default_kernel_init, zeros_init
from jconv.nn.pool import GlobalAvgPool


class SqueezeExcitation(nnx.Module):
    """x * s for x (N, *spatial, input_channels), s = scale_activation(fc2(activation(fc1(mean)))).

    As `torchvision.ops.SqueezeExcitation`, on any number of spatial axes: fc1 and fc2 are linear
    layers, kernel (input_channels, squeeze_channels) and back, where torchvision has 1x1
    convolutions.

    Args:
      squeeze_channels: the paper has input_channels / 16.
      activation, scale_activation: functions of arrays.
      dtype, param_dtype, kernel_init, bias_init: those of the linear layers.

    Raises:
      ValueError: when called, an x of another number of channels or without spatial axes.

    Reference: Hu, Shen & Sun 2018, arXiv:1709.01507.
    """

    def __init__(
        self,
        input_channels: int,
        squeeze_channels: int,
        activation: Callable[[jax.Array], jax.Array] = jax.nn.relu,
        scale_activation: Callable[[jax.Array], jax.Array] = jax.nn.sigmoid,
        *,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        kernel_init: Initializer = default_kernel_init,
        bias_init: Initializer = zeros_init,
        rngs: nnx.Rngs,
    ):
        def linear(inputs: int, outputs: int) -> nnx.Linear:
            return nnx.Linear(
                inputs, outputs, dtype=dtype, param_dtype=param_dtype, kernel_init=kernel_init,
                bias_init=bias_init, rngs=rngs,
            )  # fmt: skip

        self.pool = GlobalAvgPool()
        self.fc1 = linear(input_channels, squeeze_channels)
        self.fc2 = linear(squeeze_channels, input_channels)
        self.input_channels = input_channels
        self.activation = activation
        self.scale_activation = scale_activation

    def __call__(self, inputs: jax.Array) -> jax.Array:
        """inputs (N, *spatial, C), each channel times its scale; of the inputs' dtype."""
        if inputs.ndim < 3 or inputs.shape[-1] != self.input_channels:
            raise ValueError(
                "SqueezeExcitation: inputs must be (N, *spatial, C) with "
                f"C=input_channels={self.input_channels}; got inputs {inputs.shape}"
            )
        scale = self.scale_activation(self.fc2(self.activation(self.fc1(self.pool(inputs)))))
        axes = tuple(range(1, inputs.ndim - 1))
        return inputs * jnp.expand_dims(scale, axes).astype(inputs.dtype)
