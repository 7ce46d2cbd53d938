"""jconv.prelu against the definition, at zero, and where slope and x are not finite."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jconv.ops.prelu import prelu
from tests.oracles import activations as oracle
from tests.tolerance import assert_close

SLOPES = {"shared": 0.25, "one": [-0.5], "per_channel": [0.1, 0.5, -2.0]}


@pytest.mark.parametrize("slope", SLOPES.values(), ids=SLOPES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_matches_definition(slope, dtype, key):
    x, slope = jax.random.normal(key, (2, 3, 2, 3), dtype), jnp.asarray(slope, dtype)
    y = prelu(x, slope)
    assert y.dtype == dtype
    assert_close(y, oracle.prelu(x, slope), terms=1)


def test_derivatives(key, x64):
    x = jnp.asarray([[-2.0, -0.5, 1.5], [0.7, 3.0, -1.0]])
    check_grads(jax.jit(prelu), (x, jnp.asarray([0.1, 0.5, -2.0])), 2, ["fwd", "rev"], rtol=1e-5)


def test_at_zero_the_derivative_is_the_slope():
    x, slope = jnp.asarray([0.0, -0.0]), jnp.asarray(0.25)
    np.testing.assert_array_equal(jax.grad(lambda x: prelu(x, slope).sum())(x), [0.25, 0.25])
    assert jax.grad(lambda s: prelu(x, s).sum())(slope) == 0


def test_what_is_not_finite():
    x = jnp.asarray([jnp.inf, -jnp.inf, jnp.nan])
    y, vjp = jax.vjp(prelu, x, jnp.asarray([0.5, 0.5, 0.5]))
    np.testing.assert_array_equal(y, [np.inf, -np.inf, np.nan])
    dx, dslope = vjp(jnp.ones(3))
    np.testing.assert_array_equal(dx, [1, 0.5, 0.5])
    np.testing.assert_array_equal(dslope, [0, -np.inf, np.nan])


def test_a_slope_s_gradient_is_summed_in_float32():
    """4096 ones and a 0.5, each for itself lost in a sum of bfloat16."""
    x = -jnp.ones((4097, 1), jnp.bfloat16)
    (dslope,) = jax.vjp(lambda s: prelu(x, s), jnp.ones(1, jnp.bfloat16))[1](jnp.ones_like(x))
    assert dslope.dtype == jnp.bfloat16
    assert dslope == -4096


@pytest.mark.parametrize("shape", [(0, 2, 3), (1, 1, 1), (3,), ()])
def test_any_shape(shape):
    slope = jnp.full(shape[-1:], 0.5)
    np.testing.assert_array_equal(prelu(jnp.full(shape, -2.0), slope), np.full(shape, -1.0))
    np.testing.assert_array_equal(prelu(np.full(shape, 2.0, np.float32), 0.5), np.full(shape, 2))


@pytest.mark.parametrize(
    ("x", "slope", "message"),
    [
        (jnp.ones((2, 3), jnp.int32), 0.5, "x must be floating point; got x of int32"),
        (jnp.ones((2, 3)), 1, "slope must be floating point; got slope of int32"),
        (jnp.ones((2, 3)), jnp.ones(2), r"each of C=3 channels; got slope \(2,\), x \(2, 3\)"),
        (jnp.ones((2, 3)), jnp.ones((2, 3)), r"got slope \(2, 3\), x \(2, 3\)"),
        (jnp.ones(()), jnp.ones(1), r"got slope \(1,\), x \(\)"),
    ],
)
def test_says_what_is_wrong(x, slope, message):
    with pytest.raises(ValueError, match=f"^prelu: .*{message}"):
        prelu(x, slope)
