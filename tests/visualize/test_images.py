"""Grids of images, filters and feature maps, pixel by pixel on tiny arrays, and PNG files read
back."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest

from jconv.visualize import (
    colorize,
    data_uri,
    displayable,
    encode_png,
    enlarge,
    feature_map_grid,
    feature_maps,
    filter_grid,
    image_grid,
)


def read_png(data):
    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        assert image.format == "PNG"
        return np.asarray(image)


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 1), (4, 5, 3), (4, 5, 4)])
def test_png_keeps_every_pixel(shape):
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    np.testing.assert_array_equal(read_png(encode_png(image)), image.squeeze())
    head, body = data_uri(image).split(",")
    assert head == "data:image/png;base64"
    assert base64.b64decode(body) == encode_png(image)


@pytest.mark.parametrize(
    "image", [np.zeros((4, 5, 2), np.uint8), np.zeros((4, 5)), np.zeros(4, np.uint8)], ids=str
)
def test_png_says_what_an_image_is(image):
    with pytest.raises(ValueError, match=rf"C of 1, 3 or 4; got {image.dtype} \({image.shape[0]},"):
        encode_png(image)


def test_png_refuses_an_image_without_pixels():
    with pytest.raises(ValueError, match=r"has pixels; got uint8 \(0, 5\)"):
        encode_png(np.zeros((0, 5), np.uint8))


def test_displayable_keeps_bytes_and_stretches_the_rest():
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    np.testing.assert_array_equal(displayable(image), image)
    np.testing.assert_array_equal(
        displayable(np.array([[-1.0, 0.0], [np.nan, 3.0]])).squeeze(), [[0, 64], [0, 255]]
    )
    assert displayable(np.full((2, 2), 7.0)).tolist() == [[[128], [128]], [[128], [128]]]
    huge = np.array([[-3e38, 3e38]], np.float32)
    assert displayable(huge).ravel().tolist() == [0, 255]


def test_displayable_shows_the_mean_of_many_channels():
    image = np.stack([np.full((2, 2), v, np.uint8) for v in (0, 100, 200, 100, 100)], -1)
    assert displayable(image).shape == (2, 2, 1)
    assert (displayable(image) == 100).all()
    assert displayable(np.zeros((2, 2, 2), np.uint8)).shape == (2, 2, 1)


def test_grid_places_images_and_leaves_gaps_transparent():
    images = [np.full((2, 3), value, np.uint8) for value in (10, 20, 30)]
    grid = image_grid(images, columns=2, gap=1, scale=2)
    assert grid.shape == (2 * 4 + 1, 2 * 6 + 1, 4)
    assert grid[0, 0].tolist() == [10, 10, 10, 255]
    assert grid[0, 7].tolist() == [20, 20, 20, 255]
    assert grid[5, 0].tolist() == [30, 30, 30, 255]
    assert not grid[4].any()
    assert not grid[:, 6].any()
    assert not grid[5:, 7:].any()


def test_grid_is_square_unless_told():
    assert image_grid(np.zeros((9, 2, 2), np.uint8), gap=0).shape[:2] == (6, 6)
    assert image_grid(np.zeros((2, 2, 2), np.uint8), gap=0, columns=9).shape[:2] == (2, 4)


@pytest.mark.parametrize(
    ("images", "columns", "message"),
    [
        ([], None, "one or more images of one size; got none"),
        ([np.zeros((2, 2)), np.zeros((3, 2))], None, r"got \[\(2, 2\), \(3, 2\)\]"),
        ([np.zeros((2, 2))], 0, "at least one column; got columns=0"),
        ([np.zeros(2)], None, r"an image is \(H, W\) or \(H, W, C\); got \(2,\)"),
    ],
)
def test_grid_says_what_is_wrong(images, columns, message):
    with pytest.raises(ValueError, match=message):
        image_grid(images, columns=columns)


def test_enlarge():
    assert enlarge(np.array([[1, 2]]), 2).tolist() == [[1, 1, 2, 2], [1, 1, 2, 2]]


def test_colours_grow_lighter():
    ramp = colorize(np.linspace(0, 1, 50)).astype(float) @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(ramp) > 0).all()
    assert colorize(np.array([-1.0, 2.0])).tolist() == colorize(np.array([0.0, 1.0])).tolist()


def test_filters_are_scaled_one_by_one_around_grey():
    kernel = np.zeros((1, 2, 1, 2), np.float32)
    kernel[0, :, 0, 0] = [1.0, -0.5]
    kernel[0, :, 0, 1] = [0.0, 0.01]
    grid = filter_grid(kernel, side=2, gap=0, columns=2)
    assert grid[0, :, 0].tolist() == [255, 64, 128, 255]


def test_filters_of_three_channels_are_colour_images():
    kernel = np.zeros((2, 2, 3, 5), np.float32)
    kernel[..., 0, 0] = 1
    grid = filter_grid(kernel, side=2, gap=0, columns=5)
    assert grid.shape == (2, 10, 4)
    assert grid[0, 0].tolist() == [255, 128, 128, 255]
    assert grid[0, 2].tolist() == [128, 128, 128, 255]  # a filter of zeros


def test_filters_of_many_channels_are_rows():
    kernel = np.zeros((1, 1, 8, 3), np.float32)
    kernel[0, 0, 5, 2] = 1
    grid = filter_grid(kernel, side=1, gap=0)
    assert grid.shape == (3, 8, 4)
    assert grid[2, 5, 0] == 255
    assert filter_grid(kernel, side=1, gap=0, limit=17).shape == (2, 8, 4)
    assert filter_grid(np.zeros((1, 1, 200, 3)), side=1, gap=0, limit=5).shape == (1, 5, 4)


@pytest.mark.parametrize("shape", [(3, 3, 8), (3, 3, 1, 0)])
def test_filters_say_what_a_kernel_is(shape):
    with pytest.raises(ValueError, match=r"a kernel is \(R, S, C, K\); got \(3, 3"):
        filter_grid(np.zeros(shape))


def test_feature_maps_show_those_that_vary_most():
    maps = np.zeros((2, 2, 5), np.float32)
    maps[0, 0, 1], maps[0, 0, 4] = 1, 5
    grid = feature_map_grid(maps, limit=2, side=2, gap=0)
    light, dark = colorize(np.array([1.0, 0.0])).tolist()
    assert grid.shape == (2, 4, 4)
    assert grid[0, 0, :3].tolist() == grid[0, 2, :3].tolist() == light
    assert grid[1, 0, :3].tolist() == dark


def test_feature_maps_of_any_size():
    assert feature_map_grid(np.ones((1, 1, 3))).shape == (64, 3 * 64 + 2 * 6, 4)
    assert max(feature_map_grid(np.ones((500, 300, 1))).shape) <= 128
    assert feature_map_grid(np.full((2, 2, 20), np.nan)).shape[2] == 4
    strips = feature_maps({"fc": np.arange(10.0), "wide": np.arange(4096.0)})
    assert list(strips) == ["fc", "wide"]
    assert strips["wide"].shape[1] <= 600


def test_feature_maps_name_the_layer_that_is_no_image():
    with pytest.raises(
        ValueError, match=r"\(H, W, C\) or \(C,\) of one image; got \(1, 2, 2, 3\) in 'stem'"
    ):
        feature_maps({"stem": np.zeros((1, 2, 2, 3))})
