"""What the convolution layers share: parameters and settings, inputs and masks checked."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn.dtypes import promote_dtype as flax_promote_dtype
from jax.nn.initializers import Initializer

from jconv.nn.arguments import NONE, default_kernel_init, parameter, value_of, zeros_init
from jconv.window import entries, per_axis, whole

FLAX_MODES = {"CIRCULAR": "circular", "REFLECT": "reflect"}


class ConvolutionOptions(TypedDict, total=False):
    """The keyword arguments of every convolution layer, with Flax's names; see `Convolution`."""

    use_bias: bool
    dtype: Any
    param_dtype: Any
    precision: jax.lax.PrecisionLike
    kernel_init: Initializer
    bias_init: Initializer
    promote_dtype: Callable[..., Any]
    kernel_metadata: Mapping[str, Any]
    bias_metadata: Mapping[str, Any]


class Convolution(nnx.Module):
    """The parameters of a convolution layer, and the settings that every one keeps.

    Args:
      kernels: shapes by name, in the order in which they are drawn from rngs; the bias follows.
      bias_shape: None is (out_features,).
    """

    kernel: nnx.Param[jax.Array]

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: tuple[int, ...],
        kernels: Mapping[str, tuple[int, ...]],
        rngs: nnx.Rngs,
        bias_shape: tuple[int, ...] | None = None,
        *,
        use_bias: bool = True,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        precision: jax.lax.PrecisionLike = None,
        kernel_init: Initializer = default_kernel_init,
        bias_init: Initializer = zeros_init,
        promote_dtype: Callable[..., Any] = flax_promote_dtype,
        kernel_metadata: Mapping[str, Any] = NONE,
        bias_metadata: Mapping[str, Any] = NONE,
    ):
        for name, shape in kernels.items():
            kernel = parameter(True, kernel_init, shape, param_dtype, kernel_metadata, rngs)
            setattr(self, name, kernel)
        shape = (out_features,) if bias_shape is None else bias_shape
        self.bias = parameter(use_bias, bias_init, shape, param_dtype, bias_metadata, rngs)
        self.in_features = in_features
        self.out_features = out_features
        self.kernel_size = kernel_size
        self.use_bias = use_bias
        self.dtype = dtype
        self.param_dtype = param_dtype
        self.precision = precision
        self.promote_dtype = promote_dtype

    def _promoted(self, x: jax.Array, mask: jax.Array | None = None) -> Any:
        """x, the kernel (masked, if there is a mask) and the bias in one dtype, as in Flax."""
        kernel = self.kernel[...] if mask is None else self.kernel[...] * mask
        return self.promote_dtype((x, kernel, value_of(self.bias)), dtype=self.dtype)


def sizes(layer: str, kernel_size: int | Sequence[int]) -> tuple[int, ...]:
    """Taps per axis; as in Flax one int is one axis."""
    many = entries(kernel_size)
    sizes: Any = (kernel_size,) if many is None else many
    if not sizes:
        raise ValueError(
            f"{layer}: kernel_size must have one entry or more, one for each spatial axis; got "
            f"{kernel_size!r}"
        )
    return per_axis(sizes, len(sizes), "kernel_size", layer)


def groups_of(layer: str, in_features: int, out_features: int, feature_group_count: int) -> int:
    """feature_group_count, if the features divide into so many groups."""
    groups = whole(feature_group_count, "feature_group_count", layer)
    if in_features % groups or out_features % groups:
        raise ValueError(
            f"{layer}: in_features and out_features must divide into feature_group_count groups; "
            f"got in_features={in_features}, out_features={out_features}, "
            f"feature_group_count={groups}"
        )
    return groups


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
