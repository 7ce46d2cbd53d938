"""jconv.conv_matrix against the definition, jconv.conv, and its adjoint jconv.conv_transpose."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import jconv
from jconv.ops.conv_matrix import conv_matrix
from tests.ops.conv_cases import Case
from tests.oracles import conv_variants as oracle
from tests.tolerance import assert_close

CASES = {
    "plain": Case(x=(2, 4, 3, 2), k=3),
    "strided_dilated": Case(x=(1, 5, 4, 2), stride=(2, 1), dilation=(1, 2), padding=1, k=2),
    "groups": Case(x=(1, 3, 3, 4), groups=2, k=4),
    "one_axis": Case(x=(1, 5, 1), window=(3,), k=1, padding=((2, 0),)),
    "three_axes": Case(x=(1, 2, 3, 2, 1), window=(2, 1, 2), k=2),
    "one_pixel": Case(x=(1, 1, 1, 1), window=(1, 1), k=1),
}
each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def matrix_of(case, w, **options):
    f = functools.partial(conv_matrix, spatial=case.x[1:-1], **case.options, **options)
    return jax.jit(f)(w)


def definition_of(case):
    return {name: case.definition[name] for name in ("stride", "pads", "dilation", "groups")}


@each_case
def test_matches_definition_and_convolution(case, key):
    x, w = case.arrays(key, "float32")
    m = matrix_of(case, w)
    expected = oracle.conv_matrix(w, case.x[1:-1], **definition_of(case))
    np.testing.assert_array_equal(m, expected.astype("float32"))
    y = np.asarray(x, np.float64).reshape(case.x[0], -1) @ np.asarray(m, np.float64).T
    assert_close(jconv.conv(x, w, **case.options), y.reshape(case.expected(x, w).shape), terms=24)


@pytest.mark.parametrize(
    ("mode", "numpy_mode"), [("circular", "wrap"), ("reflect", "reflect"), ("replicate", "edge")]
)
def test_padding_modes(mode, numpy_mode, key):
    """With a window wider than the image: several taps of it read one pixel."""
    case = Case(x=(2, 3, 4, 2), window=(5, 2), k=2, stride=(1, 2))
    x, w = case.arrays(key, "float32")
    m = matrix_of(case, w, padding_mode=mode)
    expected = oracle.conv_matrix(w, (3, 4), mode=numpy_mode, **definition_of(case))
    assert_close(m, expected, terms=3)
    y = jconv.conv(x, w, padding_mode=mode, **case.options)
    product = np.asarray(x, np.float64).reshape(2, -1) @ expected.T
    assert_close(y, product.reshape(y.shape), terms=20)


@pytest.mark.parametrize("name", ["plain", "strided_dilated", "groups", "three_axes"])
def test_the_adjoint_is_the_transposed_convolution(name, key):
    case = CASES[name]
    x, w = case.arrays(key, "float32")
    m = np.asarray(matrix_of(case, w), np.float64)
    y = jax.random.normal(key, case.expected(x, w).shape)
    pads, stride = case.definition["pads"], case.definition["stride"]
    axes = zip(case.x[1:-1], case.window, case.definition["dilation"], pads, stride, strict=True)
    unread = [(n + sum(pad) - d * (r - 1) - 1) % s for n, r, d, pad, s in axes]
    options = {"stride": stride, "dilation": case.dilation, "groups": case.groups}
    back = jconv.conv_transpose(y, w, padding=pads, output_padding=unread, **options)
    expected = np.asarray(y, np.float64).reshape(case.x[0], -1) @ m
    assert_close(back, expected.reshape(case.x), terms=48)


def test_toeplitz_and_circulant_by_hand():
    w = jnp.array([1.0, 2, 3]).reshape(3, 1, 1)
    toeplitz = [[2, 3, 0, 0], [1, 2, 3, 0], [0, 1, 2, 3], [0, 0, 1, 2]]
    np.testing.assert_array_equal(conv_matrix(w, 4), toeplitz)
    circulant = [[2, 3, 0, 1], [1, 2, 3, 0], [0, 1, 2, 3], [3, 0, 1, 2]]
    np.testing.assert_array_equal(conv_matrix(w, 4, padding_mode="circular"), circulant)


@pytest.mark.slow
def test_derivatives(x64, key):
    w = jax.random.normal(key, (2, 2, 2, 2))
    f = jax.jit(functools.partial(conv_matrix, spatial=(3, 2), groups=1))
    check_grads(f, (w,), order=1, modes=["fwd", "rev"], eps=1.0, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("w", "spatial", "options", "message"),
    [
        ((3, 2), 5, {}, r"w must be floating .* \(\*window, C/groups, K\).*got w \(3, 2\)"),
        ((3, 2, 3), 5, {"groups": 2}, r"w's K=3 does not divide into groups=2"),
        ((3, 2, 3), (5, 5), {}, r"spatial must be an int or one int for each of 1 spatial axes"),
        ((3, 2, 3), 5, {"padding_mode": "mirror"}, r"padding_mode must be one of zeros"),
        ((3, 2, 3), 2, {"padding": "VALID"}, r"does not fit in an input of \(2,\)"),
    ],
)
def test_says_what_is_wrong(w, spatial, options, message):
    with pytest.raises(ValueError, match=f"^conv_matrix: .*{message}"):
        conv_matrix(jnp.zeros(w), spatial, **options)
