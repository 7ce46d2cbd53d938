"""jconv.ops.deform_conv against the definition, and against the convolution that it deforms."""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jconv
from jconv.ops.deform_conv import deform_conv
from tests.oracles import sampling as oracle
from tests.tolerance import assert_close

# x, w, offset groups, options, the padding resolved, the output's spatial size
CASES = {
    "plain": ((2, 5, 4, 2), (3, 2, 2, 3), 1, {}, ((1, 1), (0, 1)), (5, 4)),
    "strided": (
        (1, 6, 5, 2), (3, 3, 2, 2), 2, {"stride": (2, 1), "padding": 1}, ((1, 1), (1, 1)), (3, 5)
    ),
    "dilated": (
        (1, 5, 6, 2), (2, 3, 2, 2), 1, {"dilation": 2, "padding": "VALID"}, ((0, 0), (0, 0)), (3, 2)
    ),
    "grouped": ((1, 4, 4, 4), (2, 2, 2, 4), 4, {"groups": 2}, ((0, 1), (0, 1)), (4, 4)),
    "one_axis": ((2, 5, 2), (3, 2, 3), 2, {"padding": ((2, 0),)}, ((2, 0),), (5,)),
    "three_axes": (
        (1, 2, 3, 2, 2), (2, 1, 2, 2, 2), 1, {"padding": "VALID"}, ((0, 0),) * 3, (1, 3, 1)
    ),
}  # fmt: skip
each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def arrays(case, dtype=np.float32, reach=1.5):
    x, w, offset_groups, _, _, output = case
    random = np.random.default_rng(0)
    taps, axes = math.prod(w[:-2]), len(output)
    shapes = (
        x, (x[0], *output, offset_groups * taps * axes), w, w[-1:],
        (x[0], *output, offset_groups * taps),
    )  # fmt: skip
    x, offset, w, b, mask = (jnp.asarray(random.normal(size=shape), dtype) for shape in shapes)
    return x, offset * reach, w, b, mask


def expected_of(case, x, offset, w, b, mask):
    axes, options = len(case[5]), case[3]
    stride, dilation = (
        value if isinstance(value, tuple) else (value,) * axes
        for value in (options.get("stride", 1), options.get("dilation", 1))
    )
    groups = options.get("groups", 1)
    return oracle.deform_conv(x, offset, w, b, mask, stride, case[4], dilation, groups)


@each_case
@pytest.mark.parametrize("version", [1, 2])
def test_matches_definition(case, version):
    x, offset, w, b, mask = arrays(case)
    operands = (x, offset, w, b) if version == 1 else (x, offset, w, b, mask)
    y = jax.jit(functools.partial(deform_conv, **case[3]))(*operands)
    expected = expected_of(case, x, offset, w, b, None if version == 1 else mask)
    assert_close(y, expected, terms=4 * w[..., 0].size)


@each_case
def test_without_offsets_it_is_conv(case):
    x, offset, w, b, mask = arrays(case)
    run = jax.jit(functools.partial(deform_conv, **case[3]))
    y = run(x, jnp.zeros_like(offset), w, b, jnp.ones_like(mask))
    assert_close(y, jconv.conv(x, w, b, **case[3]), terms=w[..., 0].size)


def test_an_offset_of_a_pixel_is_a_shift():
    """y before x: of the offsets of a tap the first moves it down, the second to the right."""
    x = jnp.arange(12.0).reshape(1, 3, 4, 1)
    w = jnp.ones((1, 1, 1, 1))
    down = deform_conv(x, jnp.zeros((1, 3, 4, 2)).at[..., 0].set(1), w)
    right = deform_conv(x, jnp.zeros((1, 3, 4, 2)).at[..., 1].set(1), w)
    np.testing.assert_array_equal(down[0, :, :, 0], [[4, 5, 6, 7], [8, 9, 10, 11], [0, 0, 0, 0]])
    np.testing.assert_array_equal(right[0, :, :, 0], [[1, 2, 3, 0], [5, 6, 7, 0], [9, 10, 11, 0]])


def test_offsets_that_are_none():
    """Not a number, infinite or far away: the tap reads 0, and no gradient is NaN."""
    case = CASES["plain"]
    x, offset, w, b, mask = arrays(case)
    wild = offset.at[0, 0, 0, 0].set(jnp.nan).at[0, 0, 0, 2].set(jnp.inf).at[0, 1, 1, 3].set(-1e30)
    far = offset.at[0, 0, 0, 0].set(50.0).at[0, 0, 0, 2].set(50.0).at[0, 1, 1, 3].set(-50.0)
    f = jax.jit(deform_conv)
    y, vjp = jax.vjp(f, x, wild, w, b, mask)
    np.testing.assert_array_equal(y, f(x, far, w, b, mask))
    assert all(jnp.isfinite(g).all() for g in vjp(jnp.ones_like(y)))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_low_precision(dtype):
    """Offsets may stay in float32; sums are taken in it."""
    case = CASES["grouped"]
    x, offset, w, _, mask = (a if i == 1 else a.astype(dtype) for i, a in enumerate(arrays(case)))
    y, vjp = jax.vjp(jax.jit(functools.partial(deform_conv, **case[3])), x, offset, w, None, mask)
    assert y.dtype == dtype
    assert [g.dtype for g in vjp(y) if g is not None] == [dtype, jnp.float32, dtype, dtype]
    assert_close(y, expected_of(case, x, offset, w, None, mask), terms=64)


def test_empty():
    x, offset, w, b, _ = arrays(((0, 4, 4, 2), (3, 3, 2, 3), 1, {}, None, (4, 4)))
    y, vjp = jax.vjp(jax.jit(deform_conv), x, offset, w, b)
    assert y.shape == (0, 4, 4, 3)
    assert [g.shape for g in vjp(y)] == [x.shape, offset.shape, w.shape, b.shape]


X, W = jnp.zeros((1, 4, 4, 4)), jnp.zeros((3, 3, 4, 2))
OFFSET = jnp.zeros((1, 4, 4, 18))


@pytest.mark.parametrize(
    ("operands", "options", "message"),
    [
        ((X[0], OFFSET, W), {}, r"x must be \(N, \*spatial, C\).*got x \(4, 4, 4\)"),
        ((X, OFFSET, W[:, :, :2]), {}, r"x has C=4 but w takes C/groups=2, groups=1"),
        ((X, OFFSET, W[..., :1]), {"groups": 2}, r"x has C=4 but w takes .*K=1 must divide"),
        ((X, OFFSET, W.astype(jnp.bfloat16)), {}, "of one dtype; got x of float32, w of bfloat16"),
        ((X, OFFSET, W, jnp.zeros(3)), {}, r"b must be \(K,\) = \(2,\) of float32; got b \(3,\)"),
        ((X, OFFSET[..., :17], W), {}, r"offset must be .* = \(1, 4, 4\) with a multiple of 18"),
        ((X, OFFSET, W), {"padding": "VALID"}, r"offset must be .* = \(1, 2, 2\) with a multiple"),
        ((X, jnp.zeros((1, 4, 4, 54)), W), {}, "x's C=4 does not divide into offset_groups=3"),
        ((X, OFFSET[..., :0], W), {}, "x's C=4 does not divide into offset_groups=0"),
        ((X, OFFSET.astype(int), W), {}, "offset must be floating point"),
        ((X, OFFSET, W, None, OFFSET), {}, r"mask must be floating point .* = \(1, 4, 4, 9\)"),
        ((X, OFFSET, W), {"stride": 0}, "stride must be at least 1"),
        ((X, OFFSET, W), {"groups": 0}, "groups must be at least 1"),
    ],
)
def test_says_what_is_wrong(operands, options, message):
    with pytest.raises(ValueError, match=f"^deform_conv: .*{message}"):
        deform_conv(*operands, **options)
