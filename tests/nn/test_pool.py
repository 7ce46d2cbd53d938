"""Pooling layers in a Sequential, against the operations they call."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import jconv
from jconv import nn


def test_layers_pass_their_arguments_on(key):
    x = jax.random.normal(key, (2, 7, 6, 3))
    y = nn.MaxPool(3, 2, 1, dilation=1, ceil_mode=True)(x)
    np.testing.assert_array_equal(y, jconv.max_pool(x, 3, stride=2, padding=1, ceil_mode=True))
    y = nn.AvgPool((3, 2), 2, "SAME", count_include_pad=False)(x)
    expected = jconv.avg_pool(x, (3, 2), stride=2, padding="SAME", count_include_pad=False)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_allclose(nn.GlobalAvgPool()(x), x.mean((1, 2)), rtol=1e-5, atol=1e-6)


def test_sequential_takes_every_layer(key):
    rngs = nnx.Rngs(0)
    model = nn.Sequential(
        nn.Conv(1, 8, (3, 3), rngs=rngs), nn.BatchNorm(8, rngs=rngs), nn.relu, nn.MaxPool(2),
        nn.AvgPool(2), nn.Flatten(), nn.Dropout(0.5, rngs=rngs), nn.Linear(8 * 2 * 2, 10,
        rngs=rngs),
    )  # fmt: skip
    model.eval()
    assert model(jax.random.normal(key, (3, 8, 8, 1))).shape == (3, 10)
    assert nn.Flatten()(jnp.zeros((0, 2, 3))).shape == (0, 6)
