"""Augmentation: exact pixels for the drawn offsets, each image on its own, the same when jitted."""

import collections
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jconv.data.augment import (
    PADDING_MODES,
    compose,
    cutout,
    normalize,
    random_crop,
    random_flip,
    random_shift,
    to_float,
)
from tests.data.builders import random_images

IMAGES = random_images(6, 7, 5, 2)
MANY = 2000

FUNCTIONS = {
    "random_crop": partial(random_crop, padding=2),
    "random_flip": random_flip,
    "random_shift": partial(random_shift, max_pixels=2),
    "cutout": partial(cutout, size=3),
    "compose": compose(partial(random_crop, padding=1), random_flip),
}
each_function = pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)


@each_function
@pytest.mark.parametrize("dtype", ["uint8", "float32", "bfloat16"])
def test_keeps_shape_and_dtype_and_equals_its_jitted_form(function, dtype, key):
    images = jnp.asarray(IMAGES).astype(dtype)
    plain = function(key, images)
    assert (plain.shape, plain.dtype) == (images.shape, images.dtype)
    np.testing.assert_array_equal(plain, jax.jit(function)(key, images))


@each_function
def test_the_key_decides_and_numpy_images_do(function, key):
    images = np.repeat(IMAGES[:1], 64, 0)
    first, again = function(key, images), function(key, images)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, function(jax.random.key(1), images))
    np.testing.assert_array_equal(function(jax.random.PRNGKey(0), images), first)


@each_function
def test_each_image_is_changed_in_its_own_way(function, key):
    changed = np.asarray(function(key, np.repeat(IMAGES[:1], 64, 0)))
    assert len({image.tobytes() for image in changed}) > 1
    # What happens to one image does not depend on its neighbours.
    others = np.repeat(IMAGES[:1], 64, 0)
    others[1::2] = 0
    np.testing.assert_array_equal(np.asarray(function(key, others))[::2], changed[::2])


def windows(images, pad, mode):
    """Every window by its corner: slow and plain."""
    height, width = images.shape[1:3]
    padded = np.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)), mode)
    return {
        (i, j): padded[:, i : i + height, j : j + width]
        for i in range(2 * pad + 1)
        for j in range(2 * pad + 1)
    }


def which(images, candidates):
    """For each image the candidates that it equals."""
    return [
        [name for name, made in candidates.items() if np.array_equal(image, made[n])]
        for n, image in enumerate(images)
    ]


@pytest.mark.parametrize("mode", PADDING_MODES)
def test_crops_are_windows_all_equally_likely(mode, key):
    images = np.repeat(IMAGES[:1], MANY, 0)
    cropped = np.asarray(random_crop(key, images, padding=2, padding_mode=mode))
    found = which(cropped, windows(images, 2, PADDING_MODES[mode]))
    assert {len(names) for names in found} == {1}
    corners = [names[0] for names in found]
    counts = np.unique(corners, axis=0, return_counts=True)[1]
    # 25 windows, 80 times each; 5 standard deviations either way.
    assert len(counts) == 25
    assert abs(counts - 80).max() < 5 * np.sqrt(80)


def test_the_corners_are_those_of_the_key(key):
    # The offsets of one image, drawn as the function draws them, checked pixel by pixel.
    corners = np.asarray(jax.random.randint(key, (6, 2), 0, 5))
    padded = np.pad(IMAGES, ((0, 0), (2, 2), (2, 2), (0, 0)))
    cropped = np.asarray(random_crop(key, IMAGES, padding=2))
    for n, (row, column) in enumerate(corners):
        for i, j in np.ndindex(7, 5):
            np.testing.assert_array_equal(cropped[n, i, j], padded[n, row + i, column + j])


def test_no_padding_is_no_change(key):
    np.testing.assert_array_equal(random_crop(key, IMAGES, padding=0), IMAGES)
    np.testing.assert_array_equal(random_shift(key, IMAGES, 0), IMAGES)
    np.testing.assert_array_equal(cutout(key, IMAGES, 0), IMAGES)
    np.testing.assert_array_equal(compose()(key, IMAGES), IMAGES)


def test_shifts_bring_in_the_fill(key):
    images = np.repeat(IMAGES[:1], MANY, 0)
    shifted = np.asarray(random_shift(key, images, 1, fill=9))
    made = {}
    for i, j in np.ndindex(3, 3):
        made[i, j] = np.full_like(images, 9)
        padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=9)
        made[i, j] = padded[:, i : i + 7, j : j + 5]
    found = which(shifted, made)
    assert {len(names) for names in found} == {1}
    counts = np.unique([names[0] for names in found], axis=0, return_counts=True)[1]
    assert len(counts) == 9
    assert abs(counts - MANY / 9).max() < 5 * np.sqrt(MANY / 9)


@pytest.mark.parametrize("probability", [0.0, 0.25, 0.5, 1.0])
def test_flips_as_often_as_asked(probability, key):
    images = np.repeat(IMAGES[:1], MANY, 0)
    flipped = np.asarray(random_flip(key, images, probability))
    mirrored = (flipped == images[:, :, ::-1]).all((1, 2, 3))
    untouched = (flipped == images).all((1, 2, 3))
    assert (mirrored ^ untouched).all()
    deviation = np.sqrt(MANY * probability * (1 - probability))
    assert abs(mirrored.sum() - MANY * probability) <= 5 * deviation


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_cutout_is_a_square_about_a_pixel(size, key):
    images = np.full((MANY, 7, 5, 2), 200, np.uint8)
    cut = np.asarray(cutout(key, images, size, fill=7))
    centres = collections.Counter()  # what an image may look like, and how many pixels make it so
    for i, j in np.ndindex(7, 5):
        image = images[0].copy()
        rows = slice(max(0, i - size // 2), i - size // 2 + size)
        columns = slice(max(0, j - size // 2), j - size // 2 + size)
        image[rows, columns] = 7
        centres[image.tobytes()] += 1
    found = collections.Counter(image.tobytes() for image in cut)
    assert found.keys() == centres.keys()
    for look, count in centres.items():
        expected = MANY * count / 35
        assert abs(found[look] - expected) < 5 * np.sqrt(expected)


def test_cutout_fills_every_channel(key):
    cut = np.asarray(cutout(key, np.ones((20, 6, 6, 3), np.float32), 3, fill=-0.5))
    hole = cut == -0.5
    np.testing.assert_array_equal(hole.any(-1), hole.all(-1))
    assert hole.any((1, 2, 3)).all()


def test_compose_gives_each_function_a_key_of_its_own(key):
    first, second = jax.random.split(key, 2)
    crop, flip = partial(random_crop, padding=2), random_flip
    expected = flip(second, crop(first, IMAGES))
    np.testing.assert_array_equal(compose(crop, flip)(key, IMAGES), expected)


def test_to_float_and_normalize():
    np.testing.assert_allclose(to_float(IMAGES), IMAGES / 255, rtol=1e-6)
    assert to_float(IMAGES).dtype == jnp.float32
    half = jnp.ones((1, 2, 2, 1), jnp.bfloat16)
    assert to_float(half) is half
    mean, std = (0.25, 0.5), (0.5, 0.2)
    expected = (IMAGES / 255 - np.array(mean)) / np.array(std)
    for images in (IMAGES, (IMAGES / 255).astype(np.float32)):
        for function in (normalize, jax.jit(normalize, static_argnums=(1, 2))):
            actual = function(images, mean, std)
            np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)
            assert actual.dtype == jnp.float32
    assert normalize(half, (0.5,), (0.5,)).dtype == jnp.bfloat16


BAD_CALLS = {
    "no_key": (
        lambda key: random_crop(None, IMAGES),
        "random_crop: key must be one PRNG key.* None",
    ),
    "seed_for_key": (
        lambda key: random_flip(0, IMAGES),
        "random_flip: key must be one PRNG key.* int",
    ),
    "two_keys": (
        lambda key: cutout(jax.random.split(key), IMAGES, 2),
        r"cutout: key must be one PRNG key.* \(2,\)",
    ),
    "one_image": (lambda key: random_flip(key, IMAGES[0]), r"images must be .* uint8\[7, 5, 2\]"),
    "integers": (
        lambda key: random_flip(key, IMAGES.astype(np.int32)),
        "uint8 from 0 to 255 or floating point; got int32",
    ),
    "no_array": (lambda key: random_flip(key, [1]), "got list"),
    "negative": (
        lambda key: random_crop(key, IMAGES, -1),
        "padding must be a whole number of pixels",
    ),
    "half": (lambda key: random_shift(key, IMAGES, 1.5), "max_pixels must be a whole number"),
    "wide": (
        lambda key: random_crop(key, IMAGES, 6),
        "padding 6 exceeds the 5 pixels that 'zeros' allows; got images N=6 H=7 W=5 C=2",
    ),
    "wide_reflection": (
        lambda key: random_crop(key, IMAGES, 5, "reflect"),
        "padding 5 exceeds the 4 pixels that 'reflect' allows",
    ),
    "mode": (
        lambda key: random_crop(key, IMAGES, 1, "mirror"),
        "padding_mode must be one of zeros, reflect, replicate, circular; got 'mirror'",
    ),
    "far": (
        lambda key: random_shift(key, IMAGES, 6),
        "max_pixels 6 exceeds the image; got images N=6",
    ),
    "large": (lambda key: cutout(key, IMAGES, 6), "size 6 exceeds the image"),
    "fill": (lambda key: cutout(key, IMAGES, 2, fill=0.5), "fill must be a whole number, 0 to 255"),
    "fill_range": (
        lambda key: random_shift(key, IMAGES, 2, fill=-1),
        "fill must be a whole number",
    ),
    "probability": (
        lambda key: random_flip(key, IMAGES, 1.1),
        "probability must be 0 to 1; got 1.1",
    ),
    "called_already": (lambda key: compose(random_flip(key, IMAGES)), "expected functions of"),
    "channels": (
        lambda key: normalize(IMAGES, (0.5,), (0.5,)),
        r"must have 2 numbers, one per channel; got \(1,\) and \(1,\), images N=6",
    ),
    "std": (lambda key: normalize(IMAGES, (0.5, 0.5), (0.5, 0.0)), "std must be positive"),
    "nan": (lambda key: normalize(IMAGES, (np.nan, 0.5), (0.5, 0.5)), "both finite"),
}


@pytest.mark.parametrize("dtype", ["int32", "int64", "int16", "uint16", "int8", "bool"])
@pytest.mark.parametrize("function", [to_float, lambda x: normalize(x, (0.5, 0.5), (1.0, 1.0))])
def test_says_that_the_range_of_other_dtypes_is_not_known(function, dtype):
    message = rf"uint8 from 0 to 255 or floating point; got {dtype}\[6, 7, 5, 2\]"
    with pytest.raises(ValueError, match=message):
        function(IMAGES.astype(dtype))


@pytest.mark.parametrize(("call", "message"), BAD_CALLS.values(), ids=BAD_CALLS)
def test_says_what_is_wrong(call, message, key):
    with pytest.raises(ValueError, match=message):
        call(key)
