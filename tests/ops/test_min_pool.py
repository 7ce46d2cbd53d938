"""jconv.min_pool against the definition of max_pool, with the order turned round."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jconv.ops.max_pool import max_pool, min_pool
from tests.ops.pool_cases import CASES
from tests.oracles import pool as oracle

NAMES = ("plain", "overlapping", "pads_wider_than_window", "ceil_mode_overlapping", "one_axis")
each_case = pytest.mark.parametrize("case", [CASES[name] for name in NAMES], ids=NAMES)


@each_case
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_matches_definition(case, dtype):
    x = case.image(np.float32)
    expected, positions = oracle.max_pool(-x, **case.definition)
    y, indices = min_pool(jnp.asarray(x, dtype), **case.options, return_indices=True)
    assert (y.dtype, indices.dtype) == (dtype, jnp.int32)
    np.testing.assert_array_equal(y.astype(np.float32), -expected)
    np.testing.assert_array_equal(indices, positions)


@pytest.mark.parametrize("dtype", ["int32", "int8", "uint8"])
def test_integers(dtype):
    """All of them, the smallest too, whose negative does not exist."""
    limits = np.iinfo(dtype)
    pixels = [limits.min, limits.max, limits.min + 1, limits.max, limits.max, limits.max, 3, 7]
    x = np.array(pixels, dtype).reshape(1, 4, 2, 1)
    y = min_pool(x, 2, padding=((0, 2), (0, 0)))
    assert y.dtype == dtype
    np.testing.assert_array_equal(y.ravel(), [limits.min, 3, limits.max])


@pytest.mark.parametrize("ties", ["first", "shared"])
def test_gradient(ties):
    """That of max_pool at -x, of opposite sign twice."""
    case = CASES["overlapping"]
    x = case.image(np.float32)
    f = functools.partial(min_pool, **case.options, ties=ties)
    g = functools.partial(max_pool, **case.options, ties=ties)
    y, vjp = jax.vjp(f, x)
    dy = jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape)
    np.testing.assert_array_equal(vjp(dy)[0], jax.vjp(g, -x)[1](dy)[0])


def test_nan_wins():
    x = jnp.asarray([1.0, jnp.nan, -jnp.inf, 2.0]).reshape(1, 2, 2, 1)
    y, indices = min_pool(x, 2, return_indices=True)
    assert jnp.isnan(y).all()
    assert indices.item() == 1


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (jnp.zeros((5, 3)), {}, r"x must be \(N, \*spatial, C\) .*got x \(5, 3\)"),
        (jnp.zeros((1, 5, 5, 3), bool), {}, r"x must hold real numbers; got x .* of bool"),
        (jnp.zeros((1, 5, 5, 3), jnp.complex64), {}, r"x must hold real numbers; .* complex64"),
        (jnp.zeros((1, 5, 5, 3)), {"window": 6}, r"does not fit in an input of \(5, 5\)"),
        (jnp.zeros((1, 5, 5, 3)), {"ties": "all"}, r'ties must be "first" or "shared"; got .all'),
    ],
)
def test_says_what_is_wrong(x, options, message):
    with pytest.raises(ValueError, match=f"^min_pool: .*{message}"):
        min_pool(x, **{"window": 2, **options})


@pytest.mark.parametrize("pool", [max_pool, min_pool])
def test_refuses_more_pixels_than_positions(pool):
    x = jax.ShapeDtypeStruct((1, 2**16, 2**15, 1), jnp.float32)
    with pytest.raises(ValueError, match=r"_pool: .*fewer than 2\*\*31 pixels.*\(65536, 32768\)"):
        jax.eval_shape(functools.partial(pool, window=2), x)
