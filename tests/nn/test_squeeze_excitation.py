"""Squeeze and excitation against its equation."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jconv.nn.squeeze_excitation import SqueezeExcitation


@pytest.mark.parametrize("spatial", [(5,), (4, 3), (2, 3, 2)])
def test_matches_the_equation(spatial, key):
    layer = SqueezeExcitation(6, 2, jax.nn.silu, jax.nn.hard_sigmoid, rngs=nnx.Rngs(0))
    x = jax.random.normal(key, (3, *spatial, 6))
    w1, b1, w2, b2 = (
        np.asarray(p[...], np.float64)
        for fc in (layer.fc1, layer.fc2)
        for p in (fc.kernel, fc.bias)
    )
    assert (w1.shape, w2.shape) == ((6, 2), (2, 6))
    mean = np.asarray(x, np.float64).reshape(3, -1, 6).mean(1)
    hidden = mean @ w1 + b1
    hidden = hidden / (1 + np.exp(-hidden))
    scale = np.clip(hidden @ w2 + b2 + 3, 0, 6) / 6
    expected = np.asarray(x) * scale.reshape(3, *(1,) * len(spatial), 6)
    np.testing.assert_allclose(layer(x), expected, rtol=1e-5, atol=1e-6)


def test_dtypes_and_defaults(key):
    layer = SqueezeExcitation(4, 1, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    assert layer(jnp.ones((2, 3, 3, 4))).dtype == jnp.float32
    y = layer(jnp.ones((2, 3, 3, 4), jnp.bfloat16))
    assert y.dtype == jnp.bfloat16
    assert (y > 0).all()
    assert (y < 1).all()
    assert layer(jnp.ones((0, 3, 3, 4))).shape == (0, 3, 3, 4)
    leaves = jax.tree.leaves(nnx.grad(lambda layer: layer(jnp.ones((1, 2, 2, 4))).sum())(layer))
    assert len(leaves) == 4


@pytest.mark.parametrize("shape", [(2, 4), (2, 3, 3, 5)])
def test_says_what_is_wrong(shape):
    layer = SqueezeExcitation(4, 1, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"^SqueezeExcitation: inputs .* C=input_channels=4; got"):
        layer(jnp.ones(shape))
