"""Gradient maps against differences, and the fields that they are known to give."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jconv
from jconv import models
from jconv import receptive_field as rf
from tests.oracles import effective_field as oracle


def two_layers(w1, w2):
    def fn(x):
        h = jnp.tanh(jconv.conv(x, w1, stride=2, padding=1))
        return {"h": h, "y": jconv.conv(h, w2)}

    return fn


def weights(dtype=np.float32):
    random = np.random.default_rng(0)
    return [jnp.asarray(random.normal(size=s), dtype) for s in ((3, 3, 2, 3), (3, 3, 3, 2))]


MAGNITUDES = {
    "abs": np.abs,
    "square": np.square,
    "relu": lambda g: np.maximum(g, 0),
    "signed": lambda g: g,
}


@pytest.mark.parametrize("magnitude", MAGNITUDES)
@pytest.mark.parametrize(
    ("unit", "channel", "place"),
    [(None, None, (3, 2)), ((0, 4), 1, (0, 4)), (jnp.array([5, 1]), None, (5, 1))],
    ids=["centre", "one_channel", "traced"],
)
def test_matches_differences(magnitude, unit, channel, place, x64):
    fn = two_layers(*weights(np.float64))
    x = jnp.asarray(np.random.default_rng(1).normal(size=(2, 12, 10, 2)))
    maps = rf.gradient_maps(fn, x, unit=unit, channel=channel, magnitude=magnitude)
    forward = jax.jit(fn)
    for name in ("h", "y"):
        for n in range(2):

            def value(image, name=name):
                numbers = forward(jnp.asarray(image[None]))[name][(0, *place)]
                return float(numbers.sum() if channel is None else numbers[channel])

            g = oracle.differences(value, x[n])
            np.testing.assert_allclose(
                maps[name][n], MAGNITUDES[magnitude](g).sum(-1), rtol=1e-6, atol=1e-7
            )


@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 100])
def test_chunks_change_nothing(chunk, key):
    """Not even the last one, which is filled up."""
    fn, x = two_layers(*weights()), jax.random.normal(key, (5, 9, 8, 2))
    expected = rf.gradient_maps(fn, x, chunk=5)
    maps = rf.gradient_maps(fn, x, chunk=chunk)
    for name in ("h", "y"):
        assert maps[name].shape == (5, 9, 8)
        np.testing.assert_allclose(maps[name], expected[name], rtol=1e-5, atol=1e-6)


def test_examples_dont_meet(key):
    """Batch statistics are those of one example, whatever stands beside it."""

    def fn(x):
        return jconv.batch_norm(x, jnp.ones(2), jnp.zeros(2))[0]

    x = jax.random.normal(key, (3, 5, 4, 2))
    alone = jnp.concatenate([rf.gradient_maps(fn, x[n : n + 1]) for n in range(3)])
    np.testing.assert_allclose(rf.gradient_maps(fn, x), alone, rtol=1e-5, atol=1e-6)


def test_memory_is_that_of_a_chunk(key):
    """Of 64 examples no array of the program holds the features of more than one chunk."""
    w = jnp.ones((3, 3, 1, 7))
    x = jax.random.normal(key, (64, 11, 13, 1))
    jaxpr = str(
        jax.make_jaxpr(lambda x: rf.gradient_maps(lambda x: jconv.conv(x, w), x, chunk=4))(x)
    )
    assert "f32[4,11,13,7]" in jaxpr.replace("f32[4,1,11,13,7]", "f32[4,11,13,7]")
    assert "f32[64,11,13,7]" not in jaxpr
    assert "f32[64,1,11,13,7]" not in jaxpr


def test_one_and_three_axes(key):
    line = rf.gradient_maps(
        lambda x: jconv.conv(x, jnp.ones((3, 1, 1))), jax.random.normal(key, (1, 7, 1))
    )
    np.testing.assert_array_equal(line, [[0, 0, 1, 1, 1, 0, 0]])
    box = rf.gradient_maps(
        lambda x: jconv.conv(x, jnp.ones((3, 1, 1, 1, 1))), jnp.ones((1, 5, 3, 3, 1))
    )
    assert box.shape == (1, 5, 3, 3)
    np.testing.assert_array_equal(box[0, :, 1, 1], [0, 1, 1, 1, 0])
    assert box.sum() == 3


def test_what_has_no_place_is_the_sum_of_its_channels(key):
    x = jax.random.normal(key, (2, 4, 4, 3))
    maps = rf.gradient_maps(lambda x: x.mean((1, 2)), x)
    np.testing.assert_allclose(maps, jnp.full((2, 4, 4), 3 / 16), rtol=1e-6)


def test_units_of_each_endpoint(key):
    """A pytree of units where the outputs differ in size."""

    def fn(x):
        return {"fine": x, "coarse": x[:, ::4, ::4], "none": x.sum((1, 2))}

    x = jax.random.normal(key, (1, 8, 8, 1))
    maps = rf.gradient_maps(fn, x, unit={"fine": (7, 0), "coarse": (1, 0), "none": None})
    assert maps["fine"][0, 7, 0] == 1
    assert maps["coarse"][0, 4, 0] == 1
    assert maps["fine"].sum() == maps["coarse"].sum() == 1
    assert maps["none"].sum() == 64


def test_low_precision(key):
    fn, x = two_layers(*weights(jnp.bfloat16)), jax.random.normal(key, (1, 8, 8, 2), jnp.bfloat16)
    maps = rf.gradient_maps(fn, x)["y"]
    assert maps.dtype == jnp.float32
    exact = rf.gradient_maps(two_layers(*weights()), x.astype(jnp.float32))["y"]
    np.testing.assert_allclose(maps, exact, atol=0.05 * float(exact.max()))


@pytest.mark.parametrize("taps", [3, 5])
@pytest.mark.parametrize("layers", [5, 10, 20, 40])
def test_uniform_chains_have_the_sigma_of_the_theory(layers, taps, x64):
    """sigma = sqrt(n (k^2 - 1) / 12), Luo et al. 2016: exact, whatever the number of layers."""
    if layers * taps > 130:
        pytest.skip("one chain of 161 pixels, of three taps, is enough")
    size = layers * (taps - 1) + 1
    w = jnp.full((taps, taps, 1, 1), 1 / taps**2)

    def fn(x):
        for _ in range(layers):
            x = jconv.conv(x, w, padding="VALID")
        return x

    field = rf.gradient_maps(fn, jnp.ones((1, size, size, 1)))[0]
    line = oracle.uniform_chain(layers, taps)
    np.testing.assert_allclose(field, np.outer(line, line), rtol=1e-10, atol=1e-20)
    theory = math.sqrt(layers * (taps**2 - 1) / 12)
    np.testing.assert_allclose(rf.gaussian_fit(field).sigma, [theory, theory], rtol=1e-9)
    np.testing.assert_allclose(rf.radius(field), theory, rtol=1e-9)
    near = rf.gaussian_fit(field, method="least_squares")
    # A sum of n uniform numbers has the excess of -1.5 / n (three taps), or -1.3 / n (five): to
    # first order in it the nearest Gaussian is wider by an eighth of that.
    np.testing.assert_allclose(near.sigma / theory, 1 + 1.4 / 8 / layers, rtol=0.1 / layers)
    assert near.explained > rf.gaussian_fit(field).explained > 0.98


def test_slope_of_growth(x64):
    """The root of the number of layers: a slope of 1/2 between the logarithms."""
    layers = [5, 10, 20, 40]
    fields = [jnp.asarray(oracle.uniform_chain(n, 3)) for n in layers]
    sigmas = [float(rf.radius(field)) for field in fields]
    slope = np.polyfit(np.log(layers), np.log(sigmas), 1)[0]
    assert abs(slope - 0.5) < 1e-9
    areas = [float(rf.area(jnp.outer(field, field))) for field in fields]
    assert abs(np.polyfit(np.log(layers), np.log(areas), 1)[0] / 2 - 0.5) < 0.03


def test_every_endpoint_of_a_network(key):
    """Each block sees further than the one before it; the features and logits see everything."""
    model = models.ConvNet((4, 8), input_shape=(16, 16, 1), rngs=nnx.Rngs(0))
    model.eval()
    maps = rf.gradient_maps(model.endpoints, jax.random.normal(key, (4, 16, 16, 1)))
    radii = {name: float(rf.radius(m.mean(0))) for name, m in maps.items()}
    assert radii.keys() == {"block1", "block2", "features", "logits"}
    assert radii["block1"] < radii["block2"] < radii["features"]
    assert (np.asarray(maps["block1"]) > 0).sum((1, 2)).max() == 9


def test_weights_that_changed_are_seen(key):
    """No program of earlier weights is used again, though `model.endpoints` is the same."""
    model = models.SimpleCNN(input_shape=(8, 8, 1), rngs=nnx.Rngs(0))
    model.eval()
    x = jax.random.normal(key, (1, 8, 8, 1))
    before = rf.gradient_maps(model, x)
    nnx.update(model, jax.tree.map(lambda a: 2 * a, nnx.state(model, nnx.Param)))
    assert not np.allclose(before, rf.gradient_maps(model, x))


def test_one_program_for_all_weights(key):
    """In a jit of one's own, with parameters as arguments."""
    count = 0

    @jax.jit
    def field(w, x):
        nonlocal count
        count += 1
        return rf.gradient_maps(lambda x: jconv.conv(x, w), x).mean(0)

    x = jnp.ones((3, 5, 5, 1))
    for scale in (1.0, 2.0):
        assert field(jnp.full((3, 3, 1, 1), scale), x).max() == scale
    assert count == 1


X = jnp.ones((2, 4, 4, 1))


@pytest.mark.parametrize(
    ("fn", "x", "options", "message"),
    [
        (
            abs,
            X[0, 0],
            {},
            r"x must be floating point \(N, \*spatial, C\).*got x \(4, 1\) of float32",
        ),
        (abs, X.astype(int), {}, r"got x \(2, 4, 4, 1\) of int32"),
        (abs, X[:0], {}, r"none empty; got x \(0, 4, 4, 1\)"),
        (
            abs,
            X,
            {"magnitude": "rms"},
            "magnitude must be one of abs, square, relu, signed; got 'rms'",
        ),
        (abs, X, {"unit": (1,)}, r"inside of the output; got unit=\(1,\), fn\(x\) \(1, 4, 4, 1\)"),
        (abs, X, {"unit": (1, 4)}, r"inside of the output; got unit=\(1, 4\)"),
        (abs, X, {"unit": (-1, 0)}, r"inside of the output; got unit=\(-1, 0\)"),
        (lambda x: {"a": x}, X, {"unit": {"b": (0, 0)}}, "a pytree of such with the structure"),
        (abs, X, {"channel": 1}, "channel must be one of K=1; got channel=1"),
        (lambda x: {"a": x.sum()}, X, {}, r"got \['a'\] \(\) of float32 for N=1"),
        (lambda x: x > 0, X, {}, r"fn must return floating point .*of bool for N=1"),
        (abs, X, {"chunk": 0}, "chunk must be at least 1; got chunk=0"),
    ],
)
def test_says_what_is_wrong(fn, x, options, message):
    with pytest.raises(ValueError, match=f"^gradient_maps: .*{message}"):
        rf.gradient_maps(fn, x, **options)
