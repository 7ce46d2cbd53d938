"""Linear layers computed as 1x1 convolutions."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

import jconv
from jconv import nn
from tests.tolerance import assert_close


@pytest.mark.parametrize("shape", [(2, 7, 6), (2, 5, 4, 6), (2, 3, 4, 2, 6)])
def test_is_the_linear_layer(shape, key):
    """Forward and both gradients."""
    x = jax.random.normal(key, shape)
    plain = nn.Linear(6, 9, rngs=nnx.Rngs(0))
    pointwise = nn.Linear(6, 9, dot_general=nn.pointwise_dot, rngs=nnx.Rngs(0))

    def passes(layer):
        graph, params = nnx.split(layer)
        y, pull = jax.vjp(lambda params, x: nnx.merge(graph, params)(x), params, x)
        return jax.tree.leaves((y, pull(jnp.cos(y))))

    for actual, expected in zip(passes(pointwise), passes(plain), strict=True):
        assert_close(actual, expected, terms=x.size)
    assert [c.op for c in jconv.explain_choice(lambda x: pointwise(x), x)] == ["conv"]


def test_preferred_element_type():
    x = jnp.ones((2, 3, 6), jnp.bfloat16)
    options = {"dtype": jnp.bfloat16, "preferred_element_type": jnp.float32}
    layer = nn.Linear(
        6, 9, use_bias=False, dot_general=nn.pointwise_dot, rngs=nnx.Rngs(0), **options
    )
    assert layer(x).dtype == jnp.float32


def test_what_is_no_convolution_is_refused():
    kernel = jnp.ones((6, 9))
    with pytest.raises(NotImplementedError, match="pointwise_dot: the last axis of inputs"):
        nn.pointwise_dot(jnp.ones((6, 4, 2)), kernel, (((0,), (0,)), ((), ())))
    with pytest.raises(ValueError, match=r"conv: .*\(N=4, C=6\)|spatial"):
        nn.pointwise_dot(jnp.ones((4, 6)), kernel, (((1,), (0,)), ((), ())))
