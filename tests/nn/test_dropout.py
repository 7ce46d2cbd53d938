"""Random layers: the switches and streams of `nnx.Dropout`, inside models and the training step."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jconv import nn
from jconv.nn.dropout import (
    AlphaDropout,
    ChannelDropout,
    DropBlock,
    GaussianDropout,
    StochasticDepth,
)
from jconv.ops.drop_block import drop_block
from jconv.ops.dropout import alpha_dropout, channel_dropout, gaussian_dropout, stochastic_depth
from jconv.training import TrainState, make_train_step
from jconv.training.state import evaluation_view

X = np.linspace(1, 2, 4 * 4 * 4 * 8, dtype=np.float32).reshape(4, 4, 4, 8)
LAYERS = {
    "channel": (ChannelDropout, channel_dropout),
    "alpha": (AlphaDropout, alpha_dropout),
    "gaussian": (GaussianDropout, gaussian_dropout),
    "rows": (StochasticDepth, stochastic_depth),
    "batch": (
        functools.partial(StochasticDepth, mode="batch"),
        functools.partial(stochastic_depth, mode="batch"),
    ),
    "block": (
        functools.partial(DropBlock, block_size=(2, 3)),
        functools.partial(drop_block, block_size=(2, 3)),
    ),
}
each = pytest.mark.parametrize(("layer", "op"), LAYERS.values(), ids=LAYERS)


@each
def test_draws_with_the_keys_of_flax(layer, op):
    rngs, theirs = nnx.Rngs(params=0, dropout=7), nnx.Rngs(params=0, dropout=7)
    ours, flax = layer(0.5, rngs=rngs), nnx.Dropout(0.5, rngs=theirs)
    assert jax.tree.structure(nnx.state(ours)) == jax.tree.structure(nnx.state(flax))
    for _ in range(2):
        np.testing.assert_allclose(ours(X), op(flax.rngs(), X, 0.5), rtol=1e-6)


def test_keys_from_elsewhere():
    """A stream for the layer; a key and Rngs in the call."""
    layer, key = ChannelDropout(0.5, rngs=nnx.Rngs(3).dropout), jax.random.key(5)
    np.testing.assert_array_equal(layer(X), ChannelDropout(0.5, rngs=nnx.Rngs(3))(X))
    np.testing.assert_array_equal(layer(X, rngs=key), channel_dropout(key, X, 0.5))
    first = nnx.Rngs(dropout=1).dropout()
    expected = channel_dropout(first, X, 0.5)
    np.testing.assert_array_equal(layer(X, rngs=nnx.Rngs(dropout=1)), expected)


@each
def test_switches(layer, op):
    model = nn.Sequential(layer(0.5, rngs=nnx.Rngs(0)), nn.Dropout(0.0))
    model.eval()
    np.testing.assert_array_equal(model(X), X)
    assert (model.layers[0](X, deterministic=False) != X).any()
    model.train()
    assert any((model(X) != X).any() for _ in range(8))
    off = nnx.view(model, deterministic=True)
    np.testing.assert_array_equal(off(X), X)
    np.testing.assert_array_equal(model.layers[0](X, deterministic=True), X)
    assert not model.layers[0].deterministic
    before = nnx.state(model.layers[0])
    nothing = layer(0.0)
    np.testing.assert_array_equal(nothing(X), X)
    assert jax.tree.structure(before) == jax.tree.structure(nnx.state(model.layers[0]))


@each
def test_a_rate_may_be_an_array(layer, op):
    """Traced, under nnx.jit: it is data of the layer."""
    model, key = layer(jnp.array(0.5)), jax.random.key(3)
    y = nnx.jit(lambda m, x: m(x, rngs=key))(model, X)
    np.testing.assert_allclose(y, op(key, X, 0.5), rtol=1e-5)
    np.testing.assert_array_equal(model(X, deterministic=True), X)


def test_block_sizes_in_lists_and_arrays():
    key = jax.random.key(3)
    for size in ([2, 3], np.array([2, 3])):
        layer = DropBlock(0.5, size)
        hash(nnx.split(layer)[0])
        y = nnx.jit(lambda m, x: m(x, rngs=key))(layer, X)
        np.testing.assert_allclose(y, drop_block(key, X, 0.5, (2, 3)), rtol=1e-6)


class Branches(nnx.Module):
    """Three random layers one after the other, and one parameter."""

    def __init__(self, rngs: nnx.Rngs):
        self.scale = nnx.Param(jnp.ones(()))
        self.dropout = nn.Dropout(0.1, rngs=rngs)
        self.block = DropBlock(0.1, 2, rngs=rngs)
        self.depth = StochasticDepth(0.1, rngs=rngs)

    def __call__(self, x):
        return self.depth(self.block(self.dropout(x * self.scale[...])))


def test_inside_the_training_step():
    """Other numbers in each step, the same in the same step; in evaluation mode none."""
    tx = optax.sgd(0.0)
    graph, state = TrainState.create(Branches(nnx.Rngs(0)), tx, key=jax.random.key(0))
    step = jax.jit(make_train_step(graph, tx, lambda m, b: (m(b["image"]).sum(), {})))
    batch = {"image": X}
    (first, one), (_, again) = step(state, batch), step(state, batch)
    _, two = step(first, batch)
    assert one["loss"] == again["loss"] != two["loss"]
    keys = [jax.random.key_data(k) for k in jax.tree.leaves(state.rest) if k.dtype != np.uint32]
    assert len({tuple(np.asarray(k)) for k in keys}) == 3
    same = jax.tree.map(lambda a, b: bool((a == b).all()), state.rest, first.rest)
    assert all(jax.tree.leaves(same))
    np.testing.assert_array_equal(evaluation_view(state.model(graph))(X), X)


def test_a_model_in_evaluation_mode_is_trained_in_training_mode():
    model = Branches(nnx.Rngs(0))
    model.eval()
    graph, _ = TrainState.create(model, optax.sgd(0.0), key=jax.random.key(0))
    _, *states = nnx.split(model, nnx.Param, ...)
    assert (nnx.merge(graph, *states)(X) != X).any()


@pytest.mark.parametrize(
    ("options", "call", "message"),
    [
        ({"rngs": 3}, {}, "rngs must be nnx.Rngs, nnx.RngStream or None; got 3"),
        ({}, {}, "rngs must be nnx.Rngs, nnx.RngStream or a key, .*; got None"),
        ({"deterministic": None}, {}, "deterministic must be True or False, .*got None for both"),
        ({}, {"rngs": 3}, "rngs must be nnx.Rngs, nnx.RngStream or a key, .*; got 3"),
    ],
)
def test_says_what_is_wrong(options, call, message):
    with pytest.raises(ValueError, match=f"^ChannelDropout: {message}"):
        ChannelDropout(0.5, **options)(X, **call)
