"""Measures of fields against loops over pixels, fields that are known, and intervals."""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jconv import receptive_field as rf
from tests.often import cases
from tests.oracles import effective_field as oracle

FIELDS = {
    "odd": np.random.default_rng(0).uniform(size=(7, 9)),
    "even": np.random.default_rng(1).uniform(size=(6, 10)),
    "line": np.random.default_rng(2).uniform(size=(8,)),
    "box": np.random.default_rng(3).uniform(size=(3, 4, 5)),
    "peaked": oracle.gaussian((15, 14), 3.0, np.array([6.2, 7.1]), np.diag([4.0, 2.0])),
}
each_field = pytest.mark.parametrize("field", FIELDS.values(), ids=FIELDS)


@each_field
def test_moments_and_radius(field, x64):
    centre, covariance = rf.moments(field)
    expected = oracle.moments(field)
    np.testing.assert_allclose(centre, expected[0], rtol=1e-12)
    np.testing.assert_allclose(covariance, expected[1], rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(rf.radius(field), oracle.radius(field, expected[0]), rtol=1e-12)
    middle = [n // 2 for n in field.shape]
    np.testing.assert_allclose(
        rf.radius(field, centre=middle), oracle.radius(field, middle), rtol=1e-12
    )


@each_field
@pytest.mark.parametrize("share", [0.9545, 0.5, 0.0])
def test_area(field, share, x64):
    assert float(rf.area(field, share)) == oracle.area(field, share, field.max())
    assert float(rf.area(field, share, peak=0.5)) == oracle.area(field, share, 0.5)


@each_field
@pytest.mark.parametrize("log", [False, True])
def test_area_ratios(field, log, x64):
    shares = (0.01, 0.2, 0.3, 0.5, 0.99)
    found = rf.area_ratios(field, shares, log=log)
    for i, share in enumerate(shares):
        side, ratio = oracle.area_ratio(field, share, log)
        assert found.side[i] == side
        np.testing.assert_allclose(found.ratio[i], ratio, rtol=1e-12)


def test_area_ratios_and_scale(x64):
    """Without the logarithm the scale of the gradients is without effect, with it it is not."""
    field = FIELDS["peaked"]
    np.testing.assert_array_equal(rf.area_ratios(field).side, rf.area_ratios(1e4 * field).side)
    log = [rf.area_ratios(scale * field, log=True).side for scale in (1.0, 1e4)]
    assert (log[1] > log[0]).any()


def test_area_ratios_about_another_pixel(x64):
    field = np.zeros((9, 9))
    field[1, 7] = 1.0
    assert rf.area_ratios(field, (0.5,), centre=(1, 7)).side[0] == 1
    assert rf.area_ratios(field, (0.5,)).side[0] == 7
    assert rf.area_ratios(np.ones((2, 5)), (0.99,)).ratio[0] == 1


@pytest.mark.parametrize("method", ["moments", "least_squares"])
def test_a_gaussian_is_found_again(method, x64):
    covariance = np.array([[9.0, 2.0], [2.0, 4.0]])
    field = oracle.gaussian((41, 41), 2.5, np.array([20.3, 19.1]), covariance)
    fit = rf.gaussian_fit(field, method=method)
    np.testing.assert_allclose(fit.centre, [20.3, 19.1], atol=1e-6)
    np.testing.assert_allclose(fit.covariance, covariance, atol=1e-5)
    np.testing.assert_allclose(fit.sigma, [3, 2], atol=1e-5)
    np.testing.assert_allclose(fit.amplitude, 2.5, rtol=1e-6)
    assert fit.explained > 1 - 1e-9


def test_a_floor_of_noise(key):
    """It draws the moments to the whole image, least squares hardly."""
    field = oracle.gaussian((61, 61), 1.0, np.array([30.0, 30.0]), np.eye(2) * 16)
    noisy = jnp.asarray(field, jnp.float32) + 0.02 * jax.random.uniform(key, field.shape)
    assert rf.gaussian_fit(noisy).sigma.min() > 8
    np.testing.assert_allclose(
        rf.gaussian_fit(noisy, method="least_squares").sigma, [4, 4], rtol=0.06
    )


def test_a_field_cut_off_by_its_border():
    """Least squares see the Gaussian beyond the image; moments are those of what is left of it."""
    field = jnp.asarray(oracle.gaussian((21, 21), 1.0, np.array([10.0, 10.0]), np.eye(2) * 64))
    np.testing.assert_allclose(
        rf.gaussian_fit(field, method="least_squares").sigma, [8, 8], rtol=1e-3
    )
    assert rf.gaussian_fit(field).sigma.max() < 6


def test_the_side_of_a_gaussian():
    """4.41 sigma: the root of pi * 2 log(1 / 0.0455)."""
    field = rf.gaussian_field((81, 81), 8.0)
    assert abs(math.sqrt(rf.area(field)) / 8 - math.sqrt(2 * math.pi * math.log(1 / 0.0455))) < 0.05
    np.testing.assert_allclose(field.sum(), 1, rtol=1e-5)
    np.testing.assert_allclose(rf.radius(field), 8, rtol=1e-4)
    moved = rf.gaussian_field((21, 31), (1.0, 2.0), centre=(8.0, 20.0))
    fit = rf.gaussian_fit(moved)
    np.testing.assert_allclose(fit.centre, [8, 20], rtol=1e-4)
    np.testing.assert_allclose(fit.sigma, [1, 2], rtol=1e-3)


MEASURES = {
    "radius": rf.radius,
    "about": lambda f: rf.radius(f, centre=(1.0, 1.0)),
    "covariance": lambda f: rf.moments(f)[1],
    "sigma": lambda f: rf.gaussian_fit(f).sigma,
    "radius_loss": lambda f: rf.radius_loss(f, 1.7),
    "shape_loss": lambda f: rf.shape_loss(f, rf.gaussian_field(f.shape, 1.2)),
}


@pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
def test_gradients(measure, x64):
    check_grads(jax.jit(measure), (jnp.asarray(FIELDS["odd"]),), 1, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("measure", cases(MEASURES, {"about", "radius_loss", "shape_loss"}))
def test_gradients_of_second_order(measure, x64):
    """On six pixels; steps of 1e-5, for the differences' own error goes with their square."""
    field = jnp.asarray(FIELDS["odd"][:2, :3])
    check_grads(jax.jit(measure), (field,), 2, eps=1e-5, rtol=1e-6, atol=1e-6)


def test_measures_of_many_fields():
    fields = jnp.asarray(np.stack([FIELDS["odd"], FIELDS["odd"][::-1] ** 2]), jnp.float32)
    for measure in (rf.radius, rf.gaussian_fit, rf.area, rf.area_ratios):
        mapped = jax.jit(jax.vmap(measure))(fields)
        for n in range(2):
            for a, e in zip(
                jax.tree.leaves(mapped), jax.tree.leaves(measure(fields[n])), strict=True
            ):
                np.testing.assert_allclose(a[n], e, rtol=1e-4)


def test_narrow_dtypes():
    field = jnp.asarray(FIELDS["odd"], jnp.bfloat16)
    for measure in (rf.radius, rf.area, lambda f: rf.area_ratios(f).ratio):
        assert measure(field).dtype == jnp.float32


def test_bootstrap_of_a_mean(key):
    """The interval of the mean of 400 numbers of deviation 1 is +- 1.96 / 20 about it."""
    maps = 5 + jax.random.normal(key, (400, 1))
    found = rf.bootstrap(lambda field: {"mean": field.sum()}, maps, key=key, samples=2000)
    np.testing.assert_allclose(found.value["mean"], maps.mean(), rtol=1e-6)
    np.testing.assert_allclose(found.high["mean"] - found.low["mean"], 2 * 1.96 / 20, rtol=0.1)
    assert found.low["mean"] < found.value["mean"] < found.high["mean"]
    narrow = rf.bootstrap(jnp.sum, maps, key=key, level=0.5)
    np.testing.assert_allclose(narrow.high - narrow.low, 2 * 0.674 / 20, rtol=0.15)


def test_bootstrap_covers_the_truth(key):
    """Of 200 intervals of 90 % for a radius, made of 30 inputs each, about 180 hold it."""
    true = np.array([1.0, 4.0, 9.0, 4.0, 1.0])

    @functools.partial(jnp.vectorize, signature="()->()")
    def holds(seed):
        maps_key, draw_key = jax.random.split(jax.random.fold_in(key, seed))
        maps = jax.random.exponential(maps_key, (30, 5)) * jnp.asarray(true, jnp.float32)
        found = rf.bootstrap(rf.radius, maps, key=draw_key, samples=200, level=0.9, chunk=200)
        return (found.low < expected) & (expected < found.high)

    expected = jnp.float32(oracle.radius(true, [2.0]))
    share = holds(jnp.arange(200)).mean()
    assert 0.8 < share < 0.97


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: rf.moments(jnp.ones((3, 0))),
            r"^moments: a field must be .*got \(3, 0\) of float32",
        ),
        (lambda: rf.radius(jnp.ones(())), r"^radius: a field must be floating point .*got \(\)"),
        (lambda: rf.radius(jnp.ones((3, 3), int)), r"^radius: a field must .* of int32"),
        (
            lambda: rf.radius(jnp.ones((3, 3)), centre=(1.0,)),
            r"^radius: centre .*got centre \(1,\), f",
        ),
        (
            lambda: rf.gaussian_fit(jnp.ones(3), method="mle"),
            "^gaussian_fit: method must be .*'mle'",
        ),
        (lambda: rf.gaussian_fit(jnp.ones(0)), "^gaussian_fit: a field must be"),
        (lambda: rf.area(jnp.ones(3), 1.5), "^area: share must be between 0 and 1; got share=1.5"),
        (lambda: rf.area(jnp.ones(3, int)), "^area: a field must be"),
        (
            lambda: rf.area_ratios(jnp.ones(3), (0.5, 1.0)),
            r"^area_ratios: shares .*got \(0.5, 1.0\)",
        ),
        (
            lambda: rf.area_ratios(jnp.ones(3), centre=(3,)),
            r"^area_ratios: centre .*got centre=\(3,\)",
        ),
        (
            lambda: rf.area_ratios(jnp.ones(3), centre=(1, 1)),
            r"^area_ratios: centre must be a pixel",
        ),
        (lambda: rf.area_ratios(jnp.ones(())), "^area_ratios: a field must be"),
        (lambda: rf.gaussian_field((), 1.0), r"^gaussian_field: a field must be .*got \(\)"),
        (lambda: rf.gaussian_field((3, 3), (1.0,)), r"^gaussian_field: sigma .*got sigma \(1,\)"),
        (
            lambda: rf.gaussian_field((3,), 1.0, centre=(1, 1)),
            "^gaussian_field: centre must be one",
        ),
        (
            lambda: rf.bootstrap(jnp.sum, jnp.ones((1, 3)), key=jax.random.key(0)),
            r"^bootstrap: maps .*3\)",
        ),
        (
            lambda: rf.bootstrap(jnp.sum, jnp.ones((2, 3)), key=jax.random.key(0), level=1.0),
            "^bootstrap: level must be between 0 and 1; got level=1.0",
        ),
        (
            lambda: rf.bootstrap(jnp.sum, jnp.ones((2, 3)), key=jax.random.key(0), samples=0),
            "^bootstrap: samples must be at least 1",
        ),
        (lambda: rf.radius_loss(jnp.ones(()), 1.0), "^radius: a field must be"),
        (
            lambda: rf.shape_loss(jnp.ones(3), jnp.ones(4)),
            r"^shape_loss: .*field \(3,\), target \(4,\)",
        ),
    ],
)
def test_says_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call()
