"""Partial convolution layer: an image and its mask in, an image and its mask out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn.dtypes import promote_dtype as flax_promote_dtype
from jax.nn.initializers import Initializer

from jconv.nn.arguments import NONE, default_bias_init, default_kernel_init, or_one, sizes
from jconv.ops.partial_conv import partial_conv
from jconv.window import Padding, PerAxis, whole


class PartialConv(nnx.Module):
    """`jconv.partial_conv` with parameters kernel and bias, those of `Conv`.

    Arguments are those of `Conv`.

    Raises:
      ValueError: features that don't divide into groups; when called, inputs or a mask of another
        shape.

    Reference: Liu et al. 2018, arXiv:1804.07723.
    """

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
        self.kernel_size = sizes("PartialConv", kernel_size)
        groups = whole(feature_group_count, "feature_group_count", "PartialConv")
        if in_features % groups or out_features % groups:
            raise ValueError(
                "PartialConv: in_features and out_features must divide into feature_group_count "
                f"groups; got in_features={in_features}, out_features={out_features}, "
                f"feature_group_count={groups}"
            )
        shape = (*self.kernel_size, in_features // groups, out_features)
        self.kernel = nnx.Param(kernel_init(rngs.params(), shape, param_dtype), **kernel_metadata)
        self.bias = nnx.data(None)
        if use_bias:
            bias = bias_init(rngs.params(), (out_features,), param_dtype)
            self.bias = nnx.Param(bias, **bias_metadata)
        self.in_features = in_features
        self.out_features = out_features
        self.strides = strides
        self.padding = padding
        self.kernel_dilation = kernel_dilation
        self.feature_group_count = groups
        self.use_bias = use_bias
        self.dtype = dtype
        self.param_dtype = param_dtype
        self.precision = precision
        self.promote_dtype = promote_dtype
        self.implementation = implementation

    def __call__(self, inputs: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
        """(y, updated mask) from inputs (N, *spatial, in_features) and their mask."""
        bias = None if self.bias is None else self.bias[...]
        x, kernel, bias = self.promote_dtype((inputs, self.kernel[...], bias), dtype=self.dtype)
        return partial_conv(
            x, mask, kernel, bias, stride=or_one(self.strides), padding=self.padding,
            dilation=or_one(self.kernel_dilation), groups=self.feature_group_count,
            precision=self.precision, implementation=self.implementation,
        )  # fmt: skip
