"""Activations against torch.nn.functional at the points where formulas go wrong, with gradients.

Where JAX and PyTorch differ, both results stand here, and in docs/ops/activations_losses.md.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jconv.nn import activations
from jconv.ops.prelu import prelu
from tests.parity.compare import assert_same, channels_first, channels_last, with_grads
from tests.parity.peer import cotangent

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("x64")]

NAN, INF = np.nan, np.inf
FINITE = (-1e4, -100, -20, -6, -3, -2.9, -1, -1e-3, 0, 1e-3, 1, 2.9, 3, 6, 20, 21, 100, 1e4)
POINTS = np.asarray([*FINITE, -INF, INF, NAN])

# PyTorch's name and arguments, JAX's function.
NAMES = {
    "relu": ("nn.functional.relu", {}, activations.relu),
    "relu6": ("nn.functional.relu6", {}, activations.relu6),
    "leaky_relu": ("nn.functional.leaky_relu", {}, activations.leaky_relu),
    "elu": ("nn.functional.elu", {"alpha": 0.5}, lambda x: activations.elu(x, 0.5)),
    "celu": ("nn.functional.celu", {"alpha": 0.5}, lambda x: activations.celu(x, 0.5)),
    "selu": ("nn.functional.selu", {}, activations.selu),
    "gelu": ("nn.functional.gelu", {}, functools.partial(activations.gelu, approximate=False)),
    "gelu_tanh": ("nn.functional.gelu", {"approximate": "tanh"}, activations.gelu),
    "silu": ("nn.functional.silu", {}, activations.silu),
    "mish": ("nn.functional.mish", {}, activations.mish),
    "hard_swish": ("nn.functional.hardswish", {}, activations.hard_swish),
    "hard_sigmoid": ("nn.functional.hardsigmoid", {}, activations.hard_sigmoid),
    "hard_tanh": ("nn.functional.hardtanh", {}, activations.hard_tanh),
    "softplus": ("nn.functional.softplus", {}, activations.softplus),
    "softplus_beta": (
        "nn.functional.softplus", {"beta": 2.0},
        lambda x: activations.softplus(2.0 * x) / 2.0,
    ),
    "sigmoid": ("sigmoid", {}, activations.sigmoid),
    "log_sigmoid": ("nn.functional.logsigmoid", {}, activations.log_sigmoid),
    "soft_sign": ("nn.functional.softsign", {}, activations.soft_sign),
    "tanh": ("tanh", {}, activations.tanh),
}  # fmt: skip
# Where the derivative differs: JAX's, PyTorch's.
SLOPES = {
    "relu": {NAN: (0, 1)},
    "relu6": {NAN: (0, 1)},
    "leaky_relu": {0: (1, 0.01)},
    "elu": {NAN: (NAN, 1)},
    "celu": {NAN: (NAN, 1)},
    "selu": {NAN: (NAN, 1.0507009873554805)},
    "hard_swish": {NAN: (NAN, 1)},
    "hard_tanh": {-1: (1, 0), 1: (1, 0)},
    "softplus": {21: (1 / (1 + np.exp(-21)), 1)},
}
# Where the value differs.
VALUES = {"softplus": {21: (np.log1p(np.exp(21)), 21)}}


@pytest.mark.parametrize("name", NAMES)
def test_values_and_slopes(torch, name):
    theirs, options, ours = NAMES[name]
    y, (dx,) = with_grads(ours, POINTS, last=False)
    (expected,), (slope,) = torch(theirs, POINTS, **options)
    weights = cotangent(POINTS.shape)
    values, slopes = VALUES.get(name, {}), SLOPES.get(name, {})
    for actual, other, differ in ((y, expected, values), (dx / weights, slope / weights, slopes)):
        same = np.ones(len(POINTS), bool)
        for point, (jax_s, torch_s) in differ.items():
            at = np.isnan(POINTS) if np.isnan(point) else point == POINTS
            np.testing.assert_allclose(actual[at], jax_s, rtol=1e-14)
            np.testing.assert_allclose(other[at], torch_s, rtol=1e-14)
            same &= ~at
        # PyTorch keeps the slope of hardsigmoid, 1/6, in float32.
        tolerance = 1e-7 if name == "hard_sigmoid" else 1e-10
        np.testing.assert_allclose(actual[same], other[same], rtol=tolerance, atol=1e-12)


def test_gelu_in_float16_has_no_slope_far_away():
    """JAX cubes x, in float16 infinite from 41 on; its derivative 3 x^2 is, from 148 on."""
    x = jnp.asarray([147.0, 149.0], jnp.float16)
    np.testing.assert_array_equal(activations.gelu(x), x)
    slope = jax.vmap(jax.grad(activations.gelu))(x)
    np.testing.assert_array_equal(slope, [1, NAN])


def test_glu_and_softmax(torch):
    x = np.random.default_rng(0).normal(size=(3, 6)) * 10
    for name, ours in (("glu", activations.glu), ("log_softmax", activations.log_softmax)):
        y, (dx,) = with_grads(ours, x, last=False)
        (expected,), (slope,) = torch(f"nn.functional.{name}", x, dim=-1)
        assert_same(y, expected)
        assert_same(dx, slope)


@pytest.mark.parametrize("slopes", [1, 3])
def test_prelu(torch, slopes):
    random = np.random.default_rng(0)
    x = random.normal(size=(2, 4, 5, 3))
    x[0, 0, 0] = 0, INF, -INF
    slope = random.normal(size=slopes)
    y, (dx, dslope) = with_grads(prelu, x, slope)
    (expected,), (theirs, their_slope) = torch("nn.functional.prelu", channels_first(x), slope)
    assert_same(y, channels_last(expected))
    assert_same(dx, channels_last(theirs))
    assert_same(dslope, their_slope)
