"""jconv.ops.dcls_conv against the definition, and fields that were planted and are found again."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import jconv
from jconv.ops.dcls_conv import INTERPOLATIONS, dcls_conv, dcls_kernel, dilated_positions
from tests.oracles import learnable_fields as oracle
from tests.tolerance import assert_close

# x, taps (T, C/G, K), channels of the positions, window, options, pads
CASES = {
    "plain": ((2, 6, 5, 2), (3, 2, 3), (2, 3), (5, 4), {}, ((2, 2), (1, 2))),
    "shared": ((2, 6, 5, 2), (4, 2, 3), (1, 1), (5, 3), {}, ((2, 2), (1, 1))),
    "shared_by_features": ((1, 6, 5, 2), (2, 2, 3), (2, 1), (4, 3), {}, ((1, 2), (1, 1))),
    "grouped_strided": (
        (1, 7, 6, 4), (2, 2, 2), (2, 2), (3, 3), {"groups": 2, "stride": 2, "padding": 1},
        ((1, 1), (1, 1)),
    ),
    "one_axis": ((2, 9, 2), (3, 2, 2), (2, 2), (7,), {"padding": "VALID"}, ((0, 0),)),
    "three_axes": ((1, 3, 4, 3, 1), (2, 1, 2), (1, 1), (2, 3, 1), {}, ((0, 1), (1, 1), (0, 0))),
    "one_pixel": ((1, 4, 3, 2), (2, 2, 1), (2, 1), (1, 1), {}, ((0, 0), (0, 0))),
}  # fmt: skip
each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
each_interpolation = pytest.mark.parametrize("interpolation", INTERPOLATIONS)


def arrays(case, interpolation, dtype=np.float32):
    x, w, shared, window, _, _ = case
    random = np.random.default_rng(0)
    places = (w[0], *shared, len(window))
    x, w, b = (jnp.asarray(random.normal(size=s), dtype) for s in (x, w, w[-1:]))
    position = jnp.asarray(random.uniform(-2.2, 2.2, places), dtype)
    sigma = jnp.asarray(random.normal(size=places), dtype)
    return x, w, position, b, None if interpolation == "bilinear" else sigma


def call(case, interpolation):
    options = {"window": case[3], "interpolation": interpolation, **case[4]}
    return functools.partial(dcls_conv, **options)


@each_case
@each_interpolation
def test_matches_definition(case, interpolation):
    """Also where positions lie outside of the window."""
    operands = arrays(case, interpolation)
    y = jax.jit(call(case, interpolation))(*operands)
    options = case[4]
    stride = (options.get("stride", 1),) * len(case[3])
    expected = oracle.dcls_conv(
        *operands, size=case[3], interpolation=interpolation, stride=stride, pads=case[5],
        groups=options.get("groups", 1),
    )  # fmt: skip
    assert_close(y, expected, terms=8 * int(np.prod(case[3])) * case[1][1])


@pytest.mark.parametrize(
    ("name", "interpolation", "order"),
    [
        ("plain", "bilinear", 1), ("plain", "gaussian", 1), ("shared", "triangle", 1),
        pytest.param("one_axis", "gaussian", 2, marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_gradients(name, interpolation, order, x64):
    """Away from whole positions and borders, where bilinear shares have kinks."""
    case = CASES[name]
    x, w, position, b, sigma = arrays(case, interpolation, np.float64)
    position = jnp.clip(position, -0.9, 0.9)
    position = jnp.where(jnp.abs(position) < 0.1, 0.15, position)
    operands = (x, w, position, b) if sigma is None else (x, w, position, b, sigma)
    f = jax.jit(call(case, interpolation))
    check_grads(f, operands, order, modes=["fwd", "rev"], eps=1e-4, rtol=1e-5, atol=1e-5)


def test_filter_gradients_of_second_order(x64):
    """The convolution is linear in the filter, which holds all that is not."""
    w = jnp.array([0.7, -1.2]).reshape(2, 1, 1)
    position = jnp.array([-0.4, 0.3]).reshape(2, 1, 1, 1)
    sigma = jnp.array([0.5, 1.1]).reshape(2, 1, 1, 1)

    def dense(w, position, sigma):
        return dcls_kernel(w, position, (3,), sigma=sigma, interpolation="gaussian")

    check_grads(jax.jit(dense), (w, position, sigma), 2, eps=1e-5, rtol=1e-6, atol=1e-6)


def test_whole_positions_are_a_dilated_convolution(key):
    """The taps of 3x3 at dilation 2 in a window of 5."""
    x, w = jax.random.normal(key, (2, 8, 7, 3)), jax.random.normal(key, (3, 3, 3, 4))
    position = dilated_positions((3, 3), jnp.asarray(2.0))
    y = dcls_conv(x, w.reshape(9, 3, 4), position, window=5)
    assert_close(y, jconv.conv(x, w, dilation=2), terms=27)


def test_dilated_positions():
    np.testing.assert_array_equal(
        dilated_positions((3,), jnp.asarray(1.5))[:, 0, 0, 0], [-1.5, 0, 1.5]
    )
    two = dilated_positions((2, 3), jnp.asarray([2.0, 0.5]))[:, 0, 0]
    np.testing.assert_array_equal(two[:, 0], [-1, -1, -1, 1, 1, 1])
    np.testing.assert_array_equal(two[:, 1], [-0.5, 0, 0.5, -0.5, 0, 0.5])


@each_interpolation
def test_shares_add_up_to_one(interpolation):
    """Whatever the position, so that a tap weighs what its weight says."""
    position = jnp.linspace(-9, 9, 37).reshape(37, 1, 1, 1)
    sigma = None if interpolation == "bilinear" else jnp.full_like(position, 0.3)
    for t in range(37):
        at = None if sigma is None else sigma[t : t + 1]
        dense = dcls_kernel(
            jnp.ones((1, 1, 1)), position[t : t + 1], (6,), sigma=at, interpolation=interpolation
        )
        np.testing.assert_allclose(dense.sum(), 1, rtol=1e-6)


def test_the_gradient_at_a_whole_position_is_that_of_both_sides(x64):
    slope = jax.grad(
        lambda p: (
            dcls_kernel(jnp.ones((1, 1, 1)), p, (5,))[:, 0, 0] * jnp.array([0.0, 1, 5, 11, 0])
        ).sum()
    )
    np.testing.assert_allclose(slope(jnp.zeros((1, 1, 1, 1))), (11 - 1) / 2)
    np.testing.assert_allclose(slope(jnp.full((1, 1, 1, 1), 0.5)), 11 - 5)


def test_a_tap_outside_comes_back(x64):
    """It is held at the border, and its gradient is that of the border."""
    position = jnp.full((1, 1, 1, 1), 4.0)
    target = jnp.array([0.0, 0, 1, 0, 0])

    def loss(p):
        sigma = jnp.full((1, 1, 1, 1), 0.7)
        dense = dcls_kernel(jnp.ones((1, 1, 1)), p, (5,), sigma=sigma, interpolation="gaussian")
        return ((dense[:, 0, 0] - target) ** 2).sum()

    np.testing.assert_allclose(loss(position), loss(jnp.full((1, 1, 1, 1), 2.0)))
    slope = jax.jit(jax.grad(loss))
    for _ in range(300):
        position = position - 0.3 * slope(position)
    assert abs(float(position[0, 0, 0, 0])) < 0.05


def smooth(key, n, reach):
    """Lines of noise, blurred so that neighbours within `reach` pixels are alike."""
    taps = np.exp(-0.5 * (np.arange(-3 * reach, 3 * reach + 1) / reach) ** 2)
    x = jax.random.normal(key, (n, 96, 1))
    return jconv.conv(x, jnp.asarray(taps / np.sqrt((taps**2).sum()), x.dtype)[:, None, None])


@each_interpolation
def test_recovers_planted_spacings(interpolation, key):
    """Three taps at -4.5, 0.7 and 5.2 on smooth lines, from -3, 0 and 3."""
    x = smooth(key, 16, 4)
    planted = jnp.array([-4.5, 0.7, 5.2]).reshape(3, 1, 1, 1)
    w = jnp.array([1.0, -0.6, 0.8]).reshape(3, 1, 1)
    sigma = None if interpolation == "bilinear" else jnp.full((3, 1, 1, 1), 0.1)
    conv = functools.partial(
        dcls_conv, sigma=sigma, window=15, interpolation=interpolation, padding="VALID"
    )
    y = conv(x, w, planted)

    @jax.jit
    def step(position, velocity):
        grads = jax.grad(lambda p: ((conv(x, w, p) - y) ** 2).mean())(position)
        velocity = 0.9 * velocity + grads
        return position - 0.3 * velocity, velocity

    position = jnp.array([-3.0, 0.0, 3.0]).reshape(3, 1, 1, 1)
    velocity = jnp.zeros_like(position)
    for _ in range(600):
        position, velocity = step(position, velocity)
    np.testing.assert_allclose(position, planted, atol=0.02)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_low_precision(dtype):
    """Positions may stay in float32."""
    case = CASES["plain"]
    x, w, position, b, sigma = arrays(case, "gaussian")
    x, w, b = (a.astype(dtype) for a in (x, w, b))
    y, vjp = jax.vjp(jax.jit(call(case, "gaussian")), x, w, position, b, sigma)
    assert y.dtype == dtype
    assert [g.dtype for g in vjp(y)] == [dtype, dtype, jnp.float32, dtype, jnp.float32]
    expected = oracle.dcls_conv(
        x, w, position, b, sigma, size=(5, 4), interpolation="gaussian", stride=(1, 1),
        pads=case[5], groups=1,
    )  # fmt: skip
    # The filter is rounded to the dtype before it is convolved.
    np.testing.assert_allclose(
        np.asarray(y, np.float64), expected, atol=0.03 * np.abs(expected).max()
    )


X, W, P = jnp.zeros((1, 4, 4, 2)), jnp.zeros((3, 2, 5)), jnp.zeros((3, 1, 1, 2))


@pytest.mark.parametrize(
    ("operands", "options", "message"),
    [
        ((X[0, 0], W, P), {}, r"^dcls_conv: x must be \(N, \*spatial, C\).*got x \(4, 2\)"),
        (
            (X, W[0], P),
            {},
            r"^dcls_conv: w must be floating point \(T, C/groups, K\); got w \(2, 5\)",
        ),
        ((X, W.astype(int), P), {}, "^dcls_conv: w must .* of int32"),
        ((X, W, P[0]), {}, r"position must be .* = \(3, 2, 5, 2\).*position \(1, 1, 2\)"),
        ((X, W, P[:2]), {}, r"position must be .*position \(2, 1, 1, 2\)"),
        ((X, W, P[..., :1]), {}, r"position must be .*position \(3, 1, 1, 1\)"),
        ((X, W, jnp.zeros((3, 2, 3, 2))), {}, r"position must be .*position \(3, 2, 3, 2\)"),
        ((X, W, P.astype(int)), {}, "position must be floating point; got int32"),
        (
            (X, W, P, None, P[:2]),
            {"interpolation": "gaussian"},
            r"sigma must be .*sigma \(2, 1, 1, 2\)",
        ),
        (
            (X, W, P, None, P),
            {},
            r'sigma belongs to .*got interpolation="bilinear", sigma \(3, 1, 1',
        ),
        ((X, W, P), {"interpolation": "gaussian"}, 'got interpolation="gaussian", sigma None'),
        ((X, W, P), {"interpolation": "cubic"}, "interpolation must be one of .*; got 'cubic'"),
        ((X, W, P), {"window": 0}, "^dcls_conv: window must be at least 1"),
        ((X, W, P), {"groups": 2}, "^conv: w's K=5 does not divide into groups=2"),
    ],
)
def test_says_what_is_wrong(operands, options, message):
    with pytest.raises(ValueError, match=message):
        dcls_conv(*operands, **{"window": 3, **options})


def test_dilated_positions_says_what_is_wrong():
    message = r"^dilated_positions: dilation must be .* each of 2 axes .*got dilation \(3,\)"
    with pytest.raises(ValueError, match=message):
        dilated_positions((3, 3), jnp.ones(3))
