"""Local and filter response norm and the thresholded unit against the definition."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jconv.ops.response_norms import filter_response_norm, local_response_norm, tlu
from tests.oracles import norm as oracle
from tests.tolerance import assert_close


def random(*shape, seed=0, dtype="float32"):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("size", [1, 2, 5, 9])
def test_local_response_norm(size, dtype):
    """Windows even, odd, and wider than the seven channels."""
    x = random(2, 3, 2, 7, dtype=dtype)
    options = {"alpha": 0.5, "beta": 0.6, "k": 1.5}
    y = local_response_norm(x, size, **options)
    assert y.dtype == dtype
    assert_close(y, oracle.local_response_norm(x, size, **options), terms=size + 4)


def test_alexnet():
    """k=2, n=5, alpha=1e-4, beta=0.75 in the paper, whose alpha multiplies the sum of squares."""
    x = 30 * np.asarray(random(1, 7), np.float64)[0]
    sums = [sum(x[max(0, c - 2) : c + 3] ** 2) for c in range(7)]
    y = local_response_norm(jnp.asarray(x, jnp.float32)[None], 5, alpha=5e-4, k=2.0)[0]
    assert_close(y, x / (2 + 1e-4 * np.asarray(sums)) ** 0.75, terms=8)


def test_local_response_norm_of_float16_sums_in_float32():
    x = jnp.full((1, 4), 300, jnp.float16)
    expected = oracle.local_response_norm(x, 3, alpha=1, beta=0.5, k=1)
    assert_close(local_response_norm(x, 3, alpha=1, beta=0.5), expected, terms=8)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_filter_response_norm(dtype):
    x = random(2, 3, 2, 4, dtype=dtype)
    scale, bias, learned = (random(4, seed=seed, dtype=dtype) for seed in (1, 2, 3))
    y = filter_response_norm(x, scale, bias, epsilon=1e-3)
    assert y.dtype == dtype
    assert_close(y, oracle.filter_response_norm(x, scale, bias, epsilon=1e-3), terms=6)
    y = filter_response_norm(x, scale, bias, epsilon=1e-3, learned_epsilon=learned)
    epsilon = 1e-3 + np.abs(np.asarray(learned, np.float64))
    assert_close(y, oracle.filter_response_norm(x, scale, bias, epsilon=epsilon), terms=6)
    assert_close(filter_response_norm(x), filter_response_norm(x, epsilon=1e-6), terms=6)


def test_a_channel_of_zeros():
    x = random(2, 3, 2).at[..., 0].set(0)
    for learned in (None, jnp.full(2, 1e-4)):

        def loss(x, learned=learned):
            return jnp.sum(filter_response_norm(x, learned_epsilon=learned) ** 2)

        assert jnp.isfinite(jax.grad(loss)(x)).all()
        np.testing.assert_array_equal(filter_response_norm(x, learned_epsilon=learned)[..., 0], 0)


def test_tlu():
    x, threshold = jnp.asarray([[1.0, -1.0], [3.0, 0.5]]), jnp.asarray([2.0, 0.5])
    np.testing.assert_array_equal(tlu(x, threshold), [[2, 0.5], [3, 0.5]])
    dx, dt = jax.grad(lambda x, t: jnp.sum(tlu(x, t)), (0, 1))(x, threshold)
    np.testing.assert_array_equal(dx, [[0, 0], [1, 0.5]])
    np.testing.assert_array_equal(dt, [1, 1.5])
    assert tlu(x.astype(jnp.bfloat16), threshold).dtype == jnp.bfloat16
    assert jnp.isnan(tlu(jnp.full((1, 2), jnp.nan), threshold)).all()


def test_special_values_and_no_examples():
    x = random(1, 2, 5).at[0, 0, 4].set(jnp.nan)
    y = local_response_norm(x, 3)
    np.testing.assert_array_equal(jnp.isnan(y[0, 0]), [False, False, False, True, True])
    assert jnp.isfinite(y[0, 1]).all()
    y = filter_response_norm(x)
    np.testing.assert_array_equal(jnp.isnan(y).all((0, 1)), [False, False, False, False, True])
    for op in (filter_response_norm, lambda x: local_response_norm(x, 3)):
        assert op(jnp.zeros((0, 2, 5))).shape == (0, 2, 5)
        assert op(jnp.ones((1, 1, 1))).shape == (1, 1, 1)


X = jnp.zeros((2, 3, 4))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: local_response_norm(X.astype(int), 3), r"local_response_norm: x must be floating"),
        (
            lambda: local_response_norm(X[0, 0], 3),
            r"x must be \(N, \.\.\., C\) with at least 2 axes",
        ),
        (
            lambda: local_response_norm(X, 0),
            r"local_response_norm: size must be at least 1; got size",
        ),
        (lambda: local_response_norm(X, 2.5), r"local_response_norm: size must be an int; got 2.5"),
        (lambda: filter_response_norm(X[0]), r"x must be \(N, \*spatial, C\) with at least 3 axes"),
        (
            lambda: filter_response_norm(X, jnp.ones(3)),
            r"scale must be \(C,\) = \(4,\); got scale \(",
        ),
        (
            lambda: filter_response_norm(X, epsilon=-1),
            r"filter_response_norm: epsilon must not be n",
        ),
        (
            lambda: filter_response_norm(X, learned_epsilon=jnp.ones(())),
            r"learned_epsilon must be \(C,\)",
        ),
        (
            lambda: tlu(X, jnp.ones(3)),
            r"tlu: threshold must be \(C,\) = \(4,\); got threshold \(3,",
        ),
    ],
)
def test_says_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call()
