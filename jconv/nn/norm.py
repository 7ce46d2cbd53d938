"""Normalisation layers: parameters and running statistics, and one call to `jconv.ops.norm`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.nn.initializers import Initializer

from jconv.ops import batch_norm, normalize, running_average

NONE: Mapping[str, Any] = MappingProxyType({})
zeros_init = nnx.initializers.zeros_init()
ones_init = nnx.initializers.ones_init()


class BatchNorm(nnx.Module):
    """Batch normalisation of x (..., num_features) over every axis but `axis`.

    As `flax.nnx.BatchNorm`: parameters scale and bias, statistics mean and var (`nnx.BatchStat`,
    float32, biased variance), all (num_features,). The output has the dtype of x unless `dtype` is
    given. Training uses the statistics of the batch and moves the running ones; evaluation
    (`use_running_average=True`, `model.eval()` or `nnx.view`) uses the running ones.

    Args:
      momentum: of the running statistics: new = momentum * old + (1 - momentum) * batch. PyTorch's
        momentum is 1 - momentum here.
      axis_name: mapped axis over whose devices the statistics are taken (`pmap`, `shard_map`).
        Under `jit` with a sharded batch they are global without it.
      use_fast_variance: accepted for Flax's sake and has no effect: the variance is always taken in
        two passes.

    Raises:
      ValueError: axis_index_groups, which is not supported; when called, an input whose channels
        are not num_features.

    Reference: Ioffe & Szegedy 2015, arXiv:1502.03167.
    """

    def __init__(
        self,
        num_features: int,
        *,
        use_running_average: bool = False,
        axis: int = -1,
        momentum: float = 0.99,
        epsilon: float = 1e-5,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        use_bias: bool = True,
        use_scale: bool = True,
        bias_init: Initializer = zeros_init,
        scale_init: Initializer = ones_init,
        axis_name: str | tuple[str, ...] | None = None,
        axis_index_groups: None = None,
        use_fast_variance: bool = True,
        rngs: nnx.Rngs,
        bias_metadata: Mapping[str, Any] = NONE,
        scale_metadata: Mapping[str, Any] = NONE,
    ):
        if axis_index_groups is not None:
            raise ValueError(
                "BatchNorm: axis_index_groups is not supported, statistics are those of all "
                f"devices along axis_name; got axis_index_groups={axis_index_groups}"
            )
        shape = (num_features,)
        self.mean = nnx.BatchStat(jnp.zeros(shape, jnp.float32))
        self.var = nnx.BatchStat(jnp.ones(shape, jnp.float32))
        self.scale = nnx.data(None)
        self.bias = nnx.data(None)
        if use_scale:
            self.scale = nnx.Param(scale_init(rngs.params(), shape, param_dtype), **scale_metadata)
        if use_bias:
            self.bias = nnx.Param(bias_init(rngs.params(), shape, param_dtype), **bias_metadata)
        self.num_features = num_features
        self.use_running_average = use_running_average
        self.axis = axis
        self.momentum = momentum
        self.epsilon = epsilon
        self.dtype = dtype
        self.param_dtype = param_dtype
        self.use_bias = use_bias
        self.use_scale = use_scale
        self.axis_name = axis_name

    def __call__(
        self,
        x: jax.Array,
        use_running_average: bool | None = None,
        *,
        mask: jax.Array | None = None,
    ) -> jax.Array:
        """x normalised, of x's shape; `mask`, which broadcasts to x, says which pixels count."""
        if not -x.ndim <= self.axis < x.ndim or x.shape[self.axis] != self.num_features:
            raise ValueError(
                f"BatchNorm: x must have num_features={self.num_features} channels on axis "
                f"{self.axis}; got x {x.shape}"
            )
        x = jnp.moveaxis(x, self.axis, -1).astype(self.dtype or x.dtype)
        scale = None if self.scale is None else self.scale[...]
        bias = None if self.bias is None else self.bias[...]
        if self.use_running_average if use_running_average is None else use_running_average:
            y = normalize(x, self.mean[...], self.var[...], scale, bias, epsilon=self.epsilon)
        else:
            mask = None if mask is None else jnp.moveaxis(_like(mask, x), self.axis, -1)
            y, mean, variance = batch_norm(
                x, scale, bias, epsilon=self.epsilon, axis_name=self.axis_name, mask=mask
            )
            self.mean[...] = running_average(self.mean[...], mean, self.momentum)
            self.var[...] = running_average(self.var[...], variance, self.momentum)
        return jnp.moveaxis(y, -1, self.axis)

    def set_view(self, use_running_average: bool | None = None) -> None:
        """What `nnx.view(model, use_running_average=...)` calls."""
        if use_running_average is not None:
            self.use_running_average = use_running_average


def _like(mask, x):
    """The mask with the rank of x, so that its axes can be moved with x's."""
    return mask.reshape((1,) * (x.ndim - mask.ndim) + mask.shape)
