"""Response norms as layers: parameters as in the papers, and the operations' numbers."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jconv.nn.response_norms import TLU, FilterResponseNorm, LocalResponseNorm
from jconv.ops.response_norms import filter_response_norm, local_response_norm, tlu


def shapes(layer):
    return {path[0]: p.shape for path, p in nnx.to_flat_state(nnx.state(layer, nnx.Param))}


def test_local_response_norm(key):
    x = jax.random.normal(key, (2, 3, 3, 6))
    expected = local_response_norm(x, 5, alpha=5e-4, beta=0.5, k=2.0)
    np.testing.assert_array_equal(LocalResponseNorm(5, 5e-4, 0.5, 2.0)(x), expected)
    np.testing.assert_array_equal(LocalResponseNorm(3)(x), local_response_norm(x, 3))


def test_filter_response_norm(key):
    x = jax.random.normal(key, (2, 3, 3, 4))
    init = nnx.initializers.normal()
    layer = FilterResponseNorm(4, epsilon=0.1, scale_init=init, bias_init=init, rngs=nnx.Rngs(0))
    assert shapes(layer) == {"scale": (4,), "bias": (4,)}
    expected = filter_response_norm(x, layer.scale[...], layer.bias[...], epsilon=0.1)
    np.testing.assert_array_equal(layer(x), expected)
    learned = FilterResponseNorm(
        4, use_learned_epsilon=True, use_bias=False, dtype=jnp.bfloat16, rngs=nnx.Rngs(0)
    )
    assert shapes(learned) == {"scale": (4,), "learned_epsilon": (4,)}
    np.testing.assert_array_equal(learned.learned_epsilon[...], jnp.full(4, 1e-4))
    low, epsilon = x.astype(jnp.bfloat16), jnp.full(4, 1e-4, jnp.bfloat16)
    expected = filter_response_norm(low, learned_epsilon=epsilon)
    np.testing.assert_array_equal(learned(x), expected)


def test_tlu(key):
    x = jax.random.normal(key, (2, 3, 4))
    layer = TLU(4, rngs=nnx.Rngs(0))
    assert shapes(layer) == {"threshold": (4,)}
    np.testing.assert_array_equal(layer(x), jnp.maximum(x, 0))
    layer.threshold[...] = jnp.arange(4.0) - 1
    np.testing.assert_array_equal(layer(x), tlu(x, jnp.arange(4.0) - 1))
