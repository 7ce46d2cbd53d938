"""Mean and variance in one pass or in three, against float64."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jconv.algorithms.moments import moments, two_passes
from tests.tolerance import assert_close


def right(x, axes):
    x = np.asarray(x, np.float64)
    return x.mean(axes, keepdims=True), x.var(axes, keepdims=True)


def errors(found, x, axes):
    """The largest errors of mean + rest and of the variance, over the standard deviation."""
    mean, variance = right(x, axes)
    total = np.float64(found[0]) + np.float64(found[1])
    return (
        float(np.max(np.abs(total - mean) / np.sqrt(variance))),
        float(np.max(np.abs(found[2] - variance) / variance)),
    )


@pytest.mark.parametrize("axes", [(0,), (1, 2), (0, 1, 2), (2,)])
def test_match_the_definition(axes, key):
    x = jax.random.normal(key, (5, 7, 6)) * 3 + 1
    mean, variance = right(x, axes)
    for found in (
        moments(x, axes),
        two_passes(x, functools.partial(jnp.mean, axis=axes, keepdims=True)),
    ):
        assert_close(found[0], mean, terms=x.size)
        assert_close(found[2], variance, terms=x.size)


@pytest.mark.parametrize("at", [0.0, 0.5, 1.5, 3.0, 1e2, 1e4, 2.0**20])
def test_no_less_accurate_than_two_passes(at, key):
    """At every mean: by the direct form, with the mean rounded, or at most 8 roundings."""
    x = at + jax.random.normal(key, (20000, 4))
    centred = x - jnp.mean(x, 0, keepdims=True)
    direct = errors((x - centred, 0.0, jnp.mean(centred**2, 0, keepdims=True)), x, (0,))
    for found, error in zip(errors(moments(x, (0,)), x, (0,)), direct, strict=True):
        assert found <= max(2 * error, 8 * np.finfo(np.float32).eps)


def test_a_small_variance_is_as_exact_as_a_large_one(key):
    """Small beside any epsilon that a norm may add, but a result in its own right."""
    x = 1e-2 + 1e-5 * jax.random.normal(key, (64, 5))
    assert max(errors(moments(x, (0,)), x, (0,))) < 1e-5


def test_one_set_far_from_zero_is_enough(key):
    """Its neighbours stay right, and so does it."""
    x = jax.random.normal(key, (300, 3)) + jnp.asarray([0.0, 1e4, -1.0])
    assert max(errors(jax.jit(lambda x: moments(x, (0,)))(x), x, (0,))) < 1e-5


@pytest.mark.parametrize("value", [5.0, 1e25])
def test_nothing_varies(value):
    """Even where the squares are no longer finite."""
    mean, rest, variance = moments(jnp.full((6, 3), value), (0,))
    np.testing.assert_allclose(mean + rest, value, rtol=1e-6)
    assert float(jnp.max(jnp.sqrt(variance))) <= 1e-6 * value


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_special_values_stay_in_their_set(bad, key):
    x = jax.random.normal(key, (2, 9))
    clean, found = moments(x, (1,)), moments(x.at[0, 3].set(bad), (1,))
    for a, b in zip(clean, found, strict=True):
        np.testing.assert_array_equal(a[1], b[1])
    assert not np.isfinite(found[0][0])
    assert np.isnan(found[2][0])


def test_of_nothing():
    assert np.isnan(moments(jnp.zeros((0, 2)), (0,))[2]).all()
