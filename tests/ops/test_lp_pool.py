"""jconv.lp_pool against the definition, and PyTorch's conventions where a derivative is missing."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jconv.ops.lp_pool import lp_pool
from jconv.ops.max_pool import max_pool, min_pool
from tests.ops.pool_cases import CASES
from tests.oracles import pool_variants as oracle
from tests.tolerance import assert_close

NAMES = (
    "overlapping", "ceil_mode", "ceil_mode_overlapping", "ceil_mode_drops_a_window_in_padding",
    "one_axis", "three_axes",
)  # fmt: skip
each_case = pytest.mark.parametrize("case", [CASES[name] for name in NAMES], ids=NAMES)


@each_case
@pytest.mark.parametrize("p", [1, 2, 3, 2.5])
def test_matches_definition(case, p, key):
    x = jax.random.uniform(key, case.x, minval=0.5, maxval=2)
    y = jax.jit(lambda x: lp_pool(x, p=p, **case.options))(x)
    expected = oracle.lp_pool(x, p, **case.definition)
    assert_close(y, expected, terms=int(np.prod(case.definition["window"])) + 8)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_low_precision_is_summed_in_float32(dtype, key):
    """Powers up to 2^24 and sums of 64 of them would be infinite in float16."""
    case = CASES["window_is_input"]
    x = (jax.random.uniform(key, case.x) * 8 + 8).astype(dtype)
    y, vjp = jax.vjp(functools.partial(lp_pool, **case.options, p=6), x)
    (dx,) = vjp(jnp.ones_like(y))
    assert (y.dtype, dx.dtype) == (dtype, dtype)
    assert_close(y, oracle.lp_pool(x, 6, **case.definition), terms=30)


def image(*rows):
    return jnp.asarray(rows, jnp.float32)[None, :, :, None]


@pytest.mark.parametrize(
    ("p", "x", "y", "dx"),
    [
        (1, image([0, 0], [0, 0]), 0, [0, 0, 0, 0]),
        (1, image([1, -1], [0, 0]), 0, [0, 0, 0, 0]),
        (1, image([-1, -2], [-3, 1]), -5, [1, 1, 1, 1]),
        (2, image([0, 0], [0, 0]), 0, [0, 0, 0, 0]),
        (2, image([3, -4], [0, 0]), 5, [0.6, -0.8, 0, 0]),
        (3, image([1, -1], [0, 0]), 0, [0, 0, 0, 0]),
        (3, image([-1, -2], [-3, 1]), np.nan, [np.nan] * 4),
        (1.5, image([1, -1], [0, 0]), np.nan, [np.nan] * 4),
        (-1, image([1, 2], [4, 4]), 0.5, [0.25, 0.0625, 0.015625, 0.015625]),
        (np.inf, image([-3, 2], [0, 1]), 3, [-1, 0, 0, 0]),
        (np.inf, image([0, 0], [0, 0]), 0, [0, 0, 0, 0]),
        (-np.inf, image([-2, 3], [2, -2]), 2, [-1, 0, 0, 0]),
    ],
)
def test_conventions(p, x, y, dx):
    """Recorded from PyTorch 2.13; compared with it anew in tests/parity."""
    value, grad = jax.value_and_grad(lambda x: lp_pool(x, 2, p).sum())(x)
    np.testing.assert_allclose(value, y, rtol=1e-6)
    np.testing.assert_allclose(grad.ravel(), dx, rtol=1e-6)


def test_infinite_p_is_the_largest_and_the_smallest_size(key):
    case = CASES["overlapping"]
    x = jax.random.normal(key, case.x)
    np.testing.assert_array_equal(
        lp_pool(x, p=np.inf, **case.options), max_pool(jnp.abs(x), **case.options)
    )
    np.testing.assert_array_equal(
        lp_pool(x, p=-np.inf, **case.options), min_pool(jnp.abs(x), **case.options)
    )


@pytest.mark.parametrize("p", [2, 3, np.inf])
def test_a_window_of_padding_alone_is_zero(p):
    y, vjp = jax.vjp(lambda x: lp_pool(x, 1, p, padding=2), jnp.ones((1, 2, 2, 1)))
    np.testing.assert_array_equal(y[0, :2], np.zeros((2, 6, 1)))
    np.testing.assert_array_equal(vjp(jnp.ones_like(y))[0], np.ones((1, 2, 2, 1)))


def test_derivatives_of_a_fractional_power(x64):
    case = CASES["ceil_mode_overlapping"]
    x = 1 + case.distinct(np.float64) / 50
    f = jax.jit(lambda x: jnp.sin(lp_pool(x, p=1.5, **case.options)).sum())
    check_grads(f, (x,), order=2, modes=["fwd", "rev"], eps=1e-4, rtol=1e-5, atol=1e-6)


def test_second_derivatives_are_finite_where_a_window_is_zero():
    x = image([0, 0, 1, 2], [0, 0, 3, 4])
    hessian = jax.hessian(lambda x: lp_pool(x, 2).sum())(x)
    assert jnp.isfinite(hessian).all()


@pytest.mark.parametrize("p", [np.float32(2), np.int64(2), np.array(2)])
def test_powers_of_numpy(p, key):
    x = jax.random.normal(key, (1, 4, 4, 1))
    np.testing.assert_array_equal(lp_pool(x, 2, p), lp_pool(x, 2, 2))


@pytest.mark.parametrize("x", [(0, 5, 6, 3), (2, 5, 6, 0)], ids=["no_examples", "no_channels"])
def test_empty(x):
    y, vjp = jax.vjp(lambda x: lp_pool(x, 2), jnp.ones(x))
    assert y.shape == (x[0], 2, 3, x[-1])
    assert vjp(y)[0].shape == x


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (jnp.zeros((5, 3)), {}, r"x must be \(N, \*spatial, C\) .*got x \(5, 3\)"),
        (jnp.zeros((1, 5, 5, 3), int), {}, r"x must hold floating-point numbers; .*int32"),
        (jnp.zeros((1, 5, 5, 3), jnp.complex64), {}, r"floating-point numbers; .*complex64"),
        (jnp.zeros((1, 5, 5, 3)), {"window": 6}, r"does not fit in an input of \(5, 5\)"),
        (jnp.zeros((1, 5, 5, 3)), {"p": 0}, r"p must be a number other than 0; got p=0"),
        (jnp.zeros((1, 5, 5, 3)), {"p": np.nan}, r"p must be a number other than 0; got p=nan"),
        (jnp.zeros((1, 5, 5, 3)), {"p": "2"}, r"p must be a number other than 0; got p='2'"),
        (jnp.zeros((1, 5, 5, 3)), {"p": True}, r"p must be a number other than 0; got p=True"),
        (jnp.zeros((1, 5, 5, 3)), {"p": 2j}, r"p must be a number other than 0; got p=2j"),
    ],
)
def test_says_what_is_wrong(x, options, message):
    with pytest.raises(ValueError, match=f"^lp_pool: .*{message}"):
        lp_pool(x, **{"window": 2, **options})
