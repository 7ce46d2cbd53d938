"""jconv.blur_pool against the definition."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jconv.ops.blur_pool import blur_pool
from tests.oracles import conv_variants as oracle
from tests.tolerance import assert_close

CASES = {
    "plain": ((2, 5, 6, 3), (3, 3), (2, 2), "reflect"),
    "even_filter": ((1, 7, 5, 2), (4, 2), (2, 1), "reflect"),
    "wide_stride": ((1, 7, 5, 2), (5, 1), (3, 4), "replicate"),
    "circular": ((1, 6, 4, 1), (3, 2), (2, 2), "circular"),
    "one_axis": ((2, 9, 2), (7,), (2,), "zeros"),
    "three_axes": ((1, 3, 4, 5, 1), (3, 2, 4), (2, 2, 1), "reflect"),
}
NUMPY = {"reflect": "reflect", "replicate": "edge", "circular": "wrap", "zeros": "constant"}


@pytest.mark.parametrize(
    ("name", "dtype"), [*((name, "float32") for name in CASES), ("plain", "bfloat16")]
)
def test_matches_definition(name, dtype, key):
    shape, window, stride, mode = CASES[name]
    x = jax.random.normal(key, shape).astype(dtype)
    y = jax.jit(functools.partial(blur_pool, window=window, stride=stride, padding_mode=mode))(x)
    assert y.dtype == dtype
    assert_close(y, oracle.blur_pool(x, window, stride, NUMPY[mode]), terms=sum(window))


def test_a_constant_stays_and_a_step_is_smoothed():
    x = jnp.array([0.0, 0, 0, 1, 1, 1, 1, 1])[None, :, None]
    np.testing.assert_array_equal(blur_pool(x)[0, :, 0], [0, 0.25, 1, 1])
    np.testing.assert_array_equal(blur_pool(jnp.ones((1, 5, 4, 2))), np.ones((1, 3, 2, 2)))


@pytest.mark.slow
def test_derivatives(x64, key):
    x = jax.random.normal(key, (1, 5, 4, 1))
    # Linear: a step of 1 has no truncation error.
    f = jax.jit(blur_pool)
    check_grads(f, (x,), order=1, modes=["fwd", "rev"], eps=1.0, rtol=1e-10, atol=1e-10)


def test_empty():
    assert blur_pool(jnp.ones((0, 5, 4, 2))).shape == (0, 3, 2, 2)
    assert blur_pool(jnp.ones((2, 5, 4, 0))).shape == (2, 3, 2, 0)


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (jnp.zeros((5, 3)), {}, r"x must be floating point or complex \(N, \*spatial, C\)"),
        (jnp.zeros((1, 5, 3), jnp.int32), {}, r"x must be floating .*got x \(1, 5, 3\) of int32"),
        (jnp.zeros((1, 1, 3)), {}, r'padding_mode="reflect" can fill at most \(0,\) pixels'),
        (jnp.zeros((1, 5, 3)), {"padding_mode": "mirror"}, r"padding_mode must be one of"),
        (jnp.zeros((1, 5, 3)), {"window": 0}, r"window must be at least 1"),
    ],
)
def test_says_what_is_wrong(x, options, message):
    with pytest.raises(ValueError, match=f"^blur_pool: .*{message}"):
        blur_pool(x, **options)
