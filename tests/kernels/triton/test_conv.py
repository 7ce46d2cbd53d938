"""Depthwise kernels in Triton's interpreter against the oracle and the definitions."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jconv
from tests.kernels.triton.calls import interpreted
from tests.ops.conv_cases import Case
from tests.tolerance import assert_close

pytestmark = interpreted

CASES = {
    "plain": Case(x=(2, 5, 6, 20), k=20, groups=20, window=(3, 3)),
    "strided": Case(x=(1, 9, 7, 17), k=17, groups=17, window=(3, 2), stride=(2, 3)),
    "stride_beyond_the_window": Case(x=(1, 8, 9, 4), k=4, groups=4, window=(2, 1), stride=3),
    "dilated": Case(x=(1, 9, 8, 5), k=5, groups=5, window=(3, 3), dilation=(2, 3), stride=(1, 2)),
    "padded_wide": Case(
        x=(1, 4, 3, 6), k=6, groups=6, window=(2, 2), padding=((3, 1), (0, 4)), stride=2
    ),
    "one_axis": Case(x=(2, 14, 33), k=33, groups=33, window=(5,), stride=2),
    "three_axes": Case(x=(1, 4, 5, 4, 3), k=3, groups=3, window=(2, 3, 2), stride=(1, 2, 2)),
    "many_taps": Case(x=(1, 11, 12, 3), k=3, groups=3, window=(9, 8)),
}
each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
each_dtype = pytest.mark.parametrize("dtype", ["float32", "bfloat16"])


def run(case, x, w, name):
    """y, dx and dw for one dy, all by one implementation."""
    conv = functools.partial(jconv.conv, **case.options, implementation=name)

    def passes(x, w):
        y, back = jax.vjp(conv, x, w)
        dy = jnp.cos(jnp.arange(y.size, dtype="float32")).reshape(y.shape).astype("bfloat16")
        return y, *back(dy.astype(y.dtype))

    return jax.jit(passes)(x, w)


@each_case
@each_dtype
def test_all_three_directions(case, dtype, key):
    first, second = jax.random.split(key)
    x, w = jax.random.normal(first, case.x), jax.random.normal(second, case.w)
    x, w = x.astype(dtype), w.astype(dtype)
    found = run(case, x, w, "triton")
    wide = run(case, x.astype("float32"), w.astype("float32"), "direct")
    terms = int(np.prod(case.w[:-1])), int(np.prod(case.w[:-1])), int(np.prod(wide[0].shape[:-1]))
    for a, e, count in zip(found, wide, terms, strict=True):
        assert a.dtype == dtype
        assert_close(a, e, terms=count)


def test_matches_the_oracle(key):
    case = CASES["strided"]
    x, w = jax.random.normal(key, case.x), jax.random.normal(key, case.w)
    y = jconv.conv(x, w, **case.options, implementation="triton")
    assert_close(y, case.expected(x, w), terms=6)


def test_second_derivatives(key):
    case = CASES["plain"]
    x, w = jax.random.normal(key, case.x), jax.random.normal(key, case.w)

    def energy(w, name):
        return jnp.sum(jnp.sin(jconv.conv(x, w, **case.options, implementation=name)))

    found, expected = (
        jax.jit(
            lambda w, name=name: jax.jvp(jax.grad(functools.partial(energy, name=name)), (w,), (w,))
        )(w)
        for name in ("triton", "direct")
    )
    jax.tree.map(functools.partial(assert_close, terms=500), found, expected)


@pytest.mark.parametrize(
    ("case", "dtypes", "message"),
    [
        (
            dataclasses.replace(CASES["plain"], input_dilation=2),
            ("float32", "float32"),
            r"only input_dilation 1, got \(2, 2\)",
        ),
        (CASES["plain"], ("int32", "int32"), "only float32, bfloat16, float16, got int32"),
    ],
)
def test_says_why_not(case, dtypes, message):
    x, w = (jnp.zeros(s, d) for s, d in zip((case.x, case.w), dtypes, strict=True))
    with pytest.raises(NotImplementedError, match=f"'triton' can't compute this call: {message}"):
        jconv.conv(x, w, **case.options, implementation="triton")
