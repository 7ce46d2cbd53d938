"""Standardisation and its gradient against the definition, in float64."""

from __future__ import annotations

import functools
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jconv_kernels import onednn
from jconv_kernels.onednn import norm

from tests.kernels.onednn.calls import each_of, needs_onednn
from tests.tolerance import assert_close

pytestmark = needs_onednn
definition = importlib.import_module("jconv.ops.standardize")

CASES = {  # x, the axes that are normalised together
    "batch": ((8, 7, 7, 24), (0, 1, 2)),
    "batch_in_parts": ((40, 30, 20, 64), (0, 1, 2)),
    "layer": ((4, 5, 37), (2,)),
    "layer_of_several_axes": ((4, 6, 5, 8), (1, 2, 3)),
    "long_lines": ((2, 9000), (1,)),
    "group": ((4, 6, 6, 3, 8), (1, 2, 4)),
    "instance": ((4, 6, 6, 8), (1, 2)),
    "examples_alone": ((5, 3, 40), (0,)),
    "axes_of_one_number": ((5, 1, 3), (1, 2)),
    "all": ((7, 3), (0, 1)),
    "many_rows": ((3000, 3), (0,)),
}
each_case = each_of(CASES, "batch", "group", "long_lines")
centred = pytest.mark.parametrize("centre", [True, False], ids=["centred", "not_centred"])


def standardized(x, axes, centre, epsilon=1e-5):
    x = np.asarray(x, np.float64)
    mean = x.mean(axes, keepdims=True) if centre else np.zeros_like(x.mean(axes, keepdims=True))
    variance = np.square(x - mean).mean(axes, keepdims=True)
    return (x - mean) / np.sqrt(variance + epsilon), mean, variance


@each_case
@centred
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_standardize(case, centre, dtype, key):
    shape, axes = case
    x = (10 + 3 * jax.random.normal(key, shape)).astype(dtype)
    static = {"axes": axes, "epsilon": 1e-5, "centre": centre}
    assert onednn.standardize_unsupported(jax.typeof(x), **static) is None
    results = jax.jit(functools.partial(onednn.standardize, **static))(x)
    expected = standardized(x, axes, centre)
    for actual, right in zip(results, expected, strict=True):
        assert actual.dtype == "float32"
        # Half an ulp of x, 10, is lost where it is centred: y is of size 1.
        np.testing.assert_allclose(actual, right, rtol=2e-6, atol=4e-6)


@each_case
@centred
def test_gradient(case, centre, key):
    shape, axes = case
    x, t = jax.random.normal(key, shape), jax.random.normal(jax.random.fold_in(key, 1), shape)
    y, _, variance = (jnp.asarray(a, "float32") for a in standardized(x, axes, centre))
    rstd, static = jax.lax.rsqrt(variance + 1e-5), {"axes": axes, "centre": centre}
    assert onednn.standardize_grad_unsupported(*map(jax.typeof, (t, y, rstd)), **static) is None
    dx = jax.jit(functools.partial(onednn.standardize_grad, **static))(t, y, rstd)
    t, y, rstd = (np.asarray(a, np.float64) for a in (t, y, rstd))
    mean = functools.partial(np.mean, axis=axes, keepdims=True)
    expected = rstd * (t - (mean(t) if centre else 0) - y * mean(t * y))
    assert_close(dx, expected, terms=16)


def test_numbers_far_from_zero(key):
    """Two passes: E[x^2] - E[x]^2 would lose all digits."""
    x = 1000 + 1e-2 * jax.random.normal(key, (4000, 3))
    for axes, view in (((0,), x), ((1,), x.T)):
        static = {"axes": axes, "epsilon": 0.0, "centre": True}
        _, _, variance = onednn.standardize(view, **static)
        np.testing.assert_allclose(variance, standardized(view, axes, True)[2], 1e-3)


@pytest.mark.parametrize("axes", [(0,), (1,)])
def test_equal_numbers_and_nan(axes):
    x = jnp.full((64, 64), 0.1)
    static = {"axes": axes, "epsilon": 1e-5, "centre": True}
    y, mean, variance = onednn.standardize(x, **static)
    np.testing.assert_allclose(y, 0, atol=1e-5)
    np.testing.assert_allclose(mean, 0.1, rtol=1e-6)
    assert float(variance.min()) >= 0
    y, mean, variance = onednn.standardize(x.at[3, 3].set(jnp.nan), **static)
    assert all(int(np.isnan(a).sum()) == n for a, n in ((y, 64), (mean, 1), (variance, 1)))


@pytest.mark.parametrize(
    ("shape", "axes", "view"),
    [
        ((2, 3, 5, 7), (0, 1, 2), (1, 30, 7, 1)),
        ((2, 3, 5, 7), (3,), (1, 1, 30, 7)),
        ((2, 3, 5, 7), (1, 2), (2, 15, 7, 1)),
        ((2, 3, 5, 7, 4), (1, 2, 4), (2, 15, 7, 4)),
        ((2, 1, 5), (0, 2), (1, 1, 1, 10)),
        ((2, 3, 5, 7), (0, 2), (1, 2, 3, 5)),
        ((2, 3, 5, 7, 2), (0, 2, 4), None),
    ],
)
def test_view(shape, axes, view):
    if view == (1, 2, 3, 5):  # then 7 is left over at the end
        view = None
    found = norm._view(shape, axes)
    assert found is None if view is None else tuple(found) == view


@pytest.mark.parametrize(
    ("shape", "dtype", "axes", "reason"),
    [
        ((4, 3), "float64", (0,), "only float32, bfloat16, got float64"),
        ((0, 3), "float32", (0,), "nothing to compute"),
        (
            (2, 3, 5, 7, 2), "float32", (0, 2, 4),
            "only axes that lie in at most two groups beside each other, got (0, 2, 4)",
        ),
    ],
)  # fmt: skip
def test_says_why_not(shape, dtype, axes, reason):
    x = jax.ShapeDtypeStruct(shape, dtype)
    static = {"axes": axes, "centre": True}
    assert onednn.standardize_unsupported(x, epsilon=0.0, **static) == reason
    of_gradient = onednn.standardize_grad_unsupported(x, x, x, **static)
    assert of_gradient == reason.replace(", bfloat16", "")


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"view": (4, 3)}, "view must be A, R1, B, R2"),
        ({"view": (0, 4, 3, 1)}, "view must be at least 1"),
        ({"view": (1, 5, 3, 1)}, "view must have as many numbers as x"),
        ({"view": (1, 1, 4, 3)}, "statistics must be as many as A B"),
        ({"y": (3, 4)}, "y must have x's shape, and variance mean's"),
        ({"variance": (3, 1)}, "y must have x's shape, and variance mean's"),
        ({"x_dtype": "int32"}, "x must be float32 or bfloat16"),
        ({"y_dtype": "bfloat16"}, "y must be float32"),
    ],
)
def test_the_call_itself_says_what_is_wrong(wrong, reason):
    given = {
        "view": (1, 4, 3, 1), "y": (4, 3), "variance": (1, 3), "x_dtype": "float32",
        "y_dtype": "float32", **wrong,
    }  # fmt: skip
    shapes = ((given["y"], given["y_dtype"]), ((1, 3), "float32"), (given["variance"], "float32"))
    run = jax.ffi.ffi_call(
        "jconv_onednn_standardize", [jax.ShapeDtypeStruct(*shape) for shape in shapes]
    )
    x, view = jnp.ones((4, 3), given["x_dtype"]), np.array(given["view"], np.int64)
    with pytest.raises(jax.errors.JaxRuntimeError, match=f"standardize: {reason}; got x "):
        jax.block_until_ready(run(x, view=view, epsilon=np.float64(0), centre=True))


def test_the_gradients_call_says_it_too():
    run = jax.ffi.ffi_call("jconv_onednn_standardize_grad", jax.ShapeDtypeStruct((4, 3), "float32"))
    x, view = jnp.ones((4, 3)), np.array((1, 4, 3, 1), np.int64)
    message = "standardize_grad: t, y and dx must have the same shape; got x "
    with pytest.raises(jax.errors.JaxRuntimeError, match=message):
        jax.block_until_ready(run(x, x[:2], x[:1], view=view, centre=True))
