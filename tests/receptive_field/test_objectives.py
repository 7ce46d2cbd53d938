"""Losses on fields: second-order gradients against differences, and networks trained by them."""

from __future__ import annotations

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads

import jconv
from jconv import receptive_field as rf


@pytest.fixture(autouse=True)
def optax_promotes():
    """optax multiplies int32 step counts with Python floats."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def filters(layers, channels, key, dtype=jnp.float32):
    """A plain network of 3x3 filters, one channel in and out."""
    sizes = [1, *[channels] * (layers - 1), 1]
    return [
        jax.random.normal(jax.random.fold_in(key, i), (3, 3, c, k), dtype) * math.sqrt(2 / 9 / c)
        for i, (c, k) in enumerate(itertools.pairwise(sizes))
    ]


def network(ws, x):
    for w in ws[:-1]:
        x = jax.nn.gelu(jconv.conv(x, w))
    return jconv.conv(x, ws[-1])


def field(ws, x):
    return rf.gradient_maps(lambda x: network(ws, x), x, magnitude="square").mean(0)


def trained(ws, target, steps, examples, size, rate):
    """Adam on fresh noise; the radius is that of the unit in the middle."""
    tx = optax.adam(optax.cosine_decay_schedule(rate, steps, 0.03))

    @jax.jit
    def step(ws, state, key):
        x = jax.random.normal(key, (examples, size, size, 1))
        loss, grads = jax.value_and_grad(lambda ws: rf.radius_loss(field(ws, x), target))(ws)
        updates, state = tx.update(grads, state)
        return optax.apply_updates(ws, updates), state, loss

    state = tx.init(ws)
    for i in range(steps):
        ws, state, _ = step(ws, state, jax.random.key(i))
    return ws


def measured(ws, size):
    x = jax.random.normal(jax.random.key(999), (32, size, size, 1))
    return float(rf.radius(field(ws, x)))


def test_gradients_in_parameters_and_inputs(x64, key):
    """Through the gradient that the field is made of: of second order, in both modes."""
    ws = filters(2, 2, key, jnp.float64)
    x = jax.random.normal(key, (3, 9, 8, 1), jnp.float64)

    def losses(ws, x):
        f = rf.gradient_maps(lambda x: network(ws, x), x, magnitude="square", chunk=2).mean(0)
        shape = rf.shape_loss(f, rf.gaussian_field((9, 8), 1.5))
        return rf.radius_loss(f, 1.5) + shape, rf.radius(f, centre=(4.0, 4.0))

    # The differences' own error, relative, is 2e-7 for steps of 1e-4 and 2e-9 for these: it is that
    # of their third derivatives, which goes with the square of the step.
    check_grads(jax.jit(losses), (ws, x), 1, modes=["fwd", "rev"], eps=1e-5, rtol=1e-7, atol=1e-7)


def test_gradients_of_second_order(x64, key):
    """Forward over reverse: the Hessian of a loss, of third derivatives of the network."""
    w = jax.random.normal(key, (3, 1, 1), jnp.float64)
    x = jax.random.normal(jax.random.fold_in(key, 1), (1, 4, 1), jnp.float64)

    def loss(w):
        f = rf.gradient_maps(lambda x: jnp.tanh(jconv.conv(x, w)), x, magnitude="square")[0]
        return rf.radius_loss(f, 0.7)

    check_grads(jax.jit(jax.grad(loss)), (w,), 1, modes=["fwd"], eps=1e-5, rtol=1e-6, atol=1e-6)


def test_losses_are_zero_where_the_wish_is_met():
    f = rf.gaussian_field((21, 21), 2.0)
    assert rf.radius_loss(f, float(rf.radius(f))) < 1e-9
    assert rf.shape_loss(7 * f, f) < 1e-9
    np.testing.assert_allclose(rf.radius_loss(5 * f, 2.04), math.log(2 / 2.04) ** 2, rtol=0.01)
    wide, wider = (rf.shape_loss(rf.gaussian_field((21, 21), s), f) for s in (2.5, 4.0))
    assert 0 < wide < wider


def test_relu_networks_can_be_trained(key):
    """Their second derivatives in x are 0, those in the weights are not."""
    ws = filters(3, 4, key)
    x = jax.random.normal(key, (2, 9, 9, 1))

    def loss(ws):
        def fn(x):
            for w in ws[:-1]:
                x = jax.nn.relu(jconv.conv(x, w))
            return jconv.conv(x, ws[-1])

        return rf.radius_loss(rf.gradient_maps(fn, x, magnitude="square").mean(0), 3.0)

    assert all(jnp.any(g != 0) for g in jax.grad(loss)(ws))


def test_trains_towards_a_radius(key):
    """Four layers, 1.6 pixels at first, in both directions."""
    ws = filters(4, 4, key)
    assert 1.4 < measured(ws, 13) < 1.9
    for target in (2.2, 1.0):
        assert abs(measured(trained(ws, target, 120, 8, 13, 2e-2), 13) / target - 1) < 0.05


@pytest.mark.slow
@pytest.mark.parametrize("target", [4.0, 1.2])
def test_eight_layers_are_trained_to_two_per_cent(target, key):
    ws = filters(8, 8, key)
    assert 2.2 < measured(ws, 33) < 2.8
    assert abs(measured(trained(ws, target, 200, 8, 33, 6e-3), 33) / target - 1) < 0.02


def test_trains_towards_a_shape(key):
    """A field along one axis, from a round one."""
    ws = filters(3, 4, key)
    target = rf.gaussian_field((13, 13), (0.6, 1.8), centre=(6, 6))
    tx = optax.adam(2e-2)
    x = jax.random.normal(key, (8, 13, 13, 1))

    @jax.jit
    def step(ws, state):
        loss, grads = jax.value_and_grad(lambda ws: rf.shape_loss(field(ws, x), target))(ws)
        updates, state = tx.update(grads, state)
        return optax.apply_updates(ws, updates), state, loss

    state, first = tx.init(ws), rf.shape_loss(field(ws, x), target)
    for _ in range(150):
        ws, state, last = step(ws, state)
    assert last < first / 10
    sigma = rf.gaussian_fit(field(ws, x)).sigma
    assert sigma[1] > 2 * sigma[0]
