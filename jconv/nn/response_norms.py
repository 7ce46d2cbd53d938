"""Norms by responses as layers: parameters, and one call to `jconv.ops.response_norms`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn.dtypes import promote_dtype as flax_promote_dtype
from jax.nn.initializers import Initializer

from jconv.nn.arguments import NONE, ones_init, parameter, value_of, zeros_init
from jconv.ops.response_norms import filter_response_norm, local_response_norm, tlu

small_init = nnx.initializers.constant(1e-4)


class LocalResponseNorm(nnx.Module):
    """`jconv.local_response_norm` as a layer, with the arguments of `torch.nn.LocalResponseNorm`.

    Args:
      alpha: multiplies the mean of `size` squares, not their sum: AlexNet's 1e-4 is 5e-4 here.
    """

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0):
        self.size = size
        self.alpha = alpha
        self.beta = beta
        self.k = k

    def __call__(self, x: jax.Array) -> jax.Array:
        """x (N, ..., C) divided by a power of the mean square of its neighbouring channels."""
        return local_response_norm(x, self.size, alpha=self.alpha, beta=self.beta, k=self.k)


class FilterResponseNorm(nnx.Module):
    """Each channel of each example of x (N, *spatial, num_features) over its root mean square.

    Parameters: scale, bias and, if it is learned, learned_epsilon, all (num_features,). `TLU` is
    the activation that belongs behind it.

    Args:
      epsilon: the constant part, added to the mean square.
      use_learned_epsilon: adds the absolute value of a parameter to it.

    Raises:
      ValueError: when called, an input without pixels or of other channels.

    Reference: Singh & Krishnan 2019, arXiv:1911.09737.
    """

    def __init__(
        self,
        num_features: int,
        *,
        epsilon: float = 1e-6,
        use_learned_epsilon: bool = False,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        use_bias: bool = True,
        use_scale: bool = True,
        bias_init: Initializer = zeros_init,
        scale_init: Initializer = ones_init,
        learned_epsilon_init: Initializer = small_init,
        promote_dtype: Callable[..., Any] = flax_promote_dtype,
        rngs: nnx.Rngs,
    ):
        shape = (num_features,)
        self.scale = parameter(use_scale, scale_init, shape, param_dtype, NONE, rngs)
        self.bias = parameter(use_bias, bias_init, shape, param_dtype, NONE, rngs)
        self.learned_epsilon = parameter(
            use_learned_epsilon, learned_epsilon_init, shape, param_dtype, NONE, rngs
        )
        self.num_features = num_features
        self.epsilon = epsilon
        self.dtype = dtype
        self.param_dtype = param_dtype
        self.promote_dtype = promote_dtype

    def __call__(self, x: jax.Array) -> jax.Array:
        """x normalised, of x's shape."""
        values = map(value_of, (self.scale, self.bias, self.learned_epsilon))
        x, scale, bias, learned = self.promote_dtype((x, *values), dtype=self.dtype)
        return filter_response_norm(x, scale, bias, epsilon=self.epsilon, learned_epsilon=learned)


class TLU(nnx.Module):
    """max(x, threshold), a thresholded linear unit with a parameter threshold (num_features,).

    Reference: Singh & Krishnan 2019, arXiv:1911.09737.
    """

    def __init__(
        self,
        num_features: int,
        *,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        threshold_init: Initializer = zeros_init,
        promote_dtype: Callable[..., Any] = flax_promote_dtype,
        rngs: nnx.Rngs,
    ):
        self.threshold = parameter(True, threshold_init, (num_features,), param_dtype, NONE, rngs)
        self.num_features = num_features
        self.dtype = dtype
        self.param_dtype = param_dtype
        self.promote_dtype = promote_dtype

    def __call__(self, x: jax.Array) -> jax.Array:
        """The larger of x (N, ..., num_features) and the threshold."""
        x, threshold = self.promote_dtype((x, self.threshold[...]), dtype=self.dtype)
        return tlu(x, threshold)
