"""jconv.depthwise_conv and jconv.separable_conv against the definition, and their cost."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jconv
from jconv.ops.separable_conv import depthwise_conv, separable_conv
from jconv.summary.multiply_adds import multiply_adds
from tests.ops.conv_cases import CASES
from tests.tolerance import assert_close


@pytest.mark.parametrize("name", ["depthwise", "depthwise_one_each"])
def test_depthwise_matches_definition(name, key):
    case = CASES[name]
    x, w = case.arrays(key, "float32")
    options = {k: v for k, v in case.options.items() if k != "groups"}
    b = jnp.arange(float(case.k))
    expected = case.expected(x, w) + np.arange(case.k)
    assert_close(depthwise_conv(x, w, b, **options), expected, terms=case.terms)


def test_the_filters_of_a_channel_are_neighbours():
    """Channel c gives outputs c*M to c*M + M - 1, as in Keras and PyTorch."""
    x = jnp.array([1.0, 10, 100]).reshape(1, 1, 3)
    y = depthwise_conv(x, jnp.arange(1.0, 7).reshape(1, 1, 6))
    np.testing.assert_array_equal(y[0, 0], [1, 2, 30, 40, 500, 600])


@pytest.mark.parametrize("mode", ["zeros", "circular"])
def test_separable_is_two_convolutions(mode, key):
    keys = jax.random.split(key, 4)
    shapes = [(2, 5, 4, 3), (3, 2, 1, 6), (1, 1, 6, 4), (4,)]
    x, d, p, b = (jax.random.normal(k, shape) for k, shape in zip(keys, shapes, strict=True))
    options = {"stride": (2, 1), "dilation": (1, 2), "padding_mode": mode}
    y = jax.jit(functools.partial(separable_conv, **options))(x, d, p, b)
    depthwise = np.asarray(jconv.conv(x, d, groups=3, **options))
    assert_close(y, depthwise @ np.asarray(p)[0, 0] + np.asarray(b), terms=12)


def test_multiply_adds_of_separable_against_full():
    """3x3 at 256 channels, per position: 9 * 256 + 256 * 256 against 9 * 256 * 256."""
    x, d, p, w = (
        jax.ShapeDtypeStruct(shape, jnp.float32)
        for shape in [(1, 1, 1, 256), (3, 3, 1, 256), (1, 1, 256, 256), (3, 3, 256, 256)]
    )
    assert multiply_adds(jax.make_jaxpr(separable_conv)(x, d, p).jaxpr) == 67_840
    assert multiply_adds(jax.make_jaxpr(jconv.conv)(x, w).jaxpr) == 589_824


@pytest.mark.parametrize(
    ("x", "w"), [((1, 5, 4), (3, 1, 6)), ((1, 5, 4), (3, 2, 4)), ((5, 4), (1, 4))]
)
def test_depthwise_says_what_is_wrong(x, w):
    message = r"^depthwise_conv: x must be \(N, \*spatial, C\) and w \(\*window, 1, C\*M\)"
    with pytest.raises(ValueError, match=message):
        depthwise_conv(jnp.zeros(x), jnp.zeros(w))


def test_separable_says_what_is_wrong():
    with pytest.raises(ValueError, match=r"^separable_conv: pointwise must have one tap"):
        separable_conv(jnp.zeros((1, 5, 2)), jnp.zeros((3, 1, 2)), jnp.zeros((3, 2, 4)))
