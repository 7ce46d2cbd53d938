"""jconv.maxout against the definition."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jconv.ops.maxout import maxout
from tests.oracles import pool_variants as oracle


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int32", "uint8"])
@pytest.mark.parametrize(("shape", "pieces"), [((2, 3, 6), 3), ((4, 6), 2), ((8,), 1), ((5,), 5)])
def test_matches_definition(shape, pieces, dtype):
    x = jnp.asarray(np.random.default_rng(0).integers(0, 9, shape), dtype)
    y = maxout(x, pieces)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, oracle.maxout(np.asarray(x), pieces))


def test_gradient_goes_to_the_first_and_nan_wins():
    x = jnp.asarray([1.0, 3.0, 3.0, jnp.nan, 5.0, jnp.nan])
    y, dx = jax.value_and_grad(lambda x: (maxout(x, 3) * jnp.asarray([2.0, 7.0])).sum())(x)
    assert np.isnan(y)
    np.testing.assert_array_equal(dx, [0, 2, 0, 7, 0, 0])


def test_empty():
    assert maxout(jnp.zeros((0, 4)), 2).shape == (0, 2)
    assert maxout(jnp.zeros((3, 0)), 2).shape == (3, 0)


@pytest.mark.parametrize(
    ("x", "pieces", "message"),
    [
        (jnp.zeros((2, 5)), 2, r"x's C=5 does not divide into pieces=2; got x \(2, 5\)"),
        (jnp.zeros((2, 4)), 0, r"pieces must be at least 1; got pieces=0"),
        (jnp.zeros((2, 4)), 2.0, r"pieces must be an int; got 2.0"),
        (jnp.zeros(()), 1, r"x must be real numbers \(..., C\); got x \(\) of float32"),
        (jnp.zeros((2, 4), bool), 2, r"x must be real numbers .* of bool"),
        (jnp.zeros((2, 4), jnp.complex64), 2, r"x must be real numbers .* of complex64"),
    ],
)
def test_says_what_is_wrong(x, pieces, message):
    with pytest.raises(ValueError, match=f"^maxout: .*{message}"):
        maxout(x, pieces)
