"""Dropout and its relatives: against the definition on the same masks, and in distribution.

Averages are compared at five standard deviations of what they estimate, for a fixed key.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jconv.ops.drop_block import drop_block
from jconv.ops.dropout import (
    alpha_dropout,
    channel_dropout,
    dropout,
    gaussian_dropout,
    stochastic_depth,
)
from tests.oracles import regularisation as oracle
from tests.tolerance import assert_close

# The operation, and the shape of its mask for x (4, 5, 3, 6).
MASKED = {
    "dropout": (dropout, (4, 5, 3, 6)),
    "channel_dropout": (channel_dropout, (4, 1, 1, 6)),
    "rows": (stochastic_depth, (4, 1, 1, 1)),
    "batch": (functools.partial(stochastic_depth, mode="batch"), (1, 1, 1, 1)),
}
ALL = {
    **{name: f for name, (f, _) in MASKED.items()},
    "gaussian": gaussian_dropout,
    "alpha": alpha_dropout,
    "drop_block": functools.partial(drop_block, block_size=2),
}
each_masked = pytest.mark.parametrize(("f", "mask"), MASKED.values(), ids=MASKED)
each = pytest.mark.parametrize("f", ALL.values(), ids=ALL)


@functools.partial(jax.jit, static_argnums=(0, 3))
def value_and_grad(f, key, x, rate):
    """y, and its gradient by a cotangent that is x."""
    y, vjp = jax.vjp(lambda x: f(key, x, rate), x)
    return y, vjp(x)[0]


@each_masked
def test_matches_definition(f, mask, key):
    dtype = "bfloat16" if f is channel_dropout else "float32"
    x = jax.random.normal(key, (4, 5, 3, 6), dtype)
    y, dx = value_and_grad(f, key, x, 0.4)
    assert y.dtype == dtype
    drawn = jax.random.bernoulli(key, 0.6, mask)
    assert_close(y, oracle.dropout(x, drawn, 0.4), terms=1)
    assert_close(dx, oracle.dropout(x, drawn, 0.4), terms=1)


def test_rates_of_0_and_1(key):
    """Exactly, given as numbers and traced, with their gradients."""
    x = jax.random.normal(key, (2, 4, 4, 3))
    with_grad = {name: functools.partial(value_and_grad.__wrapped__, f) for name, f in ALL.items()}
    bounded = {name: f for name, f in with_grad.items() if name != "gaussian"}

    @jax.jit
    def run(zero, one):
        return (
            [f(key, x, rate) for f in with_grad.values() for rate in (0.0, zero)],
            [f(key, x, rate) for f in bounded.values() for rate in (1.0, one)],
        )

    same, nothing = jax.tree.map(np.asarray, run(0.0, 1.0))
    np.testing.assert_array_equal(same, np.broadcast_to(x, np.shape(same)))
    np.testing.assert_array_equal(nothing, np.zeros_like(nothing))


def test_a_rate_may_be_an_array(key):
    x, rates = jnp.ones((3, 4, 4, 2)), (0.125, 0.25)

    def run(f):
        of = functools.partial(f, key, x)
        arrays = [np.float64(0.25), np.asarray(0.25), jnp.asarray(0.25, jnp.bfloat16)]
        slope = jax.grad(lambda rate: of(rate).sum())(0.25)
        return slope, jax.vmap(of)(jnp.asarray(rates)), [of(r) for r in (*rates, *arrays)]

    for slope, batched, ys in jax.jit(lambda: [run(f) for f in ALL.values()])():
        assert slope == 0
        for y, expected in zip([*batched, *ys[2:]], [*ys[:2], *[ys[1]] * 3], strict=True):
            np.testing.assert_allclose(y, expected, rtol=1e-6)


def test_a_key_for_each_example(key):
    x, keys = jnp.ones((1, 4, 4, 2)), jax.random.split(key, 8)

    def run(f):
        return jax.vmap(f, (0, None, None))(keys, x, 0.5), f(keys[3], x, 0.5)

    for batched, one in jax.jit(lambda: [run(f) for f in ALL.values()])():
        np.testing.assert_allclose(batched[3], one, rtol=1e-6)
        assert len(np.unique(batched, axis=0)) > 1


@pytest.mark.parametrize("f", [f for f, _ in MASKED.values()] + [gaussian_dropout])
def test_the_mean_stays(f, key):
    """The mean of many draws, within five deviations of one draw over the root of their number."""
    x, draws = jnp.linspace(0.5, 2, 8).reshape(1, 2, 2, 2), 4000
    ys = jax.jit(jax.vmap(lambda key: f(key, x, 0.3)))(jax.random.split(key, draws))
    deviation = np.asarray(x) * np.sqrt(0.3 / 0.7)
    assert (np.abs(ys.mean(0) - x) < 5 * deviation / np.sqrt(draws)).all()
    np.testing.assert_allclose(ys.std(0), deviation, rtol=0.1)


def test_alpha_dropout_matches_definition(key):
    x = jax.random.normal(key, (4, 5, 3))
    for rate in (0.1, 0.7):
        mask = jax.random.bernoulli(key, 1 - rate, x.shape)
        y, dx = value_and_grad(alpha_dropout, key, x, rate)
        assert_close(y, oracle.alpha_dropout(x, mask, rate), terms=4)
        slope = oracle.alpha_dropout(x, mask, rate)
        slope -= oracle.alpha_dropout(np.zeros(x.shape), mask, rate)
        assert_close(dx, slope, terms=4)


def test_alpha_dropout_keeps_mean_and_variance(key):
    """Of 2^16 normal numbers; the fourth moment of what comes out is at most 5."""
    n = 1 << 16
    x = jax.random.normal(key, (n,))
    y = np.asarray(alpha_dropout(jax.random.key(1), x, 0.3), np.float64)
    assert abs(y.mean()) < 5 / np.sqrt(n)
    assert np.mean(y**4) < 5
    assert abs(y.var() - 1) < 5 * np.sqrt((5 - 1) / n)


def test_gaussian_dropout_is_normal(key):
    n, rate = 1 << 16, 0.2
    y = np.asarray(gaussian_dropout(key, jnp.ones(n), rate), np.float64)
    variance = rate / (1 - rate)
    assert abs(y.mean() - 1) < 5 * np.sqrt(variance / n)
    assert abs(y.var() - variance) < 5 * variance * np.sqrt(2 / n)


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.37, 0.9, 1.0])
@pytest.mark.parametrize("wide", [False, True], ids=["x32", "x64"])
def test_the_bits_of_flax(rate, wide, key):
    with jax.enable_x64(wide):
        x = jax.random.normal(key, (5, 4, 3), jnp.float32)
        for dtype in (jnp.float32, jnp.float64)[: 1 + wide]:
            expected = nnx.Dropout(rate)(x.astype(dtype), rngs=key)
            np.testing.assert_array_equal(dropout(key, x.astype(dtype), rate), expected)
        low = x.astype(jnp.bfloat16)
        same_mask = nnx.Dropout(rate)(low, rngs=key) != 0
        np.testing.assert_array_equal(dropout(key, low, rate) != 0, same_mask)


def test_what_is_dropped_is_zero_whatever_it_was(key):
    x = jnp.full((50,), jnp.nan)
    y = dropout(key, x, 0.5)
    assert set(np.unique(y)) >= {0.0}
    np.testing.assert_array_equal(y == 0, ~jax.random.bernoulli(key, 0.5, (50,)))


def test_bfloat16_keeps_the_mean(key):
    """1 / 0.9 is rounded once: Flax divides by 0.9 in bfloat16, 0.8984, and is 0.2 % too large."""
    y = dropout(key, jnp.full(1000, 225.0, jnp.bfloat16), 0.1)
    assert set(np.unique(np.asarray(y, np.float32))) == {0.0, 250.0}


@pytest.mark.parametrize("shape", [(0, 2, 2, 3), (2, 0, 2, 3), (2, 2, 2, 0), (1, 1, 1, 1)])
def test_sizes_of_0_and_1(shape, key):
    def run(x):
        return [value_and_grad.__wrapped__(f, key, x, 0.5) for f in ALL.values()]

    for found in jax.tree.leaves(jax.jit(run)(jnp.ones(shape))):
        assert found.shape == shape
        assert np.isfinite(found).all()


@pytest.mark.devices
def test_explicit_sharding(key):
    mesh = jax.make_mesh((8,), ("d",), axis_types=(AxisType.Explicit,))
    x = jnp.ones((8, 4, 3, 2))

    @jax.jit
    def run(x):
        return [f(key, x, 0.5) for f in ALL.values()]

    with jax.set_mesh(mesh):
        ys = run(jax.device_put(x, NamedSharding(mesh, P("d"))))
    for y, expected in zip(ys, run(x), strict=True):
        assert jax.typeof(y).sharding.spec[0] == "d"
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"key": jnp.zeros(2, jnp.uint32)},
            r"key, which comes first, .* got key uint32\[2\]",
        ),
        ({"key": jax.random.split(jax.random.key(0))}, "key, which comes first, must be one"),
        ({"x": np.ones((2, 3, 3, 1), int)}, r"x must be floating point; got x \(2, 3, 3, 1\) of i"),
        ({"rate": 1.5}, "rate must be from 0 to 1; got rate=1.5"),
        ({"rate": -0.1}, "rate must be from 0 to 1; got rate=-0.1"),
        ({"rate": float("nan")}, "rate must be from 0 to 1; got rate=nan"),
        ({"rate": jnp.ones(3)}, r"rate must be one number; got rate \(3,\)"),
        (
            {"rate": jnp.array(1)},
            r"a rate that is an array must be floating .* got rate \(\) of int",
        ),
        ({"rate": jnp.array(1j)}, r"a rate that is an array must be floating .* of complex64"),
        ({"rate": 0.5j}, r"rate must be one real number; got rate=0.5j"),
        ({"rate": "a"}, r"rate must be one real number; got rate='a'"),
        ({"key": 0}, r"key, which comes first, must be one typed key .*; got key 0$"),
        ({"key": None}, r"key, which comes first, must be one typed key .*; got key None$"),
    ],
)
@each
def test_says_what_is_wrong(f, arguments, message):
    given = {"key": jax.random.key(0), "x": jnp.ones((2, 3, 3, 1)), "rate": 0.5, **arguments}
    with pytest.raises(ValueError, match=rf"^\w+: {message}"):
        f(given["key"], given["x"], given["rate"])


@pytest.mark.parametrize(
    ("f", "x", "message"),
    [
        (channel_dropout, (2, 3), r"channel_dropout: x must be \(N, \*spatial, C\) .*got x \(2, 3"),
        (drop_block, (2, 3), r"drop_block: x must be \(N, \*spatial, C\) .*got x \(2, 3"),
        (stochastic_depth, (), r"stochastic_depth: x must be \(N, ...\); got x \(\)"),
        (stochastic_depth, (2,), r'stochastic_depth: mode must be "row" or "batch"; got mode=2'),
        (drop_block, (2, 3, 3, 1), r"drop_block: block_size must .* 2 spatial axes; got \(1, 1, 1"),
        (drop_block, (2, 3, 1), "drop_block: block_size must be at least 1; got block_size=0"),
    ],
)
def test_says_what_else_is_wrong(f, x, message, key):
    extra = {(2,): [2], (2, 3, 3, 1): [(1, 1, 1)], (2, 3, 1): [0]}.get(x, [])
    extra = extra or ([2] if f is drop_block else [])
    with pytest.raises(ValueError, match=f"^{message}"):
        f(key, jnp.ones(x), 0.5, *extra)


def test_says_that_gaussian_noise_has_no_rate_of_1(key):
    with pytest.raises(ValueError, match=r"^gaussian_dropout: rate must be below 1; got rate=1\.0"):
        gaussian_dropout(key, jnp.ones(2), 1.0)
