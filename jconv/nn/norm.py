"""Batch normalisation as a layer: parameters and running statistics, one call to `jconv.ops.norm`.

As in Flax, `promote_dtype` brings the input and the parameters to one dtype, which is also that of
the output; statistics are computed in float32 or wider, whatever it is.
"""

from __future__ import annotations

from typing import Unpack

import jax
import jax.numpy as jnp
from flax import nnx

from jconv.nn.arguments import passes_on, value_of
from jconv.nn.scaled_norm import Norm, NormOptions
from jconv.ops import batch_norm, normalize, running_average


class BatchNorm(Norm):
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

    @passes_on(Norm)
    def __init__(
        self,
        num_features: int,
        *,
        use_running_average: bool = False,
        axis: int = -1,
        momentum: float = 0.99,
        epsilon: float = 1e-5,
        correction: int = 0,
        rngs: nnx.Rngs,
        **options: Unpack[NormOptions],
    ):
        super().__init__(num_features, epsilon, rngs, **options)
        self.mean = nnx.BatchStat(jnp.zeros((num_features,), jnp.float32))
        self.var = nnx.BatchStat(jnp.ones((num_features,), jnp.float32))
        self.use_running_average = use_running_average
        self.axis = axis
        self.momentum = momentum
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
            y = normalize(
                x, mean, var, scale, bias, epsilon=self.epsilon, activation=self.activation
            )
        else:
            mask = None if mask is None else jnp.moveaxis(_like(mask, x), self.axis, -1)
            y, new_mean, new_var = batch_norm(
                x, scale, bias, epsilon=self.epsilon, activation=self.activation,
                axis_name=self.axis_name, mask=mask, correction=self.correction,
            )  # fmt: skip
            self.mean[...] = running_average(mean, new_mean, self.momentum)
            self.var[...] = running_average(var, new_var, self.momentum)
        return jnp.moveaxis(y, -1, self.axis)

    def set_view(self, use_running_average: bool | None = None) -> None:
        """What `nnx.view(model, use_running_average=...)` calls."""
        if use_running_average is not None:
            self.use_running_average = use_running_average


def _like(mask, x):
    """The mask with the rank of x, so that its axes can be moved with x's."""
    return mask.reshape((1,) * (x.ndim - mask.ndim) + mask.shape)
