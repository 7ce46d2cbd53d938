"""jconv.avg_pool against the definition, its adjoint, and jax.lax."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.test_util import check_grads

import jconv
from tests.ops.pool_cases import CASES, Case
from tests.oracles import pool as oracle
from tests.tolerance import assert_close

each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
DIVISORS = {
    "count_include_pad": {},
    "image_only": {"count_include_pad": False},
    "override": {"divisor_override": 3},
}


def expected_of(case, x, **divisor):
    definition = {k: v for k, v in case.definition.items() if k != "dilation"}
    with np.errstate(invalid="ignore", divide="ignore"):
        return oracle.avg_pool(x, **definition, **divisor)


def terms_of(case):
    return int(np.prod(case.definition["window"]))


@each_case
@pytest.mark.parametrize("divisor", DIVISORS.values(), ids=DIVISORS)
def test_matches_definition(case, divisor, key):
    x = jax.random.normal(key, case.x)
    y = jconv.avg_pool(x, **case.options, **divisor)
    assert_close(y, expected_of(case, x, **divisor), terms=terms_of(case))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_other_dtypes(dtype, key, x64):
    case = Case(x=(2, 12, 12, 2), window=8, stride=3, padding=2)
    x = (jax.random.normal(key, case.x, jnp.float32) + 8).astype(dtype)
    y, vjp = jax.vjp(functools.partial(jconv.avg_pool, **case.options), x)
    (dx,) = vjp(jnp.ones_like(y))
    assert (y.dtype, dx.dtype) == (dtype, dtype)
    assert_close(y, expected_of(case, x), terms=terms_of(case))


@each_case
@pytest.mark.parametrize("divisor", DIVISORS.values(), ids=DIVISORS)
def test_gradient_is_the_adjoint(case, divisor, key):
    """<avg_pool(x), dy> = <x, dx> for every x: the matrix of the definition, transposed."""
    f = functools.partial(jconv.avg_pool, **case.options, **divisor)
    one = Case(**{**vars(case), "x": (1, *case.x[1:-1], 1)})
    size = int(np.prod(one.x))
    # The definition applied to every unit image, one per channel: x is linear in them.
    units = np.moveaxis(np.eye(size).reshape(size, *one.x[1:-1]), 0, -1)[None]
    matrix = expected_of(one, units, **divisor).reshape(-1, size)
    x = jax.random.normal(key, case.x)
    y, vjp = jax.vjp(f, x)
    dy = jax.random.normal(key, y.shape)
    flat = np.asarray(dy, np.float64).reshape(y.shape[0], -1, y.shape[-1])
    expected = np.einsum("qp,nqc->npc", matrix, flat).reshape(x.shape)
    assert_close(jax.jit(vjp)(dy)[0], expected, terms=2 * terms_of(case))


@pytest.mark.parametrize("name", ["overlapping", "ceil_mode_overlapping", "pixels_never_read"])
def test_bodies_agree(name, key):
    """The table's choice, which has a term for each tap, and XLA's reduce_window."""
    case, x = CASES[name], jax.random.normal(key, CASES[name].x)

    def run(implementation):
        f = functools.partial(jconv.avg_pool, **case.options, count_include_pad=False)
        y, vjp = jax.vjp(functools.partial(f, implementation=implementation), x)
        return y, vjp(jnp.cos(y))[0]

    for shifted, direct in zip(run("shifted"), run("direct"), strict=True):
        assert_close(shifted, np.asarray(direct, np.float64), terms=2 * terms_of(case))


@pytest.mark.parametrize("name", ["overlapping", "ceil_mode_overlapping", "one_axis"])
def test_derivatives(name, x64):
    # Linear: a step of 1 has no truncation error.
    x = CASES[name].distinct(np.float64)
    f = jax.jit(functools.partial(jconv.avg_pool, **CASES[name].options))
    check_grads(f, (x,), order=2, modes=["fwd", "rev"], eps=1.0, rtol=1e-10, atol=1e-10)


def test_matches_xla(key):
    x = jax.random.normal(key, (2, 5, 6, 3))

    def theirs(x):
        return lax.reduce_window(x, 0.0, lax.add, (1, 2, 3, 1), (1, 2, 1, 1), "SAME") / 6

    ours = functools.partial(jconv.avg_pool, window=(2, 3), stride=(2, 1), padding="SAME")
    assert_close(ours(x), theirs(x), terms=6)
    grads = (jax.grad(lambda x, f=f: jnp.sum(f(x) ** 2))(x) for f in (ours, theirs))
    assert_close(*grads, terms=12)


def test_complex_numbers(key):
    x = jax.random.normal(key, (1, 4, 4, 2), jnp.complex64)
    y = jconv.avg_pool(x, 2)
    assert y.dtype == jnp.complex64
    options = {"window": (2, 2), "stride": (2, 2), "pads": ((0, 0),) * 2}
    assert_close(y.real, oracle.avg_pool(x.real, **options), terms=4)
    assert_close(y.imag, oracle.avg_pool(x.imag, **options), terms=4)


def test_a_window_without_a_pixel_is_zero():
    """Where only pixels of the image count and a window holds none, there is nothing to divide."""
    x = jnp.ones((1, 2, 2, 1))
    y = jconv.avg_pool(x, 1, padding=2, count_include_pad=False)
    np.testing.assert_array_equal(y, jnp.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0))))


@pytest.mark.parametrize("x", [(0, 5, 6, 3), (2, 5, 6, 0)], ids=["no_examples", "no_channels"])
def test_empty(x):
    y, vjp = jax.vjp(functools.partial(jconv.avg_pool, window=2), jnp.ones(x))
    assert y.shape == (x[0], 2, 3, x[-1])
    assert vjp(y)[0].shape == x


@pytest.mark.parametrize("divisor", [-3, 0.5, np.int64(3), np.float32(1.5), np.array(2)])
def test_divisors_of_python_and_numpy(divisor):
    y = jconv.avg_pool(jnp.ones((1, 2, 2, 1)), 2, divisor_override=divisor)
    assert_close(y, np.full((1, 1, 1, 1), 4 / float(divisor)), terms=4)


def test_the_named_implementation_ran():
    x = CASES["plain"].image(np.float32)

    def explain(implementation):
        def f(x):
            return jconv.avg_pool(x, 2, implementation=implementation).sum()

        return {c.op: c.implementation for c in jconv.explain_choice(jax.grad(f), x)}

    assert explain("direct")["window_spread"] == "direct"
    assert explain("lax") == {}


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (jnp.zeros((5, 3)), {}, r"x must be \(N, \*spatial, C\) .*got x \(5, 3\)"),
        (
            jnp.zeros((1, 5, 5, 3), jnp.int32),
            {},
            r"x must hold floating-point or complex numbers; .*int32",
        ),
        *(
            (jnp.zeros((1, 5, 5, 3)), {"divisor_override": divisor}, message)
            for divisor, message in (
                (0, r"divisor_override must be a real number, finite and other than 0 in float32;"),
                (0.0, r"got divisor_override=0.0$"),
                (1e-300, r"other than 0 in float32; got divisor_override=1e-300$"),
                ("2", r"divisor_override must be a real number, .*; got divisor_override='2'$"),
                (True, r"must be a real number, .*; got divisor_override=True$"),
                (2j, r"must be a real number, .*; got divisor_override=2j$"),
                (np.nan, r"finite and .*; got divisor_override=nan$"),
                (-np.inf, r"finite and .*; got divisor_override=-inf$"),
                (10**400, r"finite and other than 0 in float32; got divisor_override=1000"),
            )
        ),
        (jnp.zeros((1, 5, 5, 3)), {"window": 6}, r"does not fit in an input of \(5, 5\)"),
        (jnp.zeros((1, 5, 5, 3)), {"padding": (1, -1)}, r"padding must not be negative"),
        (jnp.zeros((1, 5, 5, 3)), {"implementation": "x"}, r"implementation must be None or one"),
    ],
)
def test_says_what_is_wrong(x, options, message):
    with pytest.raises(ValueError, match=r"^(avg_pool|window_sum): .*" + message):
        jconv.avg_pool(x, **{"window": 2, **options})
