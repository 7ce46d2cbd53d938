"""Standardisation of rows in Triton's interpreter against the definition."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jconv
from jconv.ops import standardize as definition
from jconv.ops.layer_norms import layer_norm, rms_norm
from tests.kernels.triton.calls import interpreted
from tests.tolerance import assert_close

pytestmark = interpreted
SHAPES = {"rows": ((5, 3, 20), (2,)), "two_axes": ((7, 2, 3, 11), (2, 3)), "one": ((33, 4), (1,))}
each_shape = pytest.mark.parametrize(("shape", "axes"), SHAPES.values(), ids=SHAPES)
centred = pytest.mark.parametrize("centre", [True, False], ids=["centred", "not_centred"])
held = pytest.mark.parametrize("bounds", [None, (0.0, 0.5), (0.0, float("inf"))])


def operands(shape, axes, dtype):
    first = len(shape) - len(axes)
    kept, line = shape[:first] + (1,) * len(axes), (1,) * first + shape[first:]
    random = np.random.default_rng(0)
    draw = lambda *s: jnp.asarray(random.standard_normal(s), "float32")  # noqa: E731
    x = (3 + 2 * draw(*shape)).astype(dtype)
    return x, draw(*shape).astype(dtype), draw(*line), draw(*line), draw(*kept), draw(*kept)


@each_shape
@centred
@held
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_forward_and_gradient(shape, axes, centre, bounds, dtype):
    x, dz, scale, bias, dmean, dvariance = operands(shape, axes, dtype)
    static = {"axes": axes, "epsilon": 0.1, "centre": centre, "bounds": bounds}

    def both(name, x, dz):
        run = functools.partial(definition.standardize, **static, implementation=name)
        z, mean, variance = run(x, scale, bias)
        run = functools.partial(definition.grad, **static, implementation=name)
        return z, mean, variance, *run(dz, dmean, dvariance, x, scale, bias, mean, variance)

    found = jax.jit(functools.partial(both, "triton"))(x, dz)
    expected = jax.jit(functools.partial(both, "direct"))(x.astype("float32"), dz.astype("float32"))
    assert [a.dtype for a in found] == [dtype, "float32", "float32", dtype, "float32", "float32"]
    for a, e in zip(found, expected, strict=True):
        assert_close(a, e, terms=x.size)


def test_infinite_numbers_pass_a_relu():
    x, dz, _, _, dmean, dvariance = operands((4, 20), (1,), "float32")
    scale, bias = jnp.ones((1, 20)), jnp.zeros((1, 20)).at[0, 3].set(jnp.inf)
    static = {"axes": (1,), "epsilon": 0.1, "centre": True, "bounds": (0.0, float("inf"))}
    statistics = jnp.mean(x, 1, keepdims=True), jnp.var(x, 1, keepdims=True)
    found, expected = (
        definition.grad(
            dz, dmean, dvariance, x, scale, bias, *statistics, **static, implementation=name
        )
        for name in ("triton", "direct")
    )
    for a, e in zip(found, expected, strict=True):
        assert_close(a, e, terms=x.size)
    assert (found[2][0, 3] != 0).all()


@pytest.mark.parametrize("op", [layer_norm, rms_norm])
def test_under_transformations(op):
    x, scale = operands((4, 3, 20), (2,), "float32")[0], jnp.linspace(0.5, 2, 20)

    def loss(x, scale, name):
        return jnp.sum(jnp.sin(op(x, scale, implementation=name)))

    def several(x, scale, name):
        grad = jax.grad(functools.partial(loss, name=name), (0, 1))
        return (
            grad(x, scale),
            jax.jvp(grad, (x, scale), (jnp.cos(x), scale)),
            jax.vmap(grad, (0, None))(x, scale),
        )

    found, expected = (
        jax.jit(functools.partial(several, name=name))(x, scale) for name in ("triton", "direct")
    )
    jax.tree.map(functools.partial(assert_close, terms=240), found, expected)


def test_says_why_not():
    reason = "only for rows of at most 16384 numbers, got 32768"
    with pytest.raises(NotImplementedError, match=f"'triton' can't compute this call: {reason}"):
        jconv.layer_norm(jnp.zeros((4, 2**15)), implementation="triton")
