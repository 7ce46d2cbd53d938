"""Fractional and stochastic pooling: against the definition, and what is drawn against chance."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jconv.ops.random_pool import fractional_max_pool, stochastic_pool
from tests.ops.pool_cases import CASES
from tests.oracles import pool_variants as oracle
from tests.tolerance import assert_close

FRACTIONAL = {  # x, window, output
    "two_axes": ((2, 9, 7, 3), (2, 2), (6, 4)),
    "windows_that_overlap_by_two": ((1, 8, 9, 2), (3, 3), (5, 7)),
    "window_fills_the_rest": ((1, 5, 6, 2), (2, 4), (4, 3)),
    "one_output": ((1, 5, 6, 2), (2, 3), (1, 1)),
    "one_axis": ((2, 11, 2), (2,), (7,)),
    "three_axes": ((1, 5, 6, 7, 2), (2, 1, 3), (3, 5, 4)),
}
each_fractional = pytest.mark.parametrize(
    ("shape", "window", "output"), FRACTIONAL.values(), ids=FRACTIONAL
)


def fractional_case(shape):
    random = np.random.default_rng(0)
    x = random.integers(-9, 10, shape).astype(np.float32)
    return x, random.uniform(size=(shape[0], shape[-1], len(shape) - 2)).astype(np.float32)


@each_fractional
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_fractional_matches_definition(shape, window, output, dtype):
    x, samples = fractional_case(shape)
    expected, positions = oracle.fractional_max_pool(x, window, output, samples)
    f = functools.partial(
        fractional_max_pool, None, window=window, output_size=output, samples=samples,
        return_indices=True,
    )  # fmt: skip
    y, indices = jax.jit(lambda x: f(x=x))(jnp.asarray(x, dtype))
    assert (y.dtype, indices.dtype) == (dtype, jnp.int32)
    np.testing.assert_array_equal(y.astype(np.float32), expected)
    np.testing.assert_array_equal(indices, positions)


@each_fractional
def test_fractional_gradient_goes_to_the_first(shape, window, output):
    x, samples = fractional_case(shape)
    _, positions = oracle.fractional_max_pool(x, window, output, samples)
    dy = np.arange(1.0, 1 + positions.size, dtype=np.float32).reshape(positions.shape)
    expected = np.zeros((shape[0], int(np.prod(shape[1:-1])), shape[-1]))
    for p in np.ndindex(dy.shape):
        expected[p[0], positions[p], p[-1]] += dy[p]
    f = functools.partial(
        fractional_max_pool, None, window=window, output_size=output, samples=samples
    )
    (dx,) = jax.jit(lambda x: jax.vjp(lambda x: f(x=x), x)[1](dy))(x)
    np.testing.assert_array_equal(dx, expected.reshape(shape))


def test_fractional_windows_are_drawn_for_every_example_and_channel(key):
    """A ramp shows the end of each window: distances of 1 or 2, from the first pixel to the last,
    of another sequence almost everywhere.
    """
    x = jnp.broadcast_to(jnp.arange(25.0)[None, :, None], (16, 25, 8))
    y = fractional_max_pool(key, x, 2, output_size=17)
    steps = np.diff(np.concatenate([np.zeros((16, 1, 8)), y], 1), axis=1)
    assert set(np.unique(steps)) == {1.0, 2.0}
    np.testing.assert_array_equal(y[:, -1], np.full((16, 8), 24.0))
    assert len(np.unique(np.moveaxis(steps, 1, -1).reshape(-1, 17), axis=0)) > 8
    assert (y == fractional_max_pool(key, x, 2, output_size=17)).all()
    assert (y != fractional_max_pool(jax.random.key(1), x, 2, output_size=17)).any()
    np.testing.assert_array_equal(y, fractional_max_pool(key, x, 2, output_ratio=0.7))


def test_fractional_samples_outside_stay_in_the_image():
    x = jnp.arange(9.0).reshape(1, 9, 1)
    f = jax.jit(lambda u: fractional_max_pool(None, x, 2, output_size=5, samples=u))
    for u in (-3.0, 5.0, jnp.nan):
        y = f(jnp.full((1, 1, 1), u))
        assert ((y >= 1) & (y <= 8)).all()


def test_fractional_nan_and_integers():
    x, samples = fractional_case((1, 6, 6, 1))
    x[0, 2, 2, 0] = np.nan
    f = functools.partial(fractional_max_pool, None, window=3, output_size=4, samples=samples)
    y, indices = f(x, return_indices=True)
    expected, positions = oracle.fractional_max_pool(x, (3, 3), (4, 4), samples)
    assert np.isnan(expected).any()
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(indices, positions)
    whole = np.nan_to_num(x).astype(np.int8)
    y = f(whole)
    assert y.dtype == jnp.int8
    np.testing.assert_array_equal(y, oracle.fractional_max_pool(whole, (3, 3), (4, 4), samples)[0])


NAMES = ("plain", "overlapping", "pads_wider_than_window", "ceil_mode_overlapping", "three_axes")
each_case = pytest.mark.parametrize("case", [CASES[name] for name in NAMES], ids=NAMES)


@each_case
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_stochastic_mean(case, dtype, key):
    """Of rectified pixels: whole windows of them are 0."""
    x = jax.random.normal(key, case.x).astype(dtype)
    f = functools.partial(stochastic_pool, None, **case.options, deterministic=True)
    y = jax.jit(lambda x: f(x=x))(x)
    assert y.dtype == dtype
    expected = oracle.stochastic_mean(np.asarray(x, np.float64), **case.definition)
    assert_close(y, expected, terms=2 * int(np.prod(case.definition["window"])))


@each_case
def test_draws_are_pixels_of_their_windows(case, key):
    x = case.distinct(np.float32) - 4
    y = jax.jit(lambda key, x: stochastic_pool(key, x, **case.options))(key, x)
    y = np.asarray(y)
    for p, inside, _ in oracle.each_window(x, **case.definition):
        for n, c in np.ndindex(x.shape[0], x.shape[-1]):
            positive = [v for i in inside if (v := x[(n, *i, c)]) > 0]
            assert y[(n, *p, c)] in (positive or [0])


def test_draws_follow_their_probabilities(key):
    """20000 draws from 1, 2, 3, 4 and no others: each frequency within four standard deviations."""
    x = jnp.tile(jnp.asarray([1.0, -5.0, 2.0, 0.0, 3.0, 4.0])[None, :, None], (20000, 1, 1))
    y = np.asarray(stochastic_pool(key, x, 6)).ravel()
    for value in (1, 2, 3, 4):
        p = value / 10
        assert abs((y == value).mean() - p) < 4 * np.sqrt(p * (1 - p) / y.size)
    assert np.isin(y, [1, 2, 3, 4]).all()


def test_stochastic_gradient_goes_to_the_pixel_that_was_drawn(key):
    x = CASES["overlapping"].distinct(np.float32) - 4
    f = functools.partial(stochastic_pool, key, **CASES["overlapping"].options)
    shape = jax.eval_shape(f, x).shape
    dy = np.arange(1.0, 1 + np.prod(shape), dtype=np.float32).reshape(shape)
    y, dx = jax.jit(lambda x: (f(x), *jax.vjp(f, x)[1](dy)))(x)
    y = np.asarray(y)
    expected = np.zeros(x.shape)
    for (n, *_, c), drawn, weight in zip(np.ndindex(y.shape), y.ravel(), dy.ravel(), strict=True):
        if drawn > 0:  # Pixels are distinct: the value tells which.
            expected[n, ..., c][x[n, ..., c] == drawn] += weight
    np.testing.assert_array_equal(dx, expected)


@pytest.mark.parametrize("deterministic", [False, True])
def test_windows_without_a_positive_pixel(deterministic, key):
    x = jnp.asarray([0.0, -1.0, 0.0, -2.0]).reshape(1, 2, 2, 1)
    f = functools.partial(stochastic_pool, key, window=2, deterministic=deterministic)
    y, vjp = jax.vjp(f, x)
    assert y.item() == 0
    np.testing.assert_array_equal(vjp(jnp.ones_like(y))[0], np.zeros(x.shape))


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("pixel", [np.nan, np.inf])
def test_sums_that_are_not_finite(deterministic, pixel, key):
    x = jnp.asarray([1.0, pixel, 2.0, 3.0, 4.0, 5.0]).reshape(1, 3, 2, 1)
    y = stochastic_pool(key, x, (1, 2), deterministic=deterministic)
    assert np.isnan(y[0, 0, 0, 0])
    assert np.isfinite(y[0, 1:]).all()


def test_more_than_256_pixels(key):
    """Taps that no byte counts: the one positive pixel is found wherever it is."""
    x = np.full((1, 260, 1), -1.0, np.float32)
    x[0, 258] = 7
    f = jax.jit(jax.value_and_grad(lambda x: stochastic_pool(key, x, 260).sum()))
    y, dx = f(x)
    assert y == 7
    np.testing.assert_array_equal(dx, x > 0)


@pytest.mark.parametrize("x", [(0, 5, 6, 3), (2, 5, 6, 0)], ids=["no_examples", "no_channels"])
def test_empty(x, key):
    for f in (
        functools.partial(fractional_max_pool, key, window=2, output_size=(3, 4)),
        functools.partial(stochastic_pool, key, window=2),
    ):
        y, dx = jax.jit(lambda x, f=f: (f(x=x), jax.grad(lambda x: f(x=x).sum())(x)))(jnp.ones(x))
        assert (y.shape[0], y.shape[-1]) == (x[0], x[-1])
        assert dx.shape == x


def test_ratios_in_lists_and_arrays(key):
    x = jax.random.normal(key, (1, 5, 6, 3))
    expected = fractional_max_pool(key, x, 2, output_ratio=(0.5, 0.7))
    assert expected.shape == (1, 2, 4, 3)
    for ratio in ([0.5, 0.7], np.array([0.5, 0.7]), (np.float64(0.5), np.float64(0.7))):
        np.testing.assert_array_equal(fractional_max_pool(key, x, 2, output_ratio=ratio), expected)


IMAGE = jnp.zeros((1, 5, 6, 3))
KEYS = [
    (IMAGE, {"key": 0}, r"key, which comes first, must be one typed key .*; got key 0$"),
    (IMAGE, {"key": jnp.zeros(2, jnp.uint32)}, r"must be one typed key .*; got key uint32\[2\]$"),
    (IMAGE, {"key": jax.random.split(jax.random.key(0))}, r"one typed key .*; got key key<fry>\["),
]


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (IMAGE[0, 0], {}, r"x must be \(N, \*spatial, C\) .*got x \(6, 3\)"),
        (IMAGE > 0, {}, r"x must hold real numbers; got x .* of bool"),
        (IMAGE, {"output_size": None}, r"either output_size or output_ratio must be given"),
        (IMAGE, {"output_ratio": 0.5}, r"either .*; got output_size=3, output_ratio=0.5"),
        (IMAGE, {"output_size": None, "output_ratio": 1.0}, r"output_ratio must be a number betw"),
        (IMAGE, {"output_size": None, "output_ratio": (0.5,)}, r"one for each of 2 .*got \(0.5,\)"),
        (IMAGE, {"output_size": None, "output_ratio": 0.1}, r"output_size must be at least 1"),
        (IMAGE, {"output_size": 5}, r"must not exceed the input; .*\(5, 6\), output_size=\(5, 5\)"),
        (IMAGE, {"key": None}, r"a key or samples must be given; got None for both"),
        (IMAGE, {"output_size": None, "output_ratio": "a"}, r"output_ratio must be a num.*got a"),
        *KEYS,
        (IMAGE, {"samples": jnp.zeros((1, 2, 3))}, r"\(N, C, axes\) = \(1, 3, 2\); got .*\(1, 2, "),
        (IMAGE, {"samples": jnp.zeros((1, 3, 2), int)}, r"samples must be floating point .* int32"),
    ],
)  # fmt: skip
def test_fractional_says_what_is_wrong(x, options, message):
    options = {"key": jax.random.key(0), "window": 2, "output_size": 3, **options}
    with pytest.raises(ValueError, match=f"^fractional_max_pool: .*{message}"):
        fractional_max_pool(x=x, **options)


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (IMAGE[0, 0], {}, r"x must be \(N, \*spatial, C\) .*got x \(6, 3\)"),
        (IMAGE.astype(int), {}, r"x must hold floating-point numbers; got x .* of int32"),
        (IMAGE, {"key": None}, r"a draw must have a key; got key=None"),
        *KEYS,
        (IMAGE, {"window": 6}, r"does not fit in an input of \(5, 6\)"),
    ],
)
def test_stochastic_says_what_is_wrong(x, options, message):
    options = {"key": jax.random.key(0), "window": 2, **options}
    with pytest.raises(ValueError, match=f"^stochastic_pool: .*{message}"):
        stochastic_pool(x=x, **options)
