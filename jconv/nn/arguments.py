"""What the convolution layers share: Flax's arguments read, and inputs and masks checked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax.numpy as jnp
from flax import nnx

from jconv.window import per_axis

default_kernel_init = nnx.initializers.lecun_normal()
default_bias_init = nnx.initializers.zeros_init()

NONE: Mapping[str, Any] = MappingProxyType({})
FLAX_MODES = {"CIRCULAR": "circular", "REFLECT": "reflect"}


def or_one(value):
    """Flax's None for 1."""
    return 1 if value is None else value


def sizes(layer, kernel_size):
    """Taps per axis; as in Flax one int is one axis."""
    sizes = tuple(kernel_size) if isinstance(kernel_size, Sequence) else (kernel_size,)
    return per_axis(sizes, len(sizes), "kernel_size", layer)


def promoted(layer, x):
    """x, the kernel (masked, if there is a mask) and the bias in one dtype, as in Flax."""
    kernel = layer.kernel[...] if layer.mask is None else layer.kernel[...] * layer.mask
    bias = None if layer.bias is None else layer.bias[...]
    return layer.promote_dtype((x, kernel, bias), dtype=layer.dtype)


def one_batch_axis(layer, x, spatial, features):
    """x with its leading axes, any number of them, as one, and their shape."""
    x = jnp.asarray(x)
    if x.ndim < spatial + 1:
        raise ValueError(
            f"{layer}: inputs must be (*batch, *spatial, in_features) with {spatial} spatial "
            f"axes, one for each entry of kernel_size; got inputs of rank {x.ndim}, shape "
            f"{x.shape}"
        )
    if x.shape[-1] != features:
        raise ValueError(
            f"{layer}: inputs have {x.shape[-1]} channels but in_features={features}; got inputs "
            f"{x.shape}, (*batch, *spatial, in_features)"
        )
    batch = x.shape[: x.ndim - spatial - 1]
    return x.reshape(math.prod(batch), *x.shape[len(batch) :]), batch


def checked_mask(layer, mask, shape):
    """The mask as an array, if it has the kernel's shape."""
    if mask is None:
        return None
    mask = jnp.asarray(mask)
    if mask.shape != shape:
        raise ValueError(
            f"{layer}: mask must have the kernel's shape {shape}; got mask {mask.shape}"
        )
    return mask
