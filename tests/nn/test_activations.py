"""Activations: JAX's own, and PReLU against Flax's with its parameter."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

from jconv.nn import activations
from jconv.nn.activations import PReLU
from jconv.ops.prelu import prelu


def test_functions_are_those_of_jax():
    names = (
        "celu elu gelu glu hard_sigmoid hard_swish hard_tanh leaky_relu log_sigmoid log_softmax "
        "mish selu sigmoid silu soft_sign softmax softplus"
    )
    for name in names.split():
        assert getattr(activations, name) is getattr(jax.nn, name)


@pytest.mark.parametrize("options", [{}, {"dtype": jnp.bfloat16}, {"param_dtype": jnp.bfloat16}])
def test_one_slope_is_flax_s(options, key):
    """Parameter, shape, dtype and numbers; but for 0, where the derivative is the slope here."""
    ours, theirs = PReLU(0.2, **options), nnx.PReLU(0.2, **options)
    assert ours.negative_slope[...].dtype == theirs.negative_slope[...].dtype
    np.testing.assert_array_equal(ours.negative_slope[...], theirs.negative_slope[...])
    nnx.update(ours, jax.tree.map(lambda a: a * 2, nnx.state(theirs)))
    nnx.update(theirs, nnx.state(ours))
    x = jax.random.normal(key, (4, 5))
    y, expected = ours(x), theirs(x)
    assert y.dtype == expected.dtype
    tolerance = 1e-2 if y.dtype == jnp.bfloat16 or options else 1e-6
    np.testing.assert_allclose(y.astype(float), expected.astype(float), rtol=tolerance)


def test_a_linen_checkpoint_loads(key):
    x = jax.random.normal(key, (4, 5))
    variables = linen.PReLU(negative_slope_init=0.3).init(key, x)
    layer = PReLU()
    state = nnx.state(layer)
    assert set(state) == set(variables["params"]) == {"negative_slope"}
    state["negative_slope"].set_value(variables["params"]["negative_slope"])
    nnx.update(layer, state)
    np.testing.assert_allclose(layer(x), linen.PReLU().apply(variables, x), rtol=1e-6)


def test_a_slope_for_each_channel(key):
    layer = PReLU(0.25, num_features=3)
    assert layer.negative_slope[...].tolist() == [0.25] * 3
    layer.negative_slope[...] = jnp.asarray([0.1, 0.2, 0.3])
    x = jax.random.normal(key, (2, 4, 3))
    np.testing.assert_array_equal(layer(x), prelu(x, jnp.asarray([0.1, 0.2, 0.3])))
    with pytest.raises(ValueError, match=r"^prelu: .*C=4 channels; got slope \(3,\), x \(2, 4\)"):
        layer(jnp.ones((2, 4)))
