"""Batch normalisation as a layer, and what the layers of all norms share.

Parameters and running statistics, and one call to `jconv.ops.norm`. As in Flax, `promote_dtype`
brings the input and the parameters to one dtype, which is also that of the output; statistics are
computed in float32 or wider, whatever it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn.dtypes import promote_dtype as flax_promote_dtype
from jax.nn.initializers import Initializer

from jconv.nn.arguments import NONE
from jconv.ops import batch_norm, normalize, running_average

zeros_init = nnx.initializers.zeros_init()
ones_init = nnx.initializers.ones_init()


class BatchNorm(nnx.Module):
    """Batch normalisation of x (..., num_features) over every axis but `axis`.

    As `flax.nnx.BatchNorm`: parameters scale and bias, statistics mean and var (`nnx.BatchStat`,
    float32), all (num_features,). Training uses the statistics of the batch and moves the running
    ones; evaluation (`use_running_average=True`, `model.eval()` or `nnx.view`) uses the running
    ones. `torch.nn.BatchNorm2d(C, momentum=0.1)` is `BatchNorm(C, momentum=0.9, correction=1)`.

    Args:
      momentum: of the running statistics: new = momentum * old + (1 - momentum) * batch. PyTorch's
        momentum is 1 - momentum here.
      correction: the running variance is that of sums over n - correction numbers: 0 keeps the
        biased one, as Flax does, 1 the unbiased one, as PyTorch does. The batch is normalised by
        the biased one in all of them.
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
        promote_dtype: Callable[..., Any] = flax_promote_dtype,
        correction: int = 0,
        rngs: nnx.Rngs,
        bias_metadata: Mapping[str, Any] = NONE,
        scale_metadata: Mapping[str, Any] = NONE,
    ):
        refuse_groups("BatchNorm", axis_index_groups)
        shape = (num_features,)
        self.mean = nnx.BatchStat(jnp.zeros(shape, jnp.float32))
        self.var = nnx.BatchStat(jnp.ones(shape, jnp.float32))
        self.scale = parameter(use_scale, scale_init, shape, param_dtype, scale_metadata, rngs)
        self.bias = parameter(use_bias, bias_init, shape, param_dtype, bias_metadata, rngs)
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
        self.promote_dtype = promote_dtype
        self.correction = correction

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
        mean, var = self.mean[...], self.var[...]
        x, _, _, scale, bias = self.promote_dtype(
            (x, mean, var, value_of(self.scale), value_of(self.bias)), dtype=self.dtype
        )
        x = jnp.moveaxis(x, self.axis, -1)
        if self.use_running_average if use_running_average is None else use_running_average:
            y = normalize(x, mean, var, scale, bias, epsilon=self.epsilon)
        else:
            mask = None if mask is None else jnp.moveaxis(_like(mask, x), self.axis, -1)
            y, new_mean, new_var = batch_norm(
                x, scale, bias, epsilon=self.epsilon, axis_name=self.axis_name, mask=mask,
                correction=self.correction,
            )  # fmt: skip
            self.mean[...] = running_average(mean, new_mean, self.momentum)
            self.var[...] = running_average(var, new_var, self.momentum)
        return jnp.moveaxis(y, -1, self.axis)

    def set_view(self, use_running_average: bool | None = None) -> None:
        """What `nnx.view(model, use_running_average=...)` calls."""
        if use_running_average is not None:
            self.use_running_average = use_running_average


def parameter(
    used: bool,
    init: Initializer,
    shape: tuple[int, ...],
    dtype: Any,
    metadata: Mapping[str, Any],
    rngs: nnx.Rngs,
) -> Any:
    """A parameter, or None as data where a layer goes without."""
    return nnx.Param(init(rngs.params(), shape, dtype), **metadata) if used else nnx.data(None)


def value_of(variable: Any) -> jax.Array | None:
    """The array in a variable that may be None."""
    return None if variable is None else variable[...]


def refuse_groups(layer: str, axis_index_groups: Any) -> None:
    """Raises a ValueError for Flax's groups of devices."""
    if axis_index_groups is not None:
        raise ValueError(
            f"{layer}: axis_index_groups is not supported, statistics are those of all devices "
            f"along axis_name; got axis_index_groups={axis_index_groups}"
        )


def _like(mask, x):
    """The mask with the rank of x, so that its axes can be moved with x's."""
    return mask.reshape((1,) * (x.ndim - mask.ndim) + mask.shape)
