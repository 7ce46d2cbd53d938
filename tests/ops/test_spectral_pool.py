"""jconv.ops.spectral_pool against its Fourier series, and a planted stride that is found again."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jconv.ops.spectral_pool import spectral_pool, spectral_size
from tests.oracles import learnable_fields as oracle
from tests.tolerance import assert_close

# x, stride, size, smoothness
CASES = {
    "even_to_even": ((2, 8, 6, 2), None, (4, 2), 4.0),
    "odd_to_odd": ((1, 9, 7, 2), None, (5, 3), 4.0),
    "even_to_odd": ((1, 8, 6, 1), None, (3, 5), 4.0),
    "odd_to_even": ((1, 9, 7, 1), None, (4, 6), 4.0),
    "same_size": ((1, 6, 5, 2), None, (6, 5), 4.0),
    "one_pixel": ((1, 6, 5, 2), None, (1, 1), 4.0),
    "masked": ((2, 16, 12, 2), (2.3, 1.9), (13, 9), 2.5),
    "masked_all_held": ((1, 16, 12, 1), (3.1, 2.0), (16, 12), 1.5),
    "mask_cut_off": ((1, 16, 12, 1), (2.0, 1.5), (5, 4), 4.0),
    "below_the_least_stride": ((1, 16, 12, 1), (0.5, 1.0), (16, 12), 3.0),
    "above_the_largest": ((1, 16, 12, 1), (40.0, 7.0), (5, 5), 1.0),
    "ramp_wider_than_the_image": ((1, 6, 5, 1), (2.0, 2.0), (5, 5), 9.0),
    "one_axis": ((3, 11, 2), (2.2,), (7,), 1.0),
    "three_axes": ((1, 4, 6, 5, 1), (2.0, 1.5, 1.3), (3, 5, 5), 1.0),
}
each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def image(shape, dtype=np.float32):
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), dtype)


@each_case
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_matches_definition(case, dtype):
    shape, stride, size, smoothness = case
    x = image(shape, dtype)
    f = jax.jit(functools.partial(spectral_pool, size=size, smoothness=smoothness))
    y = f(x, None if stride is None else jnp.asarray(stride, jnp.float32))
    expected = oracle.spectral_pool(x, stride, size, smoothness)
    assert y.dtype == dtype
    assert_close(y, expected, terms=4 * sum(shape[1:-1]))


@pytest.mark.parametrize(("name", "order"), [("masked", 1), ("mask_cut_off", 1), ("one_axis", 2)])
def test_gradients(name, order, x64):
    shape, stride, size, smoothness = CASES[name]
    f = jax.jit(functools.partial(spectral_pool, size=size, smoothness=smoothness))
    operands = (image(shape, np.float64), jnp.asarray(stride))
    check_grads(f, operands, order, modes=["fwd", "rev"], eps=1e-4, rtol=1e-6, atol=1e-6)


def test_is_numpys_cropped_spectrum(x64):
    """Odd sizes, where a crop needs no care for the last frequency."""
    x = image((1, 15, 11, 1), np.float64)
    spectrum = np.fft.fftshift(np.fft.fft2(x[0, :, :, 0]))
    cropped = np.fft.ifftshift(spectrum[3:12, 3:8])
    expected = np.fft.ifft2(cropped).real * (9 * 5) / (15 * 11)
    np.testing.assert_allclose(
        spectral_pool(x, size=(9, 5))[0, :, :, 0], expected, rtol=1e-10, atol=1e-12
    )


def test_a_wave_stays_a_wave(x64):
    """Two cycles on 16 pixels are two on 6; five are too many for them."""
    slow, fast = (
        jnp.asarray(np.cos(2 * np.pi * f * np.arange(16) / 16)).reshape(1, 16, 1) for f in (2, 5)
    )
    expected = np.cos(2 * np.pi * 2 * np.arange(6) / 6).reshape(1, 6, 1)
    np.testing.assert_allclose(spectral_pool(slow + fast, size=6), expected, atol=1e-12)


@pytest.mark.parametrize("stride", [1.0, 1.7, 2.0, 3.3, 100.0])
@pytest.mark.parametrize("n", [5, 16, 31, 32])
@pytest.mark.parametrize("smoothness", [0.5, 4.0])
def test_the_size_cuts_nothing(n, stride, smoothness, x64):
    """All that the mask lets through is held: the power is that of the whole image's masked one."""
    x = image((1, n, 1), np.float64)
    (size,) = spectral_size((n,), stride, smoothness=smoothness)
    small = spectral_pool(x, stride, smoothness=smoothness)
    whole = spectral_pool(x, stride, size=n, smoothness=smoothness)
    assert small.shape == (1, size, 1)
    np.testing.assert_allclose((small**2).mean(), (whole**2).mean(), rtol=1e-10)
    np.testing.assert_allclose(small.mean(), x.mean(), rtol=1e-9, atol=1e-12)


def test_the_size_of_an_array():
    """32 pixels by 2, four frequencies of ramp: |f| < 8 + 4."""
    assert spectral_size((32, 32), 2.0) == (23, 23)
    assert spectral_size((32, 16), (3.0, 2.0), smoothness=1.0) == (13, 9)
    x = image((1, 32, 16, 1))
    assert spectral_pool(x, (3.0, 2.0), smoothness=1.0).shape == (1, 13, 9, 1)
    grads = jax.grad(lambda s: (spectral_pool(x, s) ** 2).sum())(jnp.array([2.0, 2.0]))
    assert (grads < 0).all()


@pytest.mark.parametrize("planted", [1.6, 4.5])
def test_recovers_a_planted_stride(planted, key):
    """From 2.5, by the power that passes: with a fixed size, in one compiled program."""
    x = jax.random.normal(key, (8, 32, 2))
    y = spectral_pool(x, planted, size=32)

    @jax.jit
    def step(stride, velocity):
        loss = lambda s: ((spectral_pool(x, s, size=32) - y) ** 2).mean()  # noqa: E731
        velocity = 0.8 * velocity + jax.grad(loss)(stride)
        return stride - 3.0 * velocity, velocity

    stride, velocity = jnp.asarray(2.5), jnp.asarray(0.0)
    for _ in range(400):
        stride, velocity = step(stride, velocity)
    assert abs(float(stride) - planted) < 0.01


def test_a_stride_outside_comes_back(key):
    """Below the least, at which the mask is flat, the gradient is that of the least."""
    x = jax.random.normal(key, (4, 16, 1))
    loss = lambda s: (spectral_pool(x, s, size=16) ** 2).sum()  # noqa: E731
    np.testing.assert_allclose(loss(0.7), loss(16 / 12), rtol=1e-6)
    assert jax.grad(loss)(0.7) < 0


X = jnp.zeros((1, 8, 8, 1))


@pytest.mark.parametrize(
    ("x", "stride", "options", "message"),
    [
        (X[0, 0], 2.0, {}, r"x must be floating point \(N, \*spatial, C\).*got x \(8, 1\)"),
        (X.astype(int), 2.0, {}, r"got x \(1, 8, 8, 1\) of int32"),
        (X[:, :0], 2.0, {}, r"none empty; got x \(1, 0, 8, 1\)"),
        (X, None, {}, "stride or size must be given; got neither"),
        (X, jnp.ones(3), {}, r"each of 2 spatial axes; got stride \(3,\)"),
        (X, jnp.ones((1, 2)), {}, r"got stride \(1, 2\)"),
        (
            X,
            None,
            {"size": 9},
            r"size must not exceed the image; got size=\(9, 9\), x \(1, 8, 8, 1\)",
        ),
        (X, None, {"size": 0}, "size must be at least 1"),
        (X, 2.0, {"smoothness": 0.0}, "smoothness must be a positive number; got 0.0"),
        (X, 2.0, {"smoothness": "x"}, "smoothness must be a positive number; got 'x'"),
    ],
)
def test_says_what_is_wrong(x, stride, options, message):
    with pytest.raises(ValueError, match=f"^spectral_pool: .*{message}"):
        spectral_pool(x, stride, **options)


@pytest.mark.parametrize("stride", [(1.0, 2.0, 3.0), -1.0, 0.0, float("nan")])
def test_size_says_what_is_wrong(stride):
    with pytest.raises(
        ValueError, match=r"^spectral_size: stride must be a positive number or one"
    ):
        spectral_size((8, 8), stride)


@pytest.mark.parametrize("transform", [jax.jit, jax.vmap], ids=["jit", "vmap"])
def test_a_traced_stride_needs_a_size(transform):
    with pytest.raises(
        ValueError, match=r"^spectral_pool: size must be given where stride is traced"
    ):
        transform(lambda s: spectral_pool(X, s))(jnp.ones(2))


def test_unknown_spatial_axes():
    (n,) = jax.export.symbolic_shape("n")
    shape = jax.ShapeDtypeStruct((1, n, 8, 1), jnp.float32)
    with pytest.raises(ValueError, match=r"^spectral_pool: spatial axes must be known"):
        jax.export.export(jax.jit(lambda x: spectral_pool(x, size=2)))(shape)
