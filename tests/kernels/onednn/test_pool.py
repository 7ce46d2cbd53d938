"""Pooling on oneDNN's side against the definitions of `jconv.ops`, number by number."""

from __future__ import annotations

import functools
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jconv_kernels import onednn

from jconv.window import Window
from tests.kernels.onednn.calls import each_of, needs_onednn
from tests.kernels.pool_cases import CASES, DIVISORS, image, same, window_of
from tests.oracles import pool as oracle
from tests.tolerance import assert_close

pytestmark = needs_onednn
winner, averages = (importlib.import_module(f"jconv.ops.{n}") for n in ("winner", "avg_pool"))

each_case = each_of(CASES, "overlap", "three_axes")
each_dtype = pytest.mark.parametrize("dtype", ["float32", "bfloat16"])


@each_case
@each_dtype
def test_max_pool_and_its_tap(case, dtype, key):
    x, window = image(case, key, dtype), window_of(case)
    y, tap = jax.jit(functools.partial(onednn.max_pool_argmax, window=window))(x)
    expected = winner.largest_and_tap.table[-1].body(x, window=window)
    same(y, expected[0])
    same(tap, expected[1])
    same(onednn.max_pool(x, window=window), y)


def test_max_pool_matches_the_oracle(key):
    case = CASES["overlap"]
    window, x = window_of(case), image(case, key, "float32")
    y, _ = oracle.max_pool(
        x, window=window.size, stride=window.stride, pads=window.pads, dilation=window.dilation
    )
    np.testing.assert_array_equal(onednn.max_pool(x, window=window), y)


@each_case
@each_dtype
def test_put(case, dtype, key):
    window = window_of(case)
    _, tap = winner.largest_and_tap.table[-1].body(image(case, key, "float32"), window=window)
    dy = jax.random.normal(key, tap.shape).astype(dtype)
    static = {"window": window, "dtype": jnp.dtype(dtype)}
    dx = jax.jit(functools.partial(onednn.pool_put, **static))(dy, tap)
    wide = dy.astype("float32")
    expected = winner.put.table[-1].body(wide, tap, window=window, dtype=wide.dtype)
    assert dx.dtype == dtype
    assert_close(dx, expected, terms=int(np.prod(window.size)))


@each_case
@each_dtype
def test_take(case, dtype, key):
    window, x = window_of(case), jax.random.normal(key, case[0]).astype(dtype)
    _, tap = winner.largest_and_tap.table[-1].body(image(case, key, "float32"), window=window)
    static = {"window": window, "dtype": jnp.dtype(dtype)}
    y = jax.jit(functools.partial(onednn.pool_take, **static))(x, tap)
    same(y, winner.take.table[-1].body(x, tap, **static))


@each_case
@each_dtype
@pytest.mark.parametrize("divisor", DIVISORS.values(), ids=DIVISORS)
def test_sum_and_spread(case, dtype, divisor, key):
    window, x = window_of(case), jax.random.normal(key, case[0]).astype(dtype)
    static = {"window": window, "dtype": jnp.dtype("float32"), "divisor": divisor(window)}
    y = jax.jit(functools.partial(onednn.window_sum, **static))(x)
    terms = int(np.prod(window.size))
    assert_close(y, averages.window_sum.table[-1].body(x, **static), terms=terms)
    low = {**static, "dtype": jnp.dtype(dtype)}
    dx = jax.jit(functools.partial(onednn.window_spread, **low))(y)
    assert dx.dtype == dtype
    assert_close(dx, averages.spread.table[-1].body(y, **static), terms=terms)


def test_vmap(key):
    case = CASES["plain"]
    window, x = window_of(case), jnp.stack([image(case, key, "float32")] * 2)
    y = jax.vmap(functools.partial(onednn.max_pool, window=window))(x)
    same(y[1], onednn.max_pool(x[0], window=window))


@pytest.mark.parametrize(
    ("shape", "dtype", "window", "reason"),
    [
        ((1, 4, 4, 2), "int32", {}, "only float32, bfloat16, got int32"),
        ((0, 4, 4, 2), "float32", {}, "nothing to compute"),
        ((1, 1, 1, 1, 1, 1), "float32", {}, "only one to three spatial axes, got 4"),
        ((1, 4, 4, 2), "float32", {"input_dilation": 2}, "not with input_dilation, got (2, 2)"),
        ((1, 4, 4, 31), "float32", {}, "only 32 channels or more, got 31"),
        ((1, 4, 4, 32), "float32", {}, None),
    ],
)
def test_says_why_not(shape, dtype, window, reason):
    size = (1,) * (len(shape) - 2)
    window = Window.of(shape[1:-1], size, **window)
    x = jax.ShapeDtypeStruct(shape, dtype)
    assert onednn.max_pool_unsupported(x, window=window) == reason
    static = {"window": window, "dtype": x.dtype}
    assert onednn.window_sum_unsupported(x, **static) == reason
    y = jax.ShapeDtypeStruct((shape[0], *window.output, shape[-1]), dtype)
    assert onednn.window_spread_unsupported(y, **static) == reason
    assert onednn.pool_put_unsupported(y, y, **static) == reason
    assert onednn.pool_take_unsupported(x, y, **static) == reason


def call(name="max_pool", shape=(1, 4, 4, 2), results=((1, 2, 2, 2),), tap=None, **wrong):
    dtypes = wrong.pop("dtypes", ["float32"] * (1 + len(results)))
    given = {"window": (2, 2), "stride": (2, 2), "pads": (0,) * 4, "dilation": (1, 1), **wrong}
    if name in ("window_sum", "window_spread"):
        given = {"counted": (), "divisor": np.float64(1), **given}
    static = {
        k: v if isinstance(v, np.float64) else np.array(v, np.int64) for k, v in given.items()
    }
    types = [jax.ShapeDtypeStruct(s, d) for s, d in zip(results, dtypes[1:], strict=True)]
    arrays = [jnp.ones(shape, dtypes[0])] + ([] if tap is None else [tap])
    return jax.block_until_ready(jax.ffi.ffi_call(f"jconv_onednn_{name}", types)(*arrays, **static))


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"shape": (1, 2)}, "x must have one to three spatial axes"),
        ({"stride": (2,)}, "window, stride, dilation and pads must have entries for each spatial"),
        ({"results": ((1, 2, 2, 3),)}, "x and y must have the same N and C"),
        ({"window": (0, 2)}, "window, stride and dilation must be at least 1"),
        ({"results": ((1, 3, 2, 2),)}, "y's spatial axes must be those of the window"),
        ({"dtypes": ["float32", "bfloat16"]}, "x and y must have the same dtype"),
        ({"dtypes": ["int32", "int32"]}, "x must be float32 or bfloat16"),
        (
            {"results": ((1, 2, 2, 2), (1, 2, 2, 1)), "dtypes": ["float32", "float32", "uint8"]},
            "tap must have the shape of y",
        ),
        ({"results": ((1, 2, 2, 2),) * 2}, "tap must be uint8 or int32"),
    ],
)
def test_the_call_itself_says_what_is_wrong(wrong, reason):
    with pytest.raises(jax.errors.JaxRuntimeError, match=f"max_pool: {reason}.*; got image "):
        call(**wrong)


def test_what_counts_is_said_for_each_axis():
    with pytest.raises(jax.errors.JaxRuntimeError, match=r"window_sum: counted must have entries"):
        call("window_sum", counted=(0, 0))


@pytest.mark.parametrize("name", ["window_sum", "window_spread", "pool_put", "pool_take"])
def test_the_others_say_it_too(name):
    tap = jnp.zeros((1, 7, 4, 2), "uint8") if name.startswith("pool") else None
    with pytest.raises(jax.errors.JaxRuntimeError, match=f"{name}: y's spatial axes .*; got image"):
        call(name, (1, 7, 4, 2), tap=tap)
