"""jconv.conv_local against the definition, jax.lax, and a convolution with equal filters."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.test_util import check_grads

import jconv
from jconv.ops.conv_local import conv_local
from tests.ops.conv_cases import Case
from tests.oracles import conv_variants as oracle
from tests.tolerance import assert_close

CASES = {
    "plain": Case(),
    "strided_dilated": Case(stride=(2, 1), dilation=(1, 2), padding=((2, 0), (1, 3)), groups=2),
    "depthwise": Case(groups=4, k=8, padding="VALID"),
    "one_axis": Case(x=(2, 7, 3), window=(3,), k=2, stride=2),
    "three_axes": Case(x=(1, 3, 2, 3, 2), window=(2, 1, 2), k=3, padding="VALID"),
    "one_pixel": Case(x=(1, 1, 1, 1), window=(1, 1), k=1),
}


def arrays(case, key, dtype="float32"):
    names = ("stride", "pads", "dilation")
    definition = {name: case.definition[name] for name in names}
    output = oracle.output_of(case.x[1:-1], case.window, **definition)
    keys = jax.random.split(key)
    x = jax.random.normal(keys[0], case.x, "float32").astype(dtype)
    w = jax.random.normal(keys[1], (*output, *case.w), "float32").astype(dtype)
    expected = oracle.conv_local(x, w, groups=case.groups, **definition)
    return x, w, expected


@pytest.mark.parametrize(
    ("name", "dtype"), [*((name, "float32") for name in CASES), ("plain", "bfloat16")]
)
def test_matches_definition(name, dtype, key):
    case = CASES[name]
    x, w, expected = arrays(case, key, dtype)
    y = jax.jit(functools.partial(conv_local, precision="highest", **case.options))(x, w)
    assert y.dtype == dtype
    assert_close(y, expected, terms=case.terms)


@pytest.mark.parametrize("mode", ["zeros", "circular", "reflect", "replicate"])
def test_equal_filters_are_a_convolution(mode, key):
    case = Case(stride=(1, 2), groups=2)
    x, w = case.arrays(key, "float32")
    everywhere = jnp.broadcast_to(w, (5, 3, *w.shape))
    options = {**case.options, "padding_mode": mode}
    y = conv_local(x, everywhere, **options)
    assert_close(y, jconv.conv(x, w, **options), terms=2 * case.terms)


def test_matches_xla(key):
    x, w, _ = arrays(Case(padding="VALID"), key)
    filters = jnp.moveaxis(w, -2, 2).reshape(*w.shape[:2], -1, w.shape[-1])
    y = lax.conv_general_dilated_local(
        x, filters, (1, 1), "VALID", (3, 2), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    assert_close(conv_local(x, w, padding="VALID"), np.asarray(y), terms=24)


def test_bias_of_every_output_or_of_every_channel(key):
    x, w, expected = arrays(Case(), key)
    for b in (jnp.arange(180.0).reshape(5, 6, 6), jnp.arange(6.0)):
        assert_close(conv_local(x, w, b), expected + np.asarray(b), terms=24)


@pytest.mark.slow
def test_derivatives(x64, key):
    case = Case(x=(1, 4, 3, 2), k=2, stride=(2, 1), groups=2)
    x, w, _ = arrays(case, key, "float64")
    f = jax.jit(lambda x, w: jnp.sin(conv_local(x, w, **case.options) / 4).sum())
    check_grads(f, (x, w), order=2, modes=["fwd", "rev"], eps=1e-4, rtol=1e-5, atol=1e-6)


def test_empty():
    y, vjp = jax.vjp(conv_local, jnp.ones((0, 3, 1)), jnp.ones((3, 2, 1, 5)))
    assert y.shape == (0, 3, 5)
    np.testing.assert_array_equal(vjp(y)[1], np.zeros((3, 2, 1, 5)))


X, W = (1, 5, 4, 2), (5, 4, 3, 3, 2, 6)


@pytest.mark.parametrize(
    ("x", "w", "options", "message"),
    [
        (X, (3, 3, 2, 6), {}, r"x must be .* and w \(\*output, \*window, C/groups, K\)"),
        ((5, 2), (2, 6), {}, r"x must be .*got x \(5, 2\) and w \(2, 6\)"),
        (X, (5, 4, 3, 3, 3, 6), {}, r"x has C=2 but w takes C/groups=3, groups=1; got x"),
        (X, (5, 4, 3, 3, 1, 5), {"groups": 2}, r"w's K=5 does not divide into groups=2"),
        (X, (5, 3, 3, 3, 2, 6), {}, r"x has \(5, 4\) windows but w has \(5, 3\) filters"),
        (X, W, {"b": jnp.zeros((5, 6))}, r"b must be \(\*output, K\) = \(5, 4, 6\) or \(K,\)"),
        (X, W, {"padding_mode": "mirror"}, r"padding_mode must be one of"),
        (X, W, {"stride": 0}, r"stride must be at least 1"),
    ],
)  # fmt: skip
def test_says_what_is_wrong(x, w, options, message):
    with pytest.raises(ValueError, match=f"^conv_local: .*{message}"):
        conv_local(jnp.zeros(x), jnp.zeros(w), **options)


def test_says_which_dtypes_disagree():
    with pytest.raises(ValueError, match=r"^conv_local: x is float32 but w is bfloat16; cast one"):
        conv_local(jnp.zeros(X), jnp.zeros(W, jnp.bfloat16))
