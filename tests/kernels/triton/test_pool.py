"""Pooling kernels in Triton's interpreter against the definitions of `jconv.ops`."""

from __future__ import annotations

import functools
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jconv
from jconv.window import Window
from tests.kernels.pool_cases import CASES, DIVISORS, image, same, window_of
from tests.kernels.triton.calls import interpreted
from tests.oracles import pool as oracle
from tests.tolerance import assert_close

pytestmark = interpreted
winner, averages = (importlib.import_module(f"jconv.ops.{n}") for n in ("winner", "avg_pool"))

# Fewer pixels and channels along three axes: the interpreter takes its time for each program.
FITTING = {name: case for name, case in CASES.items() if name != "many_taps"} | {
    "three_axes": ((1, 3, 4, 5, 5), *CASES["three_axes"][1:])
}


def calls(each=(None,), often="overlap"):
    """Every case in float32 and by the last of `each`; the others too for one, or if slow."""
    for name, case in FITTING.items():
        for dtype in ("float32", "bfloat16"):
            for one in each:
                main = dtype == "float32" and one == each[-1]
                marks = () if main or name == often else pytest.mark.slow
                values = (case, dtype) if one is None else (case, dtype, one)
                ids = [name, dtype, *filter(None, [one])]
                yield pytest.param(*values, marks=marks, id="-".join(ids))


each_call = pytest.mark.parametrize(("case", "dtype"), list(calls()))


def on(operation, *args, **static):
    """The call in the interpreter, compiled around it."""
    return jax.jit(functools.partial(operation, **static, implementation="triton"))(*args)


@each_call
def test_max_pool_and_its_tap(case, dtype, key):
    x, window = image(case, key, dtype), window_of(case)
    y, tap = on(winner.largest_and_tap, x, window=window)
    expected = winner.largest_and_tap.table[-1].body(x, window=window)
    same(y, expected[0])
    same(tap, expected[1])
    same(on(winner.largest, x, window=window), y)


def test_max_pool_matches_the_oracle(key):
    case = CASES["overlap"]
    window, x = window_of(case), image(case, key, "float32")
    y, _ = oracle.max_pool(
        x, window=window.size, stride=window.stride, pads=window.pads, dilation=window.dilation
    )
    np.testing.assert_array_equal(on(winner.largest, x, window=window), y)


@each_call
def test_put(case, dtype, key):
    window = window_of(case)
    _, tap = winner.largest_and_tap.table[-1].body(image(case, key, "float32"), window=window)
    dy = jax.random.normal(key, tap.shape).astype(dtype)
    dx = on(winner.put, dy, tap, window=window, dtype=jnp.dtype(dtype))
    wide = dy.astype("float32")
    expected = winner.put.table[-1].body(wide, tap, window=window, dtype=wide.dtype)
    assert dx.dtype == dtype
    assert_close(dx, expected, terms=int(np.prod(window.size)))


@each_call
def test_take(case, dtype, key):
    window, x = window_of(case), jax.random.normal(key, case[0]).astype(dtype)
    _, tap = winner.largest_and_tap.table[-1].body(image(case, key, "float32"), window=window)
    static = {"window": window, "dtype": jnp.dtype(dtype)}
    same(on(winner.take, x, tap, **static), winner.take.table[-1].body(x, tap, **static))


@pytest.mark.parametrize(("case", "dtype", "divisor"), list(calls(tuple(DIVISORS))))
def test_sum_and_spread(case, dtype, divisor, key):
    window, x = window_of(case), jax.random.normal(key, case[0]).astype(dtype)
    static = {"window": window, "dtype": jnp.dtype("float32"), "divisor": DIVISORS[divisor](window)}
    y = on(averages.window_sum, x, **static)
    terms = int(np.prod(window.size))
    assert_close(y, averages.window_sum.table[-1].body(x, **static), terms=terms)
    dx = on(averages.spread, y, **{**static, "dtype": jnp.dtype(dtype)})
    assert dx.dtype == dtype
    assert_close(dx, averages.spread.table[-1].body(y, **static), terms=terms)


def loss(x, implementation):
    y = jconv.max_pool(x, 3, stride=2, padding=1, implementation=implementation)
    z = jconv.avg_pool(jnp.sin(y), 2, padding=(1, 0), implementation=implementation)
    return jnp.sum(z * z)


TRANSFORMED = {
    "grad": jax.grad,
    "jvp": lambda f: lambda x: jax.jvp(f, (x,), (jnp.cos(x),)),
    "grad_of_grad": lambda f: jax.grad(lambda x: jnp.sum(jax.grad(f)(x) ** 2)),
    "hessian_product": lambda f: lambda x: jax.jvp(jax.grad(f), (x,), (jnp.cos(x),)),
    "vmap": lambda f: lambda x: jax.vmap(jax.grad(f))(jnp.stack([x, -x])),
    "remat": lambda f: jax.grad(jax.checkpoint(f)),
    "scan": lambda f: lambda x: jax.lax.scan(lambda s, x: (s, jax.grad(f)(x)), 0, x[None])[1],
}


@pytest.mark.parametrize("transform", TRANSFORMED.values(), ids=TRANSFORMED)
def test_under_transformations(transform, key):
    x = jax.random.normal(key, (2, 7, 6, 3))
    found, expected = (
        jax.jit(transform(functools.partial(loss, implementation=name)))(x)
        for name in ("triton", "direct")
    )
    jax.tree.map(functools.partial(assert_close, terms=36), found, expected)


def test_the_gradient_inherits_the_name(key):
    x = jax.random.normal(key, (2, 7, 6, 3))
    choices = jconv.explain_choice(jax.grad(functools.partial(loss, implementation="triton")), x)
    assert {c.op: c.implementation for c in choices} == {
        "max_pool_argmax": "triton", "pool_put": "triton", "window_sum": "triton",
        "window_spread": "triton",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("shape", "dtype", "options", "reason"),
    [
        ((1, 4, 4, 2), "int32", {}, "only float32, bfloat16, float16, got int32"),
        ((0, 4, 4, 2), "float32", {}, "nothing to compute"),
        ((1, 1, 1, 1, 1, 1), "float32", {}, "only one to three spatial axes, got 4"),
        ((1, 4, 4, 2), "float32", {"input_dilation": 2}, r"only input_dilation 1, got \(2, 2\)"),
        ((1, 9, 9, 2), "float32", {"size": 9}, "only windows of at most 64 taps, got 81"),
        ((2**16, 2**8, 2**8, 2), "float32", {}, r"only arrays of fewer than 2\*\*31 elements"),
    ],
)
def test_says_why_not(shape, dtype, options, reason):
    window = Window.of(shape[1:-1], options.pop("size", 1), **options)
    x = jax.ShapeDtypeStruct(shape, dtype)
    with pytest.raises(NotImplementedError, match=f"'triton' can't compute this call: {reason}"):
        jax.eval_shape(functools.partial(winner.largest, window=window, implementation="triton"), x)
