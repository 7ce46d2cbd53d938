"""jconv.fft_conv against the definition of conv: values, gradients of any order, lengths."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jconv.algorithms.spectral import fast_length
from jconv.ops.fft_conv import fft_conv
from tests.ops.conv_cases import CASES, Case
from tests.oracles import conv as oracle
from tests.tolerance import epsilons

NAMES = """plain stride pads_wider_than_window causal dilation_and_stride groups
one_pixel three_axes four_axes"""
MORE = {
    "one_pixel_between_pads": Case(x=(1, 1, 2, 1), window=(1, 2), k=1, padding=((5, 4), (7, 6))),
    "filter_longer_than_image": Case(x=(1, 2, 3, 1), window=(5, 7), k=1),
    "large_filter": Case(x=(1, 17, 13, 2), window=(11, 9), k=2),
}
CHOSEN = {**{name: CASES[name] for name in NAMES.split()}, **MORE}


def assert_near(actual, expected):
    """To within a few roundings of the largest number: a transform spreads its errors evenly."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    stored, summed = epsilons(actual.dtype)
    wide = np.complex128 if np.iscomplexobj(expected) else np.float64
    size = np.abs(expected).max(initial=0.0)
    np.testing.assert_allclose(actual.astype(wide), expected, rtol=stored, atol=16 * summed * size)


@pytest.mark.parametrize(
    ("name", "dtype"), [*((name, "float32") for name in CHOSEN), ("groups", "bfloat16")]
)
def test_matches_definition(name, dtype, key):
    case = CHOSEN[name]
    x, w = case.arrays(key, dtype)
    y = jax.jit(functools.partial(fft_conv, **case.options))(x, w)
    assert y.dtype == dtype
    assert_near(y, case.expected(x, w))


@pytest.mark.parametrize("name", ["groups", "dilation_and_stride", "filter_longer_than_image"])
def test_gradients_are_the_adjoints(name, key):
    case = CHOSEN[name]
    x, w = case.arrays(key, "float32")
    dy = jax.random.normal(key, case.expected(x, w).shape)
    f = functools.partial(fft_conv, **case.options)
    dx, dw = jax.jit(lambda x, w, dy: jax.vjp(f, x, w)[1](dy))(x, w, dy)
    assert_near(dx, oracle.input_grad(dy, w, input=case.x[1:-1], **case.definition))
    assert_near(dw, oracle.filter_grad(x, dy, window=case.window, **case.definition))


@pytest.mark.slow
def test_derivatives(x64, key):
    case = Case(x=(1, 4, 3, 2), k=2, stride=(2, 1), groups=2)
    x, w = case.arrays(key, "float64")
    f = jax.jit(lambda x, w: jnp.sin(fft_conv(x, w, **case.options) / 4).sum())
    check_grads(f, (x, w), order=2, modes=["fwd", "rev"], eps=1e-4, rtol=1e-5, atol=1e-6)


def test_complex_numbers(key):
    keys = jax.random.split(key)
    x = jax.random.normal(keys[0], (2, 6, 5, 2), jnp.complex64)
    w = jax.random.normal(keys[1], (3, 2, 2, 3), jnp.complex64)
    y = fft_conv(x, w, stride=(1, 2))
    options = {"stride": (1, 2), "pads": ((1, 1), (0, 1)), "dilation": (1, 1)}
    real, imaginary = (
        [oracle.conv(a, b, **options) for b in (w.real, w.imag)] for a in (x.real, x.imag)
    )
    assert_near(y, real[0] - imaginary[1] + 1j * (real[1] + imaginary[0]))
    assert y.dtype == jnp.complex64


def test_bias(key):
    x, w = CASES["plain"].arrays(key, "float32")
    b = jnp.arange(6.0)
    assert_near(fft_conv(x, w, b), CASES["plain"].expected(x, w) + np.arange(6.0))


def test_lengths_have_small_factors_only():
    smooth = sorted(
        2**a * 3**b * 5**c * 7**d
        for a in range(8) for b in range(6) for c in range(4) for d in range(4)
    )  # fmt: skip
    for n in range(1, 129):
        assert fast_length(n) == next(s for s in smooth if s >= n)
    x, w = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in [(1, 210, 1), (23, 1, 1)])
    jaxpr = str(jax.make_jaxpr(fft_conv)(x, w))
    assert "(224,)" in jaxpr  # 210 + 11 = 221 = 13 * 17


def test_real_numbers_take_the_real_transform():
    x, w = jnp.ones((1, 8, 1)), jnp.ones((3, 1, 1))
    text = str(jax.make_jaxpr(fft_conv)(x, w))
    assert "c64[1,1,1,5]" in text  # 9 // 2 + 1 frequencies
    assert "c64[1,1,1,9]" not in text


@pytest.mark.parametrize("x", [(0, 5, 6, 4), (2, 5, 6, 0), (2, 0, 6, 4)])
def test_empty(x):
    x, w = jnp.ones(x), jnp.ones((3, 2, x[-1], 6))
    y, vjp = jax.vjp(fft_conv, x, w)
    np.testing.assert_array_equal(y, np.zeros((*x.shape[:-1], 6)))
    assert [g.shape for g in vjp(y)] == [x.shape, w.shape]


X, W = (1, 5, 5, 4), (3, 3, 4, 8)


@pytest.mark.parametrize(
    ("x", "w", "options", "message"),
    [
        (X, (3, 4, 8), {}, r"x must be \(N, \*spatial, C\) and w \(\*window, C/groups, K\)"),
        ((5, 4), (4, 8), {}, r"x must be .*got x \(5, 4\)"),
        (X, (3, 3, 3, 8), {}, r"x has C=4 but w takes C/groups=3, groups=1; got x"),
        (X, (3, 3, 2, 7), {"groups": 2}, r"w's K=7 does not divide into groups=2"),
        (X, W, {"b": jnp.zeros(4)}, r"b must be \(K,\) = \(8,\) of float32; got b \(4,\)"),
        (
            X,
            W,
            {"b": jnp.zeros(8, jnp.float16)},
            r"b must be .* of float32; got b \(8,\) of float16",
        ),
        (X, W, {"padding": "FULL"}, r"padding must be one of"),
        (X, W, {"groups": 0}, r"groups must be at least 1"),
    ],
)
def test_says_what_is_wrong(x, w, options, message):
    with pytest.raises(ValueError, match=f"^fft_conv: .*{message}"):
        fft_conv(jnp.zeros(x), jnp.zeros(w), **options)


@pytest.mark.parametrize("dtypes", [("float32", "bfloat16"), ("int32", "int32")])
def test_says_what_is_wrong_with_dtypes(dtypes):
    message = (
        rf"^fft_conv: x and w must be .* of one dtype; got x of {dtypes[0]} and w of {dtypes[1]}"
    )
    with pytest.raises(ValueError, match=message):
        fft_conv(jnp.zeros(X, dtypes[0]), jnp.zeros(W, dtypes[1]))


def test_sizes_that_are_not_known_are_refused():
    shape = jax.ShapeDtypeStruct((1, *jax.export.symbolic_shape("h, w"), 1), jnp.float32)
    with pytest.raises(ValueError, match=r"^fft_conv: spatial axes must be known .*got .*\(h, w\)"):
        jax.export.export(jax.jit(lambda x: fft_conv(x, jnp.ones((3, 3, 1, 1)))))(shape)
