"""jconv.max_pool with ties="shared": the gradient of equal maxima, for both bodies."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import jconv
from jconv.ops.max_pool import max_pool
from tests.ops.pool_cases import CASES as PLAIN_CASES
from tests.ops.pool_cases import Case
from tests.oracles import pool_variants as oracle
from tests.tolerance import assert_close

BODIES = ("shifted", "direct")
NAMES = (
    "overlapping", "pixels_never_read", "pads_wider_than_window", "ceil_mode_overlapping",
    "one_axis", "three_axes", "more_than_64_pixels",
)  # fmt: skip
CASES = {
    **{name: PLAIN_CASES[name] for name in NAMES},
    "dilation_and_pads": Case(window=(3, 2), stride=(2, 1), dilation=2, padding=(2, 1)),
}


def gradient(case, x, dy, **options):
    f = functools.partial(max_pool, **case.options, ties="shared", **options)
    return jax.jit(lambda x, dy: jax.vjp(f, x)[1](dy)[0])(x, dy)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_gradient_is_shared_among_equals(case):
    """Small whole numbers, so windows hold several equal maxima."""
    x = case.image(np.float32)
    shape = oracle.shape_of(x, **case.definition)
    dy = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    expected = oracle.tied_gradient(x, dy, **case.definition)
    small = np.prod(case.definition["window"]) <= 64
    for name in BODIES if small else ("direct",):
        assert_close(
            gradient(case, x, dy, implementation=name), expected,
            terms=int(np.prod(case.definition["window"])),
        )  # fmt: skip


def test_values_and_indices_are_those_of_the_first():
    x = CASES["overlapping"].image(np.float32)
    options = CASES["overlapping"].options
    shared = max_pool(x, **options, ties="shared", return_indices=True)
    first = max_pool(x, **options, return_indices=True)
    for a, e in zip(shared, first, strict=True):
        np.testing.assert_array_equal(a, e)


@pytest.mark.parametrize("name", BODIES)
def test_tangent_is_the_mean_over_equals(name):
    x = jnp.asarray([[1.0, 2.0, 2.0], [0.0, 2.0, 1.0]])[None, :, :, None]
    dx = jnp.asarray([[1.0, 10.0, 100.0], [0.0, 1000.0, 5.0]])[None, :, :, None]
    f = functools.partial(max_pool, window=2, stride=1, ties="shared", implementation=name)
    _, dy = jax.jvp(f, (x,), (dx,))
    np.testing.assert_allclose(dy.ravel(), [505.0, 370.0], rtol=1e-6)


@pytest.mark.parametrize("name", BODIES)
def test_several_nan_share(name):
    case = CASES["overlapping"]
    x = case.image(np.float32)
    x[0, 0, 0, 0] = x[0, 2, 3, 1] = x[0, 3, 3, 1] = x[1, 4, 5, 2] = np.nan
    dy = np.ones(oracle.shape_of(x, **case.definition), np.float32)
    expected = oracle.tied_gradient(x, dy, **case.definition)
    assert_close(gradient(case, x, dy, implementation=name), expected, terms=9)


@pytest.mark.parametrize("name", BODIES)
def test_window_of_padding_alone(name):
    """It has no gradient, not even where the cotangent is infinite."""
    case = CASES["pads_wider_than_window"]
    x = case.image(np.float32)
    dy = jnp.where(jnp.isneginf(max_pool(x, **case.options)), jnp.inf, 0.0)
    assert jnp.isinf(dy).any()
    np.testing.assert_array_equal(gradient(case, x, dy, implementation=name), np.zeros(x.shape))


@pytest.mark.parametrize("name", BODIES)
def test_image_of_minus_infinity_shares_among_its_pixels_alone(name):
    """Padding is as small, but is no pixel."""
    case = CASES["overlapping"]
    x = np.full(case.x, -np.inf, np.float32)
    dy = np.ones(oracle.shape_of(x, **case.definition), np.float32)
    expected = oracle.tied_gradient(x, dy, **case.definition)
    assert_close(gradient(case, x, dy, implementation=name), expected, terms=9)


def test_low_precision_is_summed_in_float32():
    """256 equal pixels: 1/256 each, 256 times, over windows that overlap."""
    x = jnp.ones((1, 16, 16, 1), jnp.bfloat16)
    f = functools.partial(max_pool, window=16, stride=1, padding="SAME", ties="shared")
    dx = jax.grad(lambda x: f(x).sum())(x)
    assert dx.dtype == jnp.bfloat16
    wide = jax.grad(lambda x: f(x).sum())(x.astype(jnp.float32))
    assert_close(dx, wide, terms=256)


@pytest.mark.slow
def test_derivatives(x64):
    case = CASES["dilation_and_pads"]
    pool = functools.partial(max_pool, **case.options, ties="shared", implementation="direct")
    f = jax.jit(lambda x: jnp.sin(pool(x)).sum())
    x = case.distinct(np.float64)
    check_grads(f, (x,), order=2, modes=["fwd", "rev"], eps=1e-4, rtol=1e-5, atol=1e-6)


def test_integers_and_no_examples():
    x = CASES["overlapping"].image(np.int32)
    options = {"window": 2, "ties": "shared"}
    np.testing.assert_array_equal(max_pool(x, **options), max_pool(x, 2))
    _, dy = jax.jvp(functools.partial(max_pool, **options), (x,), (float0_of(x),))
    assert dy.dtype == jax.dtypes.float0
    none = jnp.zeros((0, 5, 6, 3))
    assert jax.grad(lambda x: max_pool(x, **options).sum())(none).shape == none.shape


def float0_of(x):
    return np.zeros(x.shape, jax.dtypes.float0)


def test_the_chosen_implementation_ran():
    def explain(window):
        f = jax.grad(lambda x: max_pool(x, window, ties="shared").sum())
        choices = jconv.explain_choice(f, jnp.zeros((1, 9, 9, 1)))
        return {c.op: c.implementation for c in choices}

    assert explain(3)["pool_put_equal"] == "shifted"
    assert explain(9)["pool_put_equal"] == "direct"


@pytest.mark.parametrize("implementation", ["lax", "x"])
def test_says_what_is_wrong(implementation):
    x = jnp.zeros((1, 4, 4, 1))
    with pytest.raises(
        ValueError, match=r'^max_pool: ties must be "first" or "shared"; got "?.last'
    ):
        max_pool(x, 2, ties="last")
    with pytest.raises(ValueError, match=r"^max_pool_tied: implementation must be None or one of"):
        max_pool(x, 2, ties="shared", implementation=implementation)
