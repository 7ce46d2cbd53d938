"""jconv.max_pool: values, winners and gradients against the definition, for both bodies."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.test_util import check_grads

import jconv
from tests import often
from tests.kernels.onednn.calls import needs_onednn
from tests.ops.pool_cases import CASES as PLAIN_CASES
from tests.ops.pool_cases import Case
from tests.oracles import pool as oracle

CASES = {
    **PLAIN_CASES,
    "dilation": Case(window=(2, 3), stride=1, dilation=(3, 2)),
    "dilation_and_pads": Case(window=(3, 2), stride=(2, 1), dilation=2, padding=(2, 1)),
    "ceil_mode_wider_than_input": Case(x=(1, 2, 5, 2), window=3, stride=2, ceil_mode=True),
    "dilation_ceil_mode": Case(window=2, stride=2, dilation=(2, 3), ceil_mode=True),
}
each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
BODIES = ("shifted", "direct")


def bodies(case):
    """The implementations that can compute the case."""
    return BODIES if np.prod(case.definition["window"]) <= 64 else ("direct",)


def scatter(dy, indices, shape):
    """Each dy at its winner; -1 has none."""
    dx = np.zeros((shape[0], int(np.prod(shape[1:-1])), shape[-1]))
    for (n, *_, c), i in np.ndenumerate(indices):
        dx[n, i, c] += 0 if i < 0 else np.asarray(dy, np.float64)[(n, *_, c)]
    return dx.reshape(shape)


@each_case
@pytest.mark.parametrize("dtype", often.names(["float32", "bfloat16"], ["float32"]))
def test_matches_definition(case, dtype):
    """Small whole numbers: every window has ties, and every result is exact."""
    x = jnp.asarray(case.image(np.float32), dtype)
    y_expected, indices_expected = oracle.max_pool(x, **case.definition)
    for name in bodies(case):
        f = functools.partial(jconv.max_pool, **case.options, implementation=name)
        y, indices = f(x, return_indices=True)
        assert (y.dtype, indices.dtype) == (dtype, jnp.int32)
        np.testing.assert_array_equal(y.astype(np.float32), y_expected)
        np.testing.assert_array_equal(indices, indices_expected)
        np.testing.assert_array_equal(f(x).astype(np.float32), y_expected)


@each_case
@pytest.mark.parametrize("dtype", often.names(["float32", "bfloat16"], ["float32"]))
def test_gradient_goes_to_the_first_maximum(case, dtype):
    x = jnp.asarray(case.image(np.float32), dtype)
    _, indices = oracle.max_pool(x, **case.definition)
    dy = jnp.arange(1.0, indices.size + 1).reshape(indices.shape).astype(dtype)
    expected = scatter(dy, indices, x.shape)
    for name in bodies(case):
        f = functools.partial(jconv.max_pool, **case.options, implementation=name)
        (dx,) = jax.vjp(f, x)[1](dy)
        assert dx.dtype == dtype
        # Sums of whole numbers below 2**24 are exact in float32, and rounded once to bfloat16.
        np.testing.assert_array_equal(dx, expected.astype(np.float32).astype(dx.dtype))


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("case", ["overlapping", "dilation_and_pads", "pads_wider_than_window"])
def test_tangent_comes_from_the_first_maximum(case, name):
    case = CASES[case]
    x, dx = case.image(np.float32), case.distinct(np.float32)
    _, indices = oracle.max_pool(x, **case.definition)
    f = functools.partial(jconv.max_pool, **case.options, implementation=name)
    _, dy = jax.jvp(f, (x,), (dx,))
    flat = dx.reshape(x.shape[0], -1, x.shape[-1])
    expected = np.take_along_axis(flat, indices.reshape(x.shape[0], -1, x.shape[-1]), 1)
    expected = np.where(indices < 0, 0, expected.reshape(indices.shape))
    np.testing.assert_array_equal(dy, expected)


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize(
    "case",
    often.names(
        ["overlapping", "dilation_and_pads", "ceil_mode_overlapping"], ["dilation_and_pads"]
    ),
)
def test_second_derivatives(case, name, x64):
    x = CASES[case].distinct(np.float64)
    pool = functools.partial(jconv.max_pool, **CASES[case].options, implementation=name)
    f = jax.jit(lambda x: jnp.sin(pool(x)))
    check_grads(f, (x,), order=2, modes=["fwd", "rev"], eps=1e-4, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", BODIES)
def test_nan_wins_and_stays(name):
    """Wherever it stands in a window, and the first of two is the winner."""
    case = CASES["overlapping"]
    x = case.image(np.float32)
    x[0, 0, 0, 0] = x[0, 2, 3, 1] = x[0, 3, 3, 1] = x[1, 4, 5, 2] = np.nan
    y_expected, indices_expected = oracle.max_pool(x, **case.definition)
    assert np.isnan(y_expected).sum() > 4
    y, indices = jconv.max_pool(x, **case.options, return_indices=True, implementation=name)
    np.testing.assert_array_equal(y, y_expected)
    np.testing.assert_array_equal(indices, indices_expected)
    np.testing.assert_array_equal(
        jconv.max_pool(x, **case.options, implementation=name), y_expected
    )


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_smallest_pixels_win_over_padding(name, dtype):
    """An image of -inf, or of the smallest integer, has winners inside the image all the same."""
    case = CASES["overlapping"]
    least = -np.inf if dtype == "float32" else np.iinfo(dtype).min
    x = np.full(case.x, least, dtype)
    _, expected = oracle.max_pool(x, **case.definition)
    y, indices = jconv.max_pool(x, **case.options, return_indices=True, implementation=name)
    np.testing.assert_array_equal(y, np.full(y.shape, least, dtype))
    np.testing.assert_array_equal(indices, expected)


@pytest.mark.parametrize("dtype", ["int32", "uint8", "float16"])
def test_other_dtypes(dtype):
    case = CASES["stride_one_same"]
    x = (case.image(np.float32) + 3).astype(dtype)
    expected, _ = oracle.max_pool(x, **case.definition)
    y = jconv.max_pool(x, **case.options)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, expected.astype(dtype))


def test_window_of_padding_alone():
    """-inf, no winner, and no gradient: not even where the cotangent is infinite."""
    case = CASES["pads_wider_than_window"]
    x = case.image(np.float32)
    y, indices = jconv.max_pool(x, **case.options, return_indices=True)
    assert np.isneginf(y[:, 0]).all()
    assert (indices[:, 0] == -1).all()
    for name in BODIES:
        f = functools.partial(jconv.max_pool, **case.options, implementation=name)
        _, vjp = jax.vjp(f, x)
        (dx,) = vjp(jnp.where(jnp.isneginf(y), jnp.inf, 0.0))
        np.testing.assert_array_equal(dx, np.zeros(x.shape))


def test_matches_xla_away_from_ties(key):
    """Value and gradient of reduce_window, whose gradient picks any of equal pixels."""
    x = CASES["overlapping"].distinct(np.float32)

    def theirs(x):
        pads = ((0, 0), (1, 1), (1, 1), (0, 0))
        return lax.reduce_window(x, -jnp.inf, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), pads)

    ours = functools.partial(jconv.max_pool, window=3, stride=2, padding=1)
    dy = jax.random.normal(key, theirs(x).shape)
    for mine, other in zip(*(jax.jit(vjp_of(f))(x, dy) for f in (ours, theirs)), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-6)


def vjp_of(f):
    def run(x, dy):
        y, vjp = jax.vjp(f, x)
        return y, *vjp(dy)

    return run


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ([[1, 2, 5, 3], [3, 0, 1, 2], [2, 1, 3, 4], [1, 1, 2, 0]], [[3, 5], [2, 4]]),
        ([[1, 1, 2, 4], [5, 6, 7, 8], [3, 2, 1, 0], [1, 2, 3, 4]], [[6, 8], [3, 4]]),
    ],
)
def test_worked_examples(image, expected):
    y = jconv.max_pool(jnp.asarray(image, jnp.float32)[None, :, :, None], 2)
    np.testing.assert_array_equal(y[0, :, :, 0], expected)


def test_indices_take_no_part_in_the_gradient():
    x = CASES["plain"].distinct(np.float32)

    def loss(x):
        y, indices = jconv.max_pool(x, 2, return_indices=True)
        return (y * indices.astype(y.dtype)).sum()

    _, indices = jconv.max_pool(x, 2, return_indices=True)
    expected = scatter(indices.astype(np.float32), np.asarray(indices), x.shape)
    np.testing.assert_array_equal(jax.grad(loss)(x), expected)


@pytest.mark.parametrize("x", [(0, 5, 6, 3), (2, 5, 6, 0)], ids=["no_examples", "no_channels"])
def test_empty(x):
    for name in BODIES:
        f = functools.partial(jconv.max_pool, window=2, implementation=name)
        y, vjp = jax.vjp(f, jnp.ones(x))
        assert y.shape == (x[0], 2, 3, x[-1])
        assert vjp(y)[0].shape == x


def test_the_chosen_implementation_ran():
    small, large = (CASES[name] for name in ("plain", "more_than_64_pixels"))

    def explain(case):
        f = jax.grad(lambda x: jconv.max_pool(x, **case.options).sum())
        return jconv.explain_choice(f, case.image(np.float32))

    names = {(c.op, c.implementation) for c in explain(small)}
    assert {("max_pool_argmax", "shifted"), ("pool_put", "shifted")} <= names
    choices = {c.op: c for c in explain(large)}
    assert choices["pool_put"].implementation == "shifted"  # a pixel is in 25 windows
    reason = ("shifted", "only windows of at most 64 pixels, got 81")
    assert reason in choices["max_pool_argmax"].rejected
    with pytest.raises(NotImplementedError, match=r"^max_pool: .*'shifted' .* 64 pixels, got 81"):
        jconv.max_pool(large.image(np.float32), **large.options, implementation="shifted")


def test_large_windows_side_by_side_are_reduced():
    x = jnp.zeros((1, 14, 14, 1))
    (choice,) = jconv.explain_choice(lambda x: jconv.max_pool(x, 7), x)
    assert choice.implementation == "direct"
    assert ("shifted", "only windows of at most 36 pixels side by side, got 49") in choice.rejected
    (choice,) = jconv.explain_choice(lambda x: jconv.max_pool(x, 7, stride=4), x)
    assert choice.implementation == "shifted"


@needs_onednn
def test_a_name_reaches_the_gradient_and_its_derivatives():
    """Through `take`, whose transpose the gradient is."""
    x = jnp.ones((1, 4, 4, 32))

    def loss(x):
        return (jconv.max_pool(x, 2, implementation="onednn") ** 2).sum()

    choices = jconv.explain_choice(jax.grad(lambda x: jax.grad(loss)(x).sum()), x)
    ran = {c.op: c.implementation for c in choices}
    assert ran == dict.fromkeys(("max_pool_argmax", "pool_take", "pool_put"), "onednn")


def test_lax_leaves_jax_lax_s_own_operation():
    x = CASES["plain"].image(np.float32)
    f = functools.partial(jconv.max_pool, window=2, implementation="lax")
    (eqn,) = jax.make_jaxpr(f)(x).jaxpr.eqns
    assert eqn.primitive.name in ("reduce_window", "reduce_window_max")
    np.testing.assert_array_equal(f(x), jconv.max_pool(x, 2))


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (jnp.zeros((5, 3)), {}, r"x must be \(N, \*spatial, C\) .*got x \(5, 3\)"),
        (jnp.zeros((1, 5, 5, 3), bool), {}, r"x must hold real numbers; got x .* of bool"),
        (jnp.zeros((1, 5, 5, 3), jnp.complex64), {}, r"x must hold real numbers; .* complex64"),
        (jnp.zeros((1, 5, 5, 3)), {"window": 6}, r"does not fit in an input of \(5, 5\)"),
        (jnp.zeros((1, 5, 5, 3)), {"window": 0}, r"window must be at least 1; got window=0"),
        (jnp.zeros((1, 5, 5, 3)), {"window": (2, 2, 2)}, r"window must be an int or one int for"),
        (jnp.zeros((1, 5, 5, 3)), {"padding": -1}, r"padding must not be negative"),
        (jnp.zeros((1, 5, 5, 3)), {"padding": "SAM"}, r"padding must be one of"),
        (jnp.zeros((1, 5, 5, 3)), {"stride": 0}, r"stride must be at least 1"),
        (jnp.zeros((1, 5, 5, 3)), {"implementation": "x"}, r"implementation must be None or one"),
    ],
)
def test_says_what_is_wrong(x, options, message):
    with pytest.raises(ValueError, match=f"^max_pool: .*{message}"):
        jconv.max_pool(x, **{"window": 2, **options})
