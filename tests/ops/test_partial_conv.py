"""jconv.partial_conv against the definition, its mask, its gradient, and missing numbers."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import jconv
from jconv.ops.partial_conv import partial_conv
from tests.ops.conv_cases import Case
from tests.oracles import conv_variants as oracle
from tests.tolerance import assert_close

CASES = {
    "plain": Case(),
    "strided_dilated": Case(stride=(2, 1), dilation=(1, 2), padding=((2, 0), (1, 3))),
    "groups": Case(groups=2),
    "pads_wider_than_window": Case(x=(2, 2, 3, 4), window=(2, 2), padding=3),
    "one_axis": Case(x=(2, 9, 4), window=(3,)),
}


def mask_of(shape):
    """Seven pixels of eight missing, so that some windows hold nothing."""
    return np.random.default_rng(1).random(shape) < 1 / 8


def expected_of(case, x, mask, w, b):
    names = ("stride", "pads", "dilation", "groups")
    definition = {name: case.definition[name] for name in names}
    return oracle.partial_conv(x, np.broadcast_to(mask, x.shape), w, b, **definition)


@pytest.mark.parametrize(
    ("name", "channels", "dtype"),
    [
        *((name, "shared", "float32") for name in CASES),
        *((name, "own", "float32") for name in ("plain", "groups")),
        ("groups", "own", "bfloat16"),
    ],
)
def test_matches_definition(name, channels, dtype, key):
    case = CASES[name]
    x, w = case.arrays(key, dtype)
    b = jnp.arange(float(case.k)).astype(dtype)
    mask = mask_of((*case.x[:-1], 1 if channels == "shared" else case.x[-1]))
    y, updated = jax.jit(functools.partial(partial_conv, **case.options))(x, mask, w, b)
    expected, expected_mask = expected_of(case, x, mask, w, np.asarray(b))
    assert (y.dtype, updated.dtype) == (dtype, bool)
    assert_close(y, expected, terms=case.terms)
    assert 0 < expected_mask.mean() < 1
    if channels == "shared":
        expected_mask = expected_mask[..., :1]
    np.testing.assert_array_equal(updated, expected_mask)


def test_nothing_missing_is_a_convolution(key):
    x, w = Case(padding="VALID").arrays(key, "float32")
    y, updated = partial_conv(x, jnp.ones((1, 5, 6, 1)), w, padding="VALID")
    assert_close(y, jconv.conv(x, w, padding="VALID"), terms=48)
    assert updated.dtype == jnp.float32
    np.testing.assert_array_equal(updated, np.ones((1, 3, 5, 1)))


def test_missing_pixels_may_be_not_a_number(key):
    x, w = Case().arrays(key, "float32")
    mask = mask_of((*x.shape[:-1], 1))

    def f(x, w):
        return partial_conv(x, mask, w)[0].sum()

    holes = jnp.where(mask, x, jnp.nan)
    for a, e in zip(jax.grad(f, (0, 1))(holes, w), jax.grad(f, (0, 1))(x, w), strict=True):
        np.testing.assert_array_equal(a, e)
    assert np.all(np.asarray(jax.grad(f)(holes, w))[~mask[..., 0]] == 0)


@pytest.mark.slow
def test_derivatives(x64, key):
    case = Case(x=(1, 4, 3, 2), k=2)
    x, w = case.arrays(key, "float64")
    mask, b = mask_of((1, 4, 3, 2)), jnp.arange(2.0)
    f = jax.jit(lambda x, w, b: jnp.sin(partial_conv(x, mask, w, b)[0] / 4))
    check_grads(f, (x, w, b), order=2, modes=["fwd", "rev"], eps=1e-4, rtol=1e-5, atol=1e-6)


def test_the_mask_has_no_gradient(key):
    x, w = Case().arrays(key, "float32")
    mask = jnp.asarray(mask_of((*x.shape[:-1], 1)), jnp.float32)
    g = jax.grad(lambda m: sum(jnp.sum(out) for out in partial_conv(x, m, w)))(mask)
    np.testing.assert_array_equal(g, np.zeros(mask.shape))


def test_empty():
    y, mask = partial_conv(jnp.ones((0, 5, 2)), jnp.ones((0, 5, 1)), jnp.ones((3, 2, 4)))
    assert (y.shape, mask.shape) == ((0, 5, 4), (0, 5, 1))


X, M, W = (1, 5, 4, 2), (1, 5, 4, 1), (3, 3, 2, 6)


@pytest.mark.parametrize(
    ("x", "mask", "w", "options", "message"),
    [
        (X, (1, 4, 4, 1), W, {}, r"partial_conv: mask must be .*got mask \(1, 4, 4, 1\), x \(1,"),
        (X, (1, 5, 4, 3), W, {}, r"partial_conv: mask must be \(N, \*spatial, 1\) or"),
        (X, (5, 4, 1), W, {}, r"partial_conv: mask must be"),
        (X, M, W, {"b": jnp.zeros(2)}, r"partial_conv: b must be \(K,\) = \(6,\) of float32"),
        (X, M, (3, 3, 3, 6), {}, r"conv: x has C=2 but w takes C/groups=3"),
        (X, M, W, {"groups": 0}, r"partial_conv: groups must be at least 1"),
    ],
)
def test_says_what_is_wrong(x, mask, w, options, message):
    with pytest.raises(ValueError, match=message):
        partial_conv(jnp.zeros(x), jnp.zeros(mask), jnp.zeros(w), **options)


def test_says_that_integers_cannot_be_scaled():
    with pytest.raises(ValueError, match=r"^partial_conv: x must be floating point .*of int32"):
        partial_conv(jnp.zeros(X, jnp.int32), jnp.zeros(M), jnp.zeros(W, jnp.int32))
