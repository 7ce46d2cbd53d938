"""Wrappers that normalise weights: Flax's numbers and state, and weights that stay as they are."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jconv.nn import BatchNorm, Conv, Linear
from jconv.nn.weight_norms import SpectralNorm, WeightNorm, WeightStandardized
from jconv.ops.weight_norms import spectral_norm, weight_standardize
from tests.tolerance import assert_close


def conv(seed=0):
    return Conv(3, 4, (3, 2), bias_init=nnx.initializers.normal(), rngs=nnx.Rngs(seed))


def image(key):
    return jax.random.normal(key, (2, 5, 4, 3))


def same_state(ours, flax):
    state, expected = (nnx.to_flat_state(nnx.state(layer)) for layer in (ours, flax))
    assert [path for path, _ in state] == [path for path, _ in expected]
    for (_, a), (_, e) in zip(state, expected, strict=True):
        assert_close(a[...], e[...], terms=100)


@pytest.mark.parametrize("kwargs", [{}, {"use_scale": False}, {"feature_axes": (-2, -1)}])
def test_weight_norm_is_flax(kwargs, key):
    ours, flax = (w(conv(), **kwargs, rngs=nnx.Rngs(1)) for w in (WeightNorm, nnx.WeightNorm))
    for layer in (ours, flax) if kwargs.get("use_scale", True) else ():
        (g,) = layer.scales.values()
        g[...] = jax.random.normal(key, g.shape)
    same_state(ours, flax)
    y = ours(image(key))
    assert_close(y, flax(image(key)), terms=100)
    # Flax has written w over v, and where g is negative its next call flips the filter's sign.
    np.testing.assert_array_equal(ours(image(key)), y)


def test_weight_norm_leaves_v_and_can_keep_the_function(key):
    inner = conv()
    kernel = inner.kernel[...]
    layer = WeightNorm(inner, scale_init=None, rngs=nnx.Rngs(1))
    assert_close(layer(image(key)), inner(image(key)), terms=100)
    np.testing.assert_array_equal(layer.layer_instance.kernel[...], kernel)
    one = WeightNorm(conv(), feature_axes=None, rngs=nnx.Rngs(1))
    (g,) = one.scales.values()
    assert g.shape == ()


def test_gradients_are_those_of_v_and_g(key):
    """dv is orthogonal to v, filter by filter (Salimans & Kingma 2016, equation 4)."""
    layer = WeightNorm(Linear(3, 4, rngs=nnx.Rngs(0)), rngs=nnx.Rngs(1))
    x = jax.random.normal(key, (5, 3))
    grads = nnx.grad(lambda layer: jnp.sum(layer(x) ** 3), argnums=nnx.DiffState(0, nnx.Param))(
        layer
    )
    dv, v = grads.layer_instance.kernel[...], layer.layer_instance.kernel[...]
    assert jnp.abs(dv).max() > 0.1
    np.testing.assert_allclose(jnp.sum(dv * v, 0), np.zeros(4), atol=1e-4)
    assert all(jnp.abs(g[...]).min() > 0 for g in grads.scales.values())


def test_filter_chooses_the_weights(key):
    block = nnx.Sequential(
        conv(), BatchNorm(4, rngs=nnx.Rngs(0)), Conv(4, 2, (1,), rngs=nnx.Rngs(1))
    )
    chosen = WeightStandardized(block, variable_filter=lambda path, _: path[-2:] == (0, "kernel"))
    chosen(image(key))
    assert jnp.abs(block.layers[1].mean[...]).max() > 0  # what the layers inside change is kept


def test_spectral_norm_is_flax(key):
    x = image(key)
    ours, flax = (w(conv(), n_steps=2, rngs=nnx.Rngs(1)) for w in (SpectralNorm, nnx.SpectralNorm))
    same_state(ours, flax)
    assert_close(ours(x), flax(x), terms=200)
    nnx.update(flax, {"layer_instance": nnx.state(conv())})  # Flax writes over the weights
    same_state(ours, flax)
    for layer in (ours, flax):
        layer.eval()
    before = nnx.state(ours, nnx.BatchStat)
    assert_close(ours(x), flax(x), terms=200)
    jax.tree.map(np.testing.assert_array_equal, nnx.state(ours, nnx.BatchStat), before)


def test_spectral_norm_moves_u_in_training_only(key):
    layer = SpectralNorm(Linear(3, 4, rngs=nnx.Rngs(0)), rngs=nnx.Rngs(1))
    x, w = jax.random.normal(key, (2, 3)), layer.layer_instance.kernel[...]
    u = layer.batch_stats["kernel", "u"][...]
    layer(x, update_stats=False)
    nnx.view(layer, use_running_average=True)(x)
    np.testing.assert_array_equal(layer.batch_stats["kernel", "u"][...], u)
    y = layer(x)
    normed, u, sigma = spectral_norm(w, u[0])
    assert_close(y, x @ normed, terms=20)
    np.testing.assert_array_equal(layer.batch_stats["kernel", "u"][...], u[None])
    np.testing.assert_array_equal(layer.batch_stats["kernel", "sigma"][...], sigma)
    for _ in range(60):
        layer(x)
    np.testing.assert_allclose(
        layer.batch_stats["kernel", "sigma"][...], np.linalg.norm(w, 2), rtol=1e-5
    )


def test_under_jit_and_grad(key):
    """Split state, a gradient with respect to the parameters, the new statistics as a result."""
    layer = SpectralNorm(conv(), rngs=nnx.Rngs(1))
    graph, params, rest = nnx.split(layer, nnx.Param, ...)

    @jax.jit
    def step(params, rest, x):
        def loss(params):
            model = nnx.merge(graph, params, rest, copy=True)
            return jnp.sum(model(x) ** 2), nnx.state(model, nnx.Not(nnx.Param))

        return jax.grad(loss, has_aux=True)(params)

    grads, moved = step(params, rest, image(key))
    layer(image(key))
    for a, e in zip(
        jax.tree.leaves(moved), jax.tree.leaves(nnx.state(layer, nnx.BatchStat)), strict=True
    ):
        np.testing.assert_allclose(a, e, rtol=1e-5)
    assert all(jnp.abs(g).max() > 0 for g in jax.tree.leaves(grads))


def test_weight_standardized(key):
    inner = conv()
    expected = inner(image(key)) - inner.bias[...]
    layer = WeightStandardized(inner)
    y = layer(image(key))
    inner.kernel[...] = weight_standardize(inner.kernel[...])
    np.testing.assert_array_equal(y, inner(image(key)))
    assert jnp.abs(y - inner.bias[...] - expected).max() > 0.1


def test_says_what_is_wrong():
    with pytest.raises(ValueError, match="SpectralNorm: n_steps must be at least 1; got n_steps=0"):
        SpectralNorm(conv(), n_steps=0, rngs=nnx.Rngs(0))
    message = r"parameters must be matrices with error_on_non_matrix; got kernel \(3, 2, 3, 4\)"
    with pytest.raises(ValueError, match=message):
        SpectralNorm(conv(), error_on_non_matrix=True, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="feature_axes must be different axes of weights"):
        WeightNorm(conv(), feature_axes=4, rngs=nnx.Rngs(0))
