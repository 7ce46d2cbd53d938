"""jconv.unfold and jconv.fold against the definition, and as one another's adjoint."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jconv.ops.unfold import fold, unfold
from tests.ops.conv_cases import Case
from tests.oracles import conv_variants as oracle
from tests.tolerance import assert_close

CASES = {
    "plain": Case(padding="VALID"),
    "overlapping": Case(window=(3, 2), stride=(2, 1), padding=((1, 0), (0, 3)), dilation=(1, 2)),
    "pixels_never_read": Case(window=(1, 2), stride=(3, 4), padding="VALID"),
    "pads_wider_than_window": Case(x=(1, 2, 3, 2), window=(2, 1), padding=((3, 0), (0, 4))),
    "one_axis": Case(x=(2, 7, 3), window=(3,), stride=2, padding="SAME"),
    "three_axes": Case(x=(1, 3, 4, 2, 2), window=(2, 1, 2), stride=(1, 2, 1)),
    "one_pixel": Case(x=(1, 1, 1, 1), window=(1, 1)),
}
each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def call_of(case):
    """Arguments of jconv, and those of the oracle."""
    definition = {name: case.definition[name] for name in ("stride", "pads", "dilation")}
    return {"padding": "SAME", **case.options}, definition


@each_case
def test_match_the_definition_and_transpose_into_each_other(case, key):
    options, definition = call_of(case)
    f = functools.partial(unfold, window=case.window, **options)
    g = functools.partial(fold, spatial=case.x[1:-1], **options)

    @jax.jit
    def all_four(x, u):
        return f(x), jax.vjp(g, u)[1](x)[0], g(u), jax.vjp(f, x)[1](u)[0]

    x = jax.random.normal(key, case.x)
    u = jax.random.normal(key, jax.eval_shape(f, x).shape)
    *unfolded, folded, dx = all_four(x, u)
    for found in unfolded:
        expected = oracle.unfold(x, case.window, **definition)
        np.testing.assert_array_equal(found, expected.astype("float32"))
    for found in (folded, dx):
        expected = oracle.fold(u, case.x[1:-1], **definition)
        assert_close(found, expected, terms=int(np.prod(case.window)))


def test_convolution_is_a_product_with_the_windows(key):
    case = Case(stride=(2, 1), dilation=(1, 2))
    x, w = case.arrays(key, "float32")
    f = functools.partial(unfold, window=case.window, padding="SAME", **case.options)
    y = jax.jit(lambda x, w: jnp.tensordot(f(x), w, 3, precision="highest"))(x, w)
    assert_close(y, case.expected(x, w), terms=case.terms)


@pytest.mark.parametrize(("dtype", "large"), [("bfloat16", 256), ("float16", 2048)])
@pytest.mark.parametrize("window", [0, 7])
def test_adjoint_sums_in_float32(dtype, large, window):
    """One pixel is in 8 windows, and large + 7 * 1 is not large, though large + 1 is."""
    u = jnp.ones((1, 8, 8, 1), dtype).at[0, window, 7 - window].set(large)
    x = fold(u, 15)
    (dx,) = jax.vjp(functools.partial(unfold, window=8), jnp.zeros((1, 15, 1), dtype))[1](u)
    assert x.dtype == dx.dtype == dtype
    assert float(x[0, 7, 0]) == float(dx[0, 7, 0]) == float(jnp.asarray(large + 7, dtype))


def test_integers_and_not_a_number():
    x = np.arange(6).reshape(1, 6, 1)
    assert unfold(x, 2).tolist() == [[[[i], [i + 1]] for i in range(5)]]
    x = jnp.array([0.0, np.nan, 2, 3, np.inf])[None, :, None]
    u = unfold(x, 2, padding=1)[0, :, :, 0]
    expected = [[0, 0], [0, np.nan], [np.nan, 2], [2, 3], [3, np.inf], [np.inf, 0]]
    np.testing.assert_array_equal(u, expected)


@pytest.mark.slow
def test_derivatives(x64, key):
    x = jax.random.normal(key, (1, 5, 4, 1))
    options = {"stride": (2, 1), "padding": 1}
    # Linear: a step of 1 has no truncation error.
    f = jax.jit(lambda x: fold(unfold(x, (3, 2), **options), (5, 4), **options))
    check_grads(f, (x,), order=1, modes=["fwd", "rev"], eps=1.0, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("x", [(0, 5, 4, 2), (2, 5, 4, 0), (2, 0, 4, 2)])
def test_empty(x):
    u = unfold(jnp.ones(x), (3, 2), padding=1 if x[1] else 0)
    assert u.shape[0] == x[0]
    assert u.shape[-3:] == (3, 2, x[-1])
    assert fold(u, x[1:-1], padding=1 if x[1] else 0).shape == x


@pytest.mark.parametrize(
    ("f", "x", "arguments", "message"),
    [
        (unfold, (5, 3), {"window": 2}, r"unfold: x must be \(N, \*spatial, C\).*got x \(5, 3\)"),
        (unfold, (1, 5, 3), {"window": 6}, r"unfold: a window .* does not fit"),
        (unfold, (1, 5, 3), {"window": (2, 2)}, r"unfold: window must be an int or one int for"),
        (fold, (1, 5, 3), {"spatial": 5}, r"fold: patches must be \(N, \*output, \*window, C\)"),
        (fold, (1, 5), {"spatial": 5}, r"fold: patches must be .*got patches \(1, 5\)"),
        (fold, (1, 3, 2, 1), {"spatial": 5}, r"an x of \(5,\) has \(4,\) windows of \(2,\) but"),
        (fold, (1, 3, 2, 1), {"spatial": (4, 4)}, r"fold: spatial must be an int or one int for"),
    ],
)  # fmt: skip
def test_says_what_is_wrong(f, x, arguments, message):
    with pytest.raises(ValueError, match=message):
        f(jnp.zeros(x), **arguments)
