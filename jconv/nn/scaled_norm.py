"""What the norms share: the parameters scale and bias, and the settings that go with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypedDict, Unpack

import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn.dtypes import promote_dtype as flax_promote_dtype
from jax.nn.initializers import Initializer

from jconv.nn.arguments import NONE, ones_init, parameter, passes_on, zeros_init
from jconv.ops.norm_arguments import Activation, bounds_of


class ScaleOptions(TypedDict, total=False):
    """The keyword arguments of every norm, with Flax's names; see `ScaledNorm`."""

    dtype: Any
    param_dtype: Any
    use_scale: bool
    scale_init: Initializer
    axis_name: str | tuple[str, ...] | None
    axis_index_groups: None
    use_fast_variance: bool
    promote_dtype: Callable[..., Any]
    scale_metadata: Mapping[str, Any]


class NormOptions(ScaleOptions, total=False):
    """Those of a norm with a bias; see `Norm`."""

    use_bias: bool
    bias_init: Initializer
    bias_metadata: Mapping[str, Any]
    activation: Activation | None


class ScaledNorm(nnx.Module):
    """A norm with a parameter scale (num_features,), and the settings that all norms keep.

    Raises:
      ValueError: axis_index_groups, which is not supported.
    """

    def __init__(
        self,
        num_features: int,
        epsilon: float,
        rngs: nnx.Rngs,
        *,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        use_scale: bool = True,
        scale_init: Initializer = ones_init,
        axis_name: str | tuple[str, ...] | None = None,
        axis_index_groups: None = None,
        use_fast_variance: bool = True,
        promote_dtype: Callable[..., Any] = flax_promote_dtype,
        scale_metadata: Mapping[str, Any] = NONE,
    ):
        if axis_index_groups is not None:
            raise ValueError(
                f"{type(self).__name__}: axis_index_groups is not supported, statistics are those "
                f"of all devices along axis_name; got axis_index_groups={axis_index_groups}"
            )
        shape = (num_features,)
        self.scale = parameter(use_scale, scale_init, shape, param_dtype, scale_metadata, rngs)
        self.num_features = num_features
        self.epsilon = epsilon
        self.dtype = dtype
        self.param_dtype = param_dtype
        self.use_scale = use_scale
        self.axis_name = axis_name
        self.promote_dtype = promote_dtype


class Norm(ScaledNorm):
    """A norm with parameters scale and bias, drawn in this order.

    Args:
      activation: "relu" or "relu6" of what is normalised, computed with it.
    """

    @passes_on(ScaledNorm)
    def __init__(
        self,
        num_features: int,
        epsilon: float,
        rngs: nnx.Rngs,
        *,
        use_bias: bool = True,
        bias_init: Initializer = zeros_init,
        bias_metadata: Mapping[str, Any] = NONE,
        activation: Activation | None = None,
        **options: Unpack[ScaleOptions],
    ):
        super().__init__(num_features, epsilon, rngs, **options)
        shape, dtype = (num_features,), self.param_dtype
        self.bias = parameter(use_bias, bias_init, shape, dtype, bias_metadata, rngs)
        self.use_bias = use_bias
        bounds_of(type(self).__name__, activation)
        self.activation: Activation | None = activation
