"""Weight norm, spectral norm and weight standardisation against the definition."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jconv.ops.weight_norms import filter_norms, spectral_norm, weight_norm, weight_standardize
from tests.oracles import norm as oracle
from tests.tolerance import assert_close

SHAPE = (3, 2, 2, 5)
DTYPES = ["float32", "float16", "bfloat16"]


def random(*shape, seed=0, dtype="float32"):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_weight_norm(dtype):
    v, g = random(*SHAPE, dtype=dtype), random(5, seed=1, dtype=dtype)
    w = weight_norm(v, g)
    assert w.dtype == dtype
    assert_close(w, oracle.weight_norm(v, g), terms=12)
    assert_close(weight_norm(v), oracle.weight_norm(v, np.ones(5)), terms=12)


def test_feature_axes():
    """Filters along another axis, along two, and all weights as one."""
    v, g = random(3, 4, 2), random(4, seed=1)
    first = weight_norm(jnp.moveaxis(v, 1, 0), g, feature_axes=0)
    assert_close(jnp.moveaxis(first, 0, 1), weight_norm(v, g, feature_axes=1), terms=6)
    pairs = weight_norm(v, feature_axes=(-1, 0))
    assert_close(pairs, v / jnp.linalg.norm(v, axis=1, keepdims=True), terms=4)
    one = weight_norm(v, jnp.asarray(2.0), feature_axes=())
    assert_close(one, 2 * v / jnp.linalg.norm(v.ravel()), terms=24)
    standard = weight_standardize(jnp.moveaxis(v, -1, 1), feature_axes=1)
    assert_close(standard, jnp.moveaxis(weight_standardize(v), -1, 1), terms=12)


def test_filter_norms_is_the_g_that_changes_nothing():
    v = random(*SHAPE)
    g = filter_norms(v)
    np.testing.assert_allclose(g, np.linalg.norm(np.reshape(v, (-1, 5)), axis=0), rtol=1e-6)
    assert_close(weight_norm(v, g), v, terms=12)
    assert filter_norms(v, feature_axes=()).shape == ()


def test_a_filter_of_zeros():
    """Zeros and a finite gradient with an epsilon, NaN with 0, as in PyTorch."""
    v = random(4, 3).at[:, 1].set(0)
    w, grad = jax.value_and_grad(lambda v: jnp.sum(weight_norm(v) ** 3))(v)
    assert jnp.isfinite(w)
    assert jnp.isfinite(grad).all()
    np.testing.assert_array_equal(jnp.isnan(weight_norm(v, epsilon=0)).all(0), [False, True, False])
    standard = weight_standardize(jnp.ones((4, 3)))
    np.testing.assert_array_equal(standard, jnp.zeros((4, 3)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_steps", [0, 1, 4])
def test_spectral_norm(n_steps, dtype):
    w, u = random(*SHAPE, dtype=dtype), random(5, seed=1, dtype=dtype)
    u = u if n_steps else u / jnp.linalg.norm(u.astype(jnp.float32)).astype(dtype)
    results = spectral_norm(w, u, n_steps=n_steps)
    assert [r.dtype for r in results] == [dtype, jnp.float32, jnp.float32]
    for actual, expected in zip(results, oracle.spectral_norm(w, u, n_steps=n_steps), strict=True):
        assert_close(actual, expected, terms=20 * (n_steps + 1))


def test_sigma_grows_to_the_largest_singular_value():
    w, u = random(*SHAPE), random(5, seed=1)
    largest = np.linalg.svd(np.reshape(w, (-1, 5)))[1][0]
    found = [float(spectral_norm(w, u, n_steps=n)[2]) for n in (1, 2, 8, 60)]
    assert found[0] < found[1] < found[2] <= found[3] * (1 + 1e-6)
    np.testing.assert_allclose(found[3], largest, rtol=1e-6)
    normed, u, _ = spectral_norm(w, u, n_steps=60)
    np.testing.assert_allclose(np.linalg.norm(np.reshape(normed, (-1, 5)), 2), 1, rtol=1e-6)
    assert_close(spectral_norm(w, u, n_steps=0)[2], largest, terms=12)


def test_spectral_norm_of_other_axes():
    """Both of the last two axes are features: a matrix of 6 x 10."""
    w, u = random(*SHAPE), random(2, 5, seed=1)
    normed, _, sigma = spectral_norm(w, u, feature_axes=(2, 3), n_steps=3)
    expected = oracle.spectral_norm(w.reshape(6, 10), u.ravel(), n_steps=3)
    assert_close(normed.reshape(6, 10), expected[0], terms=60)
    assert_close(sigma, expected[2], terms=60)


def test_spectral_derivatives_hold_u_and_v_constant(x64):
    """Those of w / (v' W u); where u and v have converged, the derivative of w / (largest singular
    value), found numerically.
    """
    w, u = random(4, 3, dtype="float64"), random(3, seed=1, dtype="float64")
    dw = random(4, 3, seed=2, dtype="float64")
    u_new = oracle.spectral_norm(w, u, n_steps=2)[1]
    v = np.asarray(w) @ oracle.spectral_norm(w, u, n_steps=1)[1]
    v /= np.linalg.norm(v)
    actual = jax.jvp(lambda w: spectral_norm(w, u, n_steps=2)[0], (w,), (dw,))
    expected = jax.jvp(lambda w: w / (v @ w @ u_new), (w,), (dw,))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-12), actual, expected)
    u = jnp.asarray(oracle.spectral_norm(w, u, n_steps=200)[1])
    check_grads(
        lambda w: spectral_norm(w, u, n_steps=1)[0], (w,), 1, modes=["fwd", "rev"], rtol=1e-5
    )
    grads = jax.grad(lambda u: jnp.sum(spectral_norm(w, u)[0]))(u)
    np.testing.assert_array_equal(grads, np.zeros(3))


def test_a_matrix_of_zeros_stays():
    w, u, sigma = spectral_norm(jnp.zeros((2, 3)), jnp.ones(3))
    np.testing.assert_array_equal(w, np.zeros((2, 3)))
    assert jnp.isfinite(u).all()
    assert sigma == 0


@pytest.mark.parametrize("dtype", DTYPES)
def test_weight_standardize(dtype):
    w = random(*SHAPE, dtype=dtype)
    y = weight_standardize(w, epsilon=1e-3)
    assert y.dtype == dtype
    assert_close(y, oracle.weight_standardize(w, epsilon=1e-3), terms=12)


W = jnp.zeros((3, 2, 4))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: weight_norm(W.astype(int)),
            r"weight_norm: v must be floating point; got v \(3, 2",
        ),
        (
            lambda: weight_norm(W, jnp.ones(3)),
            r"g must have the shape of the feature axes, \(4,\); ",
        ),
        (lambda: weight_norm(W, epsilon=-1), r"weight_norm: epsilon must not be negative; got"),
        (lambda: weight_norm(W, feature_axes=3), r"feature_axes must be different axes of weights"),
        (
            lambda: weight_norm(W, feature_axes=(0, 1, 2)),
            r"must have an axis beside feature_axes=\(",
        ),
        (
            lambda: filter_norms(W, feature_axes="k"),
            r"filter_norms: feature_axes must be an int; go",
        ),
        (
            lambda: spectral_norm(W, jnp.ones((1, 4))),
            r"u must have the shape .*; got u \(1, 4\), wei",
        ),
        (
            lambda: spectral_norm(W, jnp.ones(4), n_steps=-1),
            r"n_steps must be at least 0; got n_steps",
        ),
        (
            lambda: spectral_norm(W, jnp.ones(4), epsilon=-1),
            r"spectral_norm: epsilon must not be neg",
        ),
        (
            lambda: weight_standardize(W.astype(int)),
            r"weight_standardize: w must be floating point",
        ),
    ],
)
def test_says_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call()
