"""jconv.max_unpool against the definition, its adjoint, and the pooling that it inverts."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jconv.ops.max_pool import max_pool
from jconv.ops.unpool import max_unpool
from tests import often
from tests.ops.pool_cases import CASES
from tests.oracles import pool_variants as oracle

NAMES = (
    "plain", "overlapping", "same_lower", "pixels_never_read", "pads_wider_than_window",
    "ceil_mode_overlapping", "one_axis", "three_axes",
)  # fmt: skip
each_case = pytest.mark.parametrize("case", [CASES[name] for name in NAMES], ids=NAMES)


@each_case
@pytest.mark.parametrize("dtype", often.names(["float32", "bfloat16"], ["float32"]))
def test_matches_definition(case, dtype):
    """Maxima at their positions, some of them those of several windows, some nowhere."""
    x = jnp.asarray(case.image(np.float32), dtype)
    y, indices = max_pool(x, **case.options, return_indices=True)
    options = {k: v for k, v in case.options.items() if k != "ceil_mode"}
    back = max_unpool(y, indices, **options, output_size=case.x[1:-1])
    assert (back.shape, back.dtype) == (x.shape, dtype)
    expected = oracle.max_unpool(np.asarray(y, np.float32), indices, case.x[1:-1])
    np.testing.assert_array_equal(back.astype(np.float32), expected)


@each_case
def test_gradient_is_the_adjoint(case):
    """Each y gets what stands at its position, the last of equal positions alone."""
    x = case.image(np.float32)
    y, indices = max_pool(x, **case.options, return_indices=True)
    f = functools.partial(max_unpool, indices=indices, output_size=case.x[1:-1])
    z = np.arange(1.0, 1 + x.size, dtype=np.float32).reshape(x.shape)
    (dy,) = jax.jit(lambda y, z: jax.vjp(f, y)[1](z))(jnp.where(indices < 0, 0, y), z)
    flat, expected, seen = z.reshape(z.shape[0], -1, z.shape[-1]), np.zeros(y.shape), set()
    for p in reversed(list(np.ndindex(y.shape))):
        place = (p[0], int(indices[p]), p[-1])
        if place[1] >= 0 and place not in seen:
            expected[p] = flat[place]
            seen.add(place)
    np.testing.assert_array_equal(dy, expected)


def test_last_of_equal_positions_is_taken():
    y = jnp.asarray([1.0, 2.0, 3.0, 4.0]).reshape(1, 2, 2, 1)
    indices = jnp.asarray([0, 0, 3, 0]).reshape(1, 2, 2, 1)
    x = max_unpool(y, indices, 2, stride=1)
    np.testing.assert_array_equal(x.ravel(), [4, 0, 0, 3, 0, 0, 0, 0, 0])


def test_pooling_inverts_unpooling(key):
    """Positive numbers at distinct windows come back, with their positions."""
    x = jax.random.uniform(key, (2, 6, 4, 3), minval=1, maxval=2)
    y, indices = max_pool(x, 2, return_indices=True)
    again, positions = max_pool(max_unpool(y, indices, 2), 2, return_indices=True)
    np.testing.assert_array_equal(again, y)
    np.testing.assert_array_equal(positions, indices)


@pytest.mark.parametrize(
    ("options", "output"),
    [
        ({"window": 2}, (6, 4)),
        ({"window": 3, "stride": 2, "padding": 1}, (5, 3)),
        ({"window": (3, 2), "stride": (2, 1), "padding": "SAME"}, (6, 2)),
        ({"window": 2, "stride": 2, "dilation": 3}, (8, 6)),
        ({"window": 2, "output_size": (7, 5)}, (7, 5)),
        ({"window": 2, "output_size": (1, 7, 5, 1)}, (7, 5)),
        ({"output_size": 9}, (9, 9)),
    ],
)
def test_output_size(options, output):
    y = jnp.zeros((1, 3, 2, 1))
    indices = jnp.full(y.shape, -1)
    assert max_unpool(y, indices, **options).shape == (1, *output, 1)


@pytest.mark.parametrize("wrong", [-2, 16, 2**31 - 1])
def test_positions_outside(wrong):
    """An error where they are known, no number where they are not: never a wrong pixel."""
    y = jnp.asarray([1.0, 2.0]).reshape(1, 2, 1, 1)
    indices = jnp.asarray([wrong, 5]).reshape(1, 2, 1, 1)
    f = functools.partial(max_unpool, output_size=4)
    with pytest.raises(ValueError, match=rf"^max_unpool: .*below 16 .*\(4, 4\), .*got {wrong}"):
        f(y, indices)
    with pytest.raises(ValueError, match=rf"got {wrong}"):
        jax.jit(lambda y: f(y, indices))(y)
    x = jax.jit(f)(y, indices)
    np.testing.assert_array_equal(x.ravel(), 2.0 * (np.arange(16) == 5))
    dy = jax.jit(jax.grad(lambda y: f(y, indices_of(y, wrong)).sum()))(y)
    np.testing.assert_array_equal(dy.ravel(), [0, 1])


def indices_of(y, wrong):
    """Traced, for they are computed from y."""
    return jnp.where(y < 1.5, wrong, 5)


@pytest.mark.parametrize("shape", [(0, 2, 2, 3), (2, 2, 2, 0), (1, 1, 1, 1)])
def test_empty_and_one_pixel(shape):
    y = jnp.ones(shape)
    x, vjp = jax.vjp(lambda y: max_unpool(y, jnp.zeros(shape, jnp.int32), 2), y)
    assert x.shape == (shape[0], 2 * shape[1], 2 * shape[2], shape[-1])
    assert vjp(x)[0].shape == shape


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint32"])
def test_indices_of_any_integer_dtype(dtype):
    """Narrow ones are not compared with the image's 400 pixels in their own dtype."""
    at = jnp.full((1, 1, 1, 1), 100, dtype)
    for f in (max_unpool, jax.jit(max_unpool, static_argnames="output_size")):
        x = f(jnp.ones((1, 1, 1, 1)), at, output_size=20)
        assert np.flatnonzero(x).tolist() == [100]


def test_windows_that_are_mostly_padding():
    """Whose formula gives an image without a pixel: with output_size it has one."""
    x = jnp.full((1, 1, 1, 1), 3.0)
    y, at = max_pool(x, (4, 1), padding=(2, 0), return_indices=True)
    np.testing.assert_array_equal(max_unpool(y, at, (4, 1), padding=(2, 0), output_size=1), x)
    with pytest.raises(ValueError, match=r"leaves no pixel of the output"):
        max_unpool(y, at, (4, 1), padding=(2, 0))


def test_integers_and_special_values():
    y = np.array([np.nan, np.inf]).reshape(1, 2, 1, 1)
    indices = np.array([3, 0], np.int64).reshape(1, 2, 1, 1)
    x = max_unpool(y, indices, output_size=2)
    np.testing.assert_array_equal(x.ravel(), [np.inf, 0, 0, np.nan])
    x = max_unpool(np.array([3, 4], np.uint8).reshape(1, 2, 1, 1), indices, output_size=2)
    assert x.dtype == jnp.uint8
    np.testing.assert_array_equal(x.ravel(), [4, 0, 0, 3])


Y, AT = jnp.zeros((1, 2, 3, 1)), jnp.zeros((1, 2, 3, 1), jnp.int32)


@pytest.mark.parametrize(
    ("y", "indices", "options", "message"),
    [
        (Y[0, 0], AT[0, 0], {"window": 2}, r"y must be \(N, \*spatial, C\) .*got y \(3, 1\)"),
        (Y > 0, AT, {"window": 2}, r"y must hold numbers; got y .* of bool"),
        (Y, AT[:, :1], {"window": 2}, r"must have y's shape; got .*\(1, 2, 3, 1\), .*\(1, 1, 3, 1"),
        (Y, Y, {"window": 2}, r"indices must be integers; got indices .* of float32"),
        (Y, AT, {}, r"a window or an output_size must be given; got neither for y \(1, 2, 3, 1\)"),
        (Y, AT, {"window": 2, "output_size": 8}, r"less than a stride of \(4, 6\).*got .*\(8, 8\)"),
        (Y, AT, {"window": 2, "output_size": (4, 6, 1)}, r"output_size must be an int or one int"),
        (Y, AT, {"output_size": -1}, r"output_size must be at least 0"),
        (Y, AT, {"output_size": 2**16}, r"fewer than 2\*\*31 pixels"),
        (Y, AT, {"window": 0}, r"window must be at least 1"),
    ],
)
def test_says_what_is_wrong(y, indices, options, message):
    with pytest.raises(ValueError, match=f"^max_unpool: .*{message}"):
        max_unpool(y, indices, **options)
