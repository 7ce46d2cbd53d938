"""Pooling layers in a Sequential, against the operations they call."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jconv
from jconv import nn
from jconv.nn import pool as layers
from jconv.nn.blur_pool import BlurPool
from jconv.nn.random_pool import FractionalMaxPool, StochasticPool
from jconv.ops.adaptive_pool import adaptive_avg_pool, adaptive_max_pool
from jconv.ops.lp_pool import lp_pool
from jconv.ops.max_pool import max_pool, min_pool
from jconv.ops.maxout import maxout
from jconv.ops.random_pool import fractional_max_pool, stochastic_pool
from jconv.ops.unpool import max_unpool


def equal(actual, expected):
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(a, e)


def test_layers_pass_their_arguments_on(key):
    x = jax.random.normal(key, (2, 7, 6, 3))
    options = {"dilation": 2, "ceil_mode": True, "return_indices": True}
    for layer, pool in ((layers.MaxPool, max_pool), (layers.MinPool, min_pool)):
        equal(layer(3, 2, 1, **options)(x), pool(x, 3, stride=2, padding=1, **options))
    y = nn.AvgPool((3, 2), 2, "SAME", count_include_pad=False)(x)
    equal(y, jconv.avg_pool(x, (3, 2), stride=2, padding="SAME", count_include_pad=False))
    y = layers.LPPool(3, 4, 2, 1, ceil_mode=True)(x)
    equal(y, lp_pool(x, 3, 4, stride=2, padding=1, ceil_mode=True))
    equal(layers.AdaptiveAvgPool((None, 4))(x), adaptive_avg_pool(x, (None, 4)))
    y = layers.AdaptiveMaxPool(3, return_indices=True)(x)
    equal(y, adaptive_max_pool(x, 3, return_indices=True))
    np.testing.assert_allclose(nn.GlobalAvgPool()(x), x.mean((1, 2)), rtol=1e-5, atol=1e-6)
    equal(layers.GlobalMaxPool()(x), x.max((1, 2)))
    assert layers.GlobalAvgPool(keepdims=True)(x).shape == (2, 1, 1, 3)
    assert layers.GlobalMaxPool(keepdims=True)(x).shape == (2, 1, 1, 3)
    equal(layers.Maxout(3)(x), maxout(x, 3))


def test_ties(key):
    """The layer's gradient is the operation's."""
    x = jnp.ones((1, 2, 2, 1))
    for layer in (layers.MaxPool(2, ties="shared"), layers.MinPool(2, ties="shared")):
        equal(jax.grad(lambda x, layer=layer: layer(x).sum())(x), x / 4)


@pytest.mark.parametrize("arguments", [(2,), (3, 2, 1), (2, 1, 0)])
def test_unpool_takes_what_max_pool_gives(arguments, key):
    x = jax.random.normal(key, (2, 7, 6, 3))
    y, indices = layers.MaxPool(*arguments, return_indices=True)(x)
    unpool = layers.MaxUnpool(*arguments)
    equal(unpool(y, indices, x.shape), max_unpool(y, indices, output_size=(7, 6)))
    equal(layers.MaxPool(*arguments)(x), y)


def test_stochastic_pool_draws_in_training_alone(key):
    x = jax.random.uniform(key, (2, 6, 6, 3))
    layer = StochasticPool(3, 2, 1, ceil_mode=True, rngs=nnx.Rngs(0))
    options = {"stride": 2, "padding": 1, "ceil_mode": True}
    mean = stochastic_pool(None, x, 3, **options, deterministic=True)
    first, second = layer(x), layer(x)
    assert (first != second).any()
    equal(layer(x, rngs=key), stochastic_pool(key, x, 3, **options))
    equal(layer(x, deterministic=True), mean)
    equal(nnx.view(layer, deterministic=True)(x), mean)
    assert (layer(x) != mean).any()
    layer.eval()
    equal(layer(x), mean)
    layer.train()
    assert (layer(x) != mean).any()


def test_fractional_pool_takes_the_middle_in_evaluation(key):
    x = jax.random.normal(key, (2, 9, 8, 3))
    layer = FractionalMaxPool(2, output_ratio=0.7, return_indices=True, rngs=nnx.Rngs(0))
    assert (layer(x)[1] != layer(x)[1]).any()
    options = {"window": 2, "output_size": (6, 5), "return_indices": True}
    equal(layer(x, rngs=key), fractional_max_pool(key, x, **options))
    middle = jnp.full((2, 3, 2), 0.5)
    layer.eval()
    equal(layer(x), fractional_max_pool(None, x, **options, samples=middle))


@pytest.mark.parametrize(
    "layer", [StochasticPool, lambda *a, **k: FractionalMaxPool(*a, output_size=3, **k)]
)
def test_rngs_are_those_of_dropout(layer, key):
    """The same streams, forked alike: of the collection, of its default, or given to the call."""
    x = jax.random.uniform(key, (1, 8, 8, 2))
    equal(layer(2, rngs=nnx.Rngs(dropout=3))(x), layer(2, rngs=nnx.Rngs(dropout=3).dropout)(x))
    equal(layer(2)(x, rngs=nnx.Rngs(5)), layer(2)(x, rngs=nnx.Rngs(5).dropout))
    equal(
        layer(2, rng_collection="pool")(x, rngs=nnx.Rngs(pool=5)),
        layer(2)(x, rngs=nnx.Rngs(dropout=5)),
    )
    with pytest.raises(ValueError, match=r"Pool: rngs must be given, to the layer or to the call"):
        layer(2)(x)


def test_random_layers_train_under_jit(key):
    """With split state: the stream's counter moves, so every step draws anew."""
    model = nn.Sequential(nn.Linear(2, 2, rngs=nnx.Rngs(0)), StochasticPool(2, rngs=nnx.Rngs(1)))
    graph, state = nnx.split(model)

    @jax.jit
    def step(state, x):
        model = nnx.merge(graph, state)
        y = model(x)
        return y, nnx.state(model)

    x = jnp.arange(64.0).reshape(1, 8, 4, 2)
    first, state = step(state, x)
    second, _ = step(state, x)
    assert (first != second).any()


TWO = np.array([2, 2])
LAYERS = {
    "max": lambda two: layers.MaxPool(two, two, padding=two // 2, dilation=two // 2),
    "avg": lambda two: layers.AvgPool(two, two, two // 2, divisor_override=two[0]),
    "lp": lambda two: layers.LPPool(two, two[0], two, two // 2),
    "adaptive_max": lambda two: layers.AdaptiveMaxPool(two),
    "adaptive_avg": lambda two: layers.AdaptiveAvgPool(two),
    "stochastic": lambda two: StochasticPool(two, two, two // 2, deterministic=True),
    "fractional_size": lambda two: FractionalMaxPool(two, output_size=two, deterministic=True),
    "fractional_ratio": lambda two: FractionalMaxPool(
        two, output_ratio=two / 4, deterministic=True
    ),
    "blur": lambda two: BlurPool(two + 1, two),
}


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_arrays_are_tuples(layer, key):
    """A layer is hashable, so that its graph can be a static argument."""
    x = jax.random.uniform(key, (1, 6, 6, 1))
    hash(nnx.split(layer(TWO))[0])
    y = nnx.jit(lambda m, x: m(x))(layer(TWO), x)
    np.testing.assert_allclose(y, layer(jnp.array(TWO))(x), rtol=1e-6)


def test_lists_are_tuples(key):
    x = jax.random.normal(key, (1, 5, 5, 1))
    layer = layers.MaxPool([3, 2], [2, 1], [[0, 1], [1, 0]])
    hash(nnx.split(layer)[0])
    y = nnx.jit(lambda m, x: m(x))(layer, x)
    equal(y, max_pool(x, (3, 2), stride=(2, 1), padding=((0, 1), (1, 0))))


def test_unpool_takes_lists_and_arrays(key):
    y, indices = layers.MaxPool([2, 1], return_indices=True)(jax.random.normal(key, (1, 4, 4, 1)))
    expected = layers.MaxUnpool((2, 1))(y, indices)
    for size in ([2, 1], np.array([2, 1])):
        unpool = layers.MaxUnpool(size, size, 0, dilation=[1, 1])
        hash(nnx.split(unpool)[0])
        equal(nnx.jit(lambda m, y, at: m(y, at))(unpool, y, indices), expected)


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
