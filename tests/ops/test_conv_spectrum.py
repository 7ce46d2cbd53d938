"""Singular values of circular convolutions against dense matrices; bounds against true norms."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import jconv
from jconv.ops.conv_matrix import conv_matrix
from jconv.ops.conv_spectrum import conv_norm_bound, conv_singular_values
from tests.oracles import conv_variants as oracle

CASES = {
    "plain": ((3, 2, 2, 3), (4, 5), 1, 1),
    "fewer_filters_than_channels": ((2, 2, 3, 1), (3, 2), 1, 1),
    "dilation": ((3, 2, 2, 2), (5, 6), (2, 3), 1),
    "groups": ((3, 3, 2, 6), (3, 4), 1, 2),
    "wraps_round": ((5, 4, 1, 2), (2, 3), 1, 1),
    "one_axis": ((3, 2, 2), 5, 2, 1),
    "three_axes": ((2, 1, 3, 1, 2), (2, 3, 3), 1, 1),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_singular_values_are_those_of_the_matrix(case, key, x64):
    shape, spatial, dilation, groups = case
    w = jax.random.normal(key, shape)
    values = jax.jit(
        functools.partial(conv_singular_values, spatial=spatial, dilation=dilation, groups=groups)
    )(w)
    sizes = (spatial,) if isinstance(spatial, int) else spatial
    axes = len(sizes)
    m = oracle.conv_matrix(
        w, sizes, mode="wrap", groups=groups, stride=(1,) * axes,
        dilation=(dilation,) * axes if isinstance(dilation, int) else dilation,
        pads=tuple(
            (0, d * (r - 1))
            for r, d in zip(shape, np.broadcast_to(dilation, axes), strict=False)
        ),
    )  # fmt: skip
    expected = np.linalg.svd(m, compute_uv=False)
    found = np.sort(np.asarray(values).ravel())[::-1]
    assert values.shape == (*sizes, groups * min(shape[-2], shape[-1] // groups))
    np.testing.assert_allclose(found, expected[: found.size], rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(expected[found.size :], 0, atol=1e-11)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "complex64"])
def test_singular_values_of_other_dtypes(dtype, key):
    w = jax.random.normal(key, (3, 2, 3), "complex64")
    w = w if dtype == "complex64" else w.real.astype(dtype)
    values = conv_singular_values(w, 4)
    m = conv_matrix(w.astype("complex64"), 4, padding_mode="circular")
    expected = np.linalg.svd(m, compute_uv=False)
    assert values.dtype == ("float32" if dtype == "complex64" else dtype)
    tolerance = 0.01 if dtype == "bfloat16" else 1e-5
    found = np.sort(np.asarray(values, np.float32).ravel())[::-1]
    np.testing.assert_allclose(found, expected, rtol=tolerance)


def norm_of(f, x, turns=40):
    """The largest singular value of a linear f, from below, by power iteration on f'f."""

    def turn(_, x):
        y, vjp = jax.vjp(f, x)
        (x,) = vjp(y)
        return x / jnp.linalg.norm(x)

    return jnp.linalg.norm(f(jax.lax.fori_loop(0, turns, turn, x)))


@pytest.mark.parametrize(
    ("shape", "sign", "spatial", "options"),
    [
        ((3, 2, 2, 3), "any", (6, 7), {}),
        ((3, 3, 1, 1), "positive", (9, 9), {"padding_mode": "circular"}),
        ((3, 3, 2, 4), "positive", (8, 7), {"groups": 2, "dilation": 2, "padding": 3}),
        ((2, 4, 2, 1), "any", (8, 7), {"stride": 2}),
        ((5, 1, 1), "positive", (12,), {"padding": 4}),
        ((2, 2, 2, 1, 2), "any", (4, 5, 3), {}),
    ],
)
def test_the_bound_holds(shape, sign, spatial, options, key, x64):
    w = jax.random.normal(key, shape)
    w = jnp.abs(w) if sign == "positive" else w
    groups = options.get("groups", 1)
    f = functools.partial(jconv.conv, w=w, **options)
    norm = jax.jit(functools.partial(norm_of, f))(jnp.ones((1, *spatial, groups * shape[-2])))
    bound = jax.jit(functools.partial(conv_norm_bound, groups=groups))(w)
    assert norm <= bound * (1 + 1e-12)
    taps = np.prod(shape[:-2])
    values = functools.partial(conv_singular_values, spatial=(31,) * len(spatial), groups=groups)
    largest = jax.jit(values)(w).max()
    assert largest <= bound * (1 + 1e-12) <= np.sqrt(taps) * largest * (1 + 1e-9)


def test_the_bound_is_tight_for_one_tap(key):
    w = jax.random.normal(key, (1, 1, 4, 3))
    np.testing.assert_allclose(conv_norm_bound(w), np.linalg.norm(w[0, 0], 2), rtol=1e-6)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_the_bound_is_rounded_up(dtype, key):
    w = jax.random.normal(key, (50, 3, 2, 2)).astype(dtype)
    bounds = jax.vmap(conv_norm_bound)(w)
    exact = jax.vmap(conv_norm_bound)(w.astype("float32"))
    assert bounds.dtype == dtype
    assert np.all(np.asarray(bounds, np.float32) >= exact)


@pytest.mark.slow
def test_derivatives(x64, key):
    w = jax.random.normal(key, (3, 2, 2))
    values = jax.jit(lambda w: jnp.sin(conv_singular_values(w, 4)).sum())
    check_grads(values, (w,), order=2, modes=["fwd", "rev"], eps=1e-4, rtol=1e-5, atol=1e-5)
    bound = jax.jit(conv_norm_bound)
    check_grads(bound, (w,), order=1, modes=["fwd", "rev"], eps=1e-5, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("f", "w", "message"),
    [
        (conv_norm_bound, jnp.zeros((3, 2)), r"conv_norm_bound: w must be floating .*\(3, 2\)"),
        (conv_norm_bound, jnp.zeros((3, 2, 2), int), r"conv_norm_bound: w must be .*of int32"),
        (
            functools.partial(conv_norm_bound, groups=2),
            jnp.zeros((3, 2, 3)),
            r"conv_norm_bound: w's K=3 does not divide into groups=2",
        ),
        (
            functools.partial(conv_singular_values, spatial=(4, 4)),
            jnp.zeros((3, 2, 2)),
            r"conv_singular_values: spatial must be an int or one int for each of 1",
        ),
        (
            functools.partial(conv_singular_values, spatial=4, dilation=0),
            jnp.zeros((3, 2, 2)),
            r"conv_singular_values: dilation must be at least 1",
        ),
    ],
)
def test_says_what_is_wrong(f, w, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        f(w)
