"""Filters as functions of position, against their definition number by number."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jconv.ops.continuous_kernel import (
    Gabor,
    Linear,
    gaussian_mask,
    magnet,
    mask_extent,
    siren,
    unit_gain,
    window_positions,
)
from tests.oracles import learnable_fields as oracle

SIZES = [(3, 4), (5,), (1, 2, 3)]
each_size = pytest.mark.parametrize("size", SIZES, ids=str)


def linears(widths, seed=0):
    random = np.random.default_rng(seed)
    pairs = itertools.pairwise(widths)
    return [Linear(*(jnp.asarray(random.normal(size=s)) for s in ((n, m), (m,)))) for n, m in pairs]


def gabors(axes, hidden, count):
    random = np.random.default_rng(1)
    shapes = ((axes, hidden), (hidden,), (hidden, axes), (hidden, axes))
    return [Gabor(*(jnp.asarray(random.normal(size=s)) for s in shapes)) for _ in range(count)]


@each_size
def test_positions(size):
    at = window_positions(size)
    assert at.shape == (*size, len(size))
    for pixel, expected in oracle.positions(size):
        np.testing.assert_allclose(at[pixel], expected, atol=1e-15)


@each_size
def test_siren(size, x64):
    layers = linears([len(size), 4, 3, 5])
    y = jax.jit(lambda at, layers: siren(at, layers, frequency=3.0))(window_positions(size), layers)
    for pixel, at in oracle.positions(size):
        np.testing.assert_allclose(y[pixel], oracle.siren(at, layers, 3.0), rtol=1e-10, atol=1e-12)


@each_size
def test_magnet(size, x64):
    made, layers = gabors(len(size), 4, 3), linears([4, 4, 4, 5])
    y = jax.jit(magnet)(window_positions(size), made, layers)
    for pixel, at in oracle.positions(size):
        np.testing.assert_allclose(
            y[pixel], oracle.magnet(at, made, layers), rtol=1e-10, atol=1e-12
        )


@each_size
def test_gaussian_mask(size, x64):
    at = window_positions(size)
    width, centre = np.linspace(0.3, 0.7, len(size)), np.linspace(-0.2, 0.1, len(size))
    np.testing.assert_allclose(
        gaussian_mask(at, width, centre), oracle.gaussian_mask(at, width, centre), rtol=1e-12
    )
    np.testing.assert_allclose(gaussian_mask(at, -width), gaussian_mask(at, width))


def test_gradients(x64):
    at = window_positions((4, 3))
    made, layers, first = gabors(2, 3, 2), linears([3, 3, 2]), linears([2, 3, 2])
    width, centre = jnp.array([0.4, 0.6]), jnp.array([0.1, -0.2])

    def both(made, layers, first, width, centre):
        mask = gaussian_mask(at, width, centre)[..., None]
        return mask * (magnet(at, made, layers) + siren(at, first, frequency=2.0))

    operands = (made, layers, first, width, centre)
    check_grads(jax.jit(both), operands, 1, modes=["fwd", "rev"], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("n", [1, 7, 8, 33])
@pytest.mark.parametrize("width", [1e-3, 0.1, 0.35, 1.0, -0.35])
@pytest.mark.parametrize("threshold", [0.1, 0.6])
def test_extent_is_where_the_mask_exceeds_the_threshold(n, width, threshold, x64):
    mask = gaussian_mask(window_positions((n,)), jnp.array([width]))
    above = int((np.asarray(mask) > threshold).sum())
    assert mask_extent((n,), (width,), threshold) == (max(above, 1),)


def test_unit_gain(key):
    w = 7 * jax.random.normal(key, (5, 4, 3, 6))
    scaled = w * unit_gain(w)
    np.testing.assert_allclose((scaled**2).sum((0, 1, 2)).mean(), 1, rtol=1e-5)


AT = np.zeros((3, 2))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: gaussian_mask(AT, jnp.ones(1)),
            r"^gaussian_mask: .* = \(2,\); got width \(1,\), cen",
        ),
        (lambda: gaussian_mask(AT, jnp.ones(2), jnp.ones(3)), r"centre \(3,\), at \(3, 2\)"),
        (
            lambda: mask_extent((3,), (1.0,), 1.0),
            "^mask_extent: threshold .*between 0 and 1; got 1.0",
        ),
        (lambda: siren(AT, [], frequency=1.0), r"^siren: layers must be .*; got \[\]"),
        (
            lambda: siren(AT, linears([3, 4]), frequency=1.0),
            r"^siren: layers .*got \[\(\(3, 4\), \(4,\)",
        ),
        (
            lambda: magnet(AT, [], []),
            "^magnet: there must be as many layers as gabors, one or more",
        ),
        (lambda: magnet(AT, gabors(2, 3, 2), linears([3, 3])), "^magnet: there must .*, 1 layers"),
        (lambda: magnet(AT, gabors(1, 3, 1), linears([3, 3])), "^magnet: there must be as many"),
        (lambda: magnet(AT, gabors(2, 3, 1), linears([4, 3])), "^magnet: layers must be w"),
    ],
)
def test_says_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call()
