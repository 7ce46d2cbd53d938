"""Grouped convolution as matrix products, against the definition."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jconv
from jconv.algorithms import shifted
from tests import often
from tests.ops.conv_cases import CASES, Case
from tests.oracles import conv as oracle
from tests.tolerance import assert_close

GROUPED = {
    name: CASES[name]
    for name in ("groups", "input_dilation_and_stride", "one_axis")
} | {
    "stride": Case(x=(2, 5, 6, 4), groups=2, stride=(1, 2)),
    "dilation": Case(x=(1, 7, 6, 6), groups=3, dilation=(2, 3), padding=2),
    "three_axes": Case(x=(1, 4, 3, 3, 4), window=(2, 1, 2), groups=2, k=4, stride=(1, 2, 1)),
    "tap_outside": Case(x=(1, 1, 2, 4), groups=2, padding=((2, 0), (0, 3)), stride=2),
}  # fmt: skip
each_case = pytest.mark.parametrize("case", GROUPED.values(), ids=GROUPED)


@each_case
@pytest.mark.parametrize("dtype", often.names(["float32", "bfloat16"], ["float32"]))
def test_matches_definition(case, dtype, key):
    """y, and dx, which is computed by the same matrix products."""
    x, w = case.arrays(key, dtype)
    f = jax.jit(lambda x, w: jconv.conv(x, w, implementation="shifted", **case.options))
    y, vjp = jax.vjp(f, x, w)
    assert y.dtype == dtype
    assert_close(y, case.expected(x, w), terms=case.terms)
    dy = jnp.cos(jnp.arange(y.size)).reshape(y.shape).astype(dtype)
    dx, dw = vjp(dy)
    assert_close(
        dx, oracle.input_grad(dy, w, input=case.x[1:-1], **case.definition),
        terms=case.terms * case.k,
    )  # fmt: skip
    assert_close(dw, oracle.filter_grad(x, dy, window=case.window, **case.definition), terms=y.size)
    jaxpr = str(jax.make_jaxpr(lambda dy: jax.vjp(f, x, w)[1](dy))(dy))
    assert jaxpr.count("implementation=shifted") >= 2  # inherited by dx, and dw has none
    assert "implementation=None" in jaxpr


@pytest.mark.parametrize("dtype", ["int8", "complex64"])
def test_exact_dtypes(dtype):
    """As the direct one: int8 wraps around."""
    case = GROUPED["groups"]
    x, w = (np.arange(np.prod(s)).reshape(s) % 127 for s in (case.x, case.w))
    x, w = jnp.asarray(x.astype(dtype)), jnp.asarray(w.astype(dtype))
    actual, expected = (
        jconv.conv(x, w, preferred_element_type=dtype, implementation=name, **case.options)
        for name in ("shifted", "direct")
    )
    assert actual.dtype == dtype
    np.testing.assert_array_equal(actual, expected)


def test_negative_padding_crops(key):
    x, w = Case(x=(2, 5, 6, 4), groups=2).arrays(key, "float32")
    f = functools.partial(
        shifted.conv, w=w, stride=(1, 2), input_dilation=(1, 1), dilation=(1, 1), output=(2, 3),
        groups=2, dtype=x.dtype, sum_dtype=x.dtype,
    )  # fmt: skip
    cropped = f(x[:, 1:], pads=((0, 0), (0, 1)))
    np.testing.assert_allclose(f(x, pads=((-1, 0), (0, 1))), cropped, rtol=1e-6, atol=1e-6)


def test_sums_of_bfloat16_are_float32_when_asked_for(key):
    case = GROUPED["groups"]
    x, w = case.arrays(key, "bfloat16")
    y = jconv.conv(
        x, w, implementation="shifted", preferred_element_type=jnp.float32, **case.options
    )
    assert y.dtype == jnp.float32
    assert_close(y, case.expected(x, w), terms=case.terms)


@pytest.mark.parametrize(
    ("x", "w", "groups", "message"),
    [
        ((1, 4, 4, 4), (3, 3, 4, 4), 1, "only grouped convolutions of more than one"),
        ((1, 4, 4, 4), (3, 3, 1, 4), 4, "only grouped convolutions of more than one"),
        ((1, 12, 12, 4), (12, 11, 2, 4), 2, "only for filters of at most 128 taps"),
        ((0, 4, 4, 4), (3, 3, 2, 4), 2, "nothing to compute"),
    ],
)
def test_says_what_it_does_not_compute(x, w, groups, message):
    with pytest.raises(NotImplementedError, match=f"^conv: implementation 'shifted' .*: {message}"):
        jconv.conv(jnp.zeros(x), jnp.zeros(w), groups=groups, implementation="shifted")


def test_says_that_it_does_not_compute_truth_values():
    x, w = jnp.ones((1, 4, 4, 4), bool), jnp.ones((3, 3, 2, 4), bool)
    with pytest.raises(NotImplementedError, match="not for bool"):
        jconv.conv(x, w, groups=2, implementation="shifted")
