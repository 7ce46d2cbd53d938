"""Activations: JAX's own functions by their own names, but ReLU, whose derivative is told from its
result, and PReLU, which has parameters.

Where they differ from PyTorch's, docs/ops/activations_losses.md says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn.dtypes import promote_dtype as flax_promote_dtype
from jax.nn import celu as celu
from jax.nn import elu as elu
from jax.nn import gelu as gelu
from jax.nn import glu as glu
from jax.nn import hard_sigmoid as hard_sigmoid
from jax.nn import hard_swish as hard_swish
from jax.nn import hard_tanh as hard_tanh
from jax.nn import leaky_relu as leaky_relu
from jax.nn import log_sigmoid as log_sigmoid
from jax.nn import log_softmax as log_softmax
from jax.nn import mish as mish
from jax.nn import selu as selu
from jax.nn import sigmoid as sigmoid
from jax.nn import silu as silu
from jax.nn import soft_sign as soft_sign
from jax.nn import softmax as softmax
from jax.nn import softplus as softplus
from jax.numpy import tanh as tanh

from jconv.nn.arguments import NONE
from jconv.ops.prelu import prelu
from jconv.ops.relu import relu as relu
from jconv.ops.relu import relu6 as relu6


class PReLU(nnx.Module):
    """`jconv.prelu` with the parameter negative_slope: () as in `flax.nnx`, or (num_features,).

    Arguments are those of `flax.nnx.PReLU`, and:

    Args:
      negative_slope_init: what each slope starts at: 0.01 as in Flax; He et al. 2015 and PyTorch
        take 0.25.
      num_features: channels, each with a slope of its own; None is one slope for all.

    Raises:
      ValueError: when called, what `jconv.prelu` refuses.
    """

    def __init__(
        self,
        negative_slope_init: float = 0.01,
        *,
        num_features: int | None = None,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        promote_dtype: Callable[..., Any] = flax_promote_dtype,
        negative_slope_metadata: Mapping[str, Any] = NONE,
    ):
        shape = () if num_features is None else (num_features,)
        slope = jnp.full(shape, negative_slope_init, param_dtype)
        self.negative_slope = nnx.Param(slope, **negative_slope_metadata)
        self.num_features = num_features
        self.dtype = dtype
        self.param_dtype = param_dtype
        self.promote_dtype = promote_dtype

    def __call__(self, inputs: jax.Array) -> jax.Array:
        """inputs (..., C) where they are positive, times the slope elsewhere."""
        x, slope = inputs, self.negative_slope[...]
        if self.dtype is not None:
            x, slope = self.promote_dtype((x, slope), dtype=self.dtype)
        return prelu(x, slope)
