"""Pictures of receptive fields, pixel by pixel on tiny images."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from jconv.visualize import (
    colorize,
    encode_png,
    field_heat_map,
    field_heat_maps,
    field_on_image,
    field_overlay,
    growth_chart,
)

FIELD = np.array([[0.0, 1.0, 0.1], [2.0, 0.002, np.nan]])
GREY = np.full((6, 8), 100, np.uint8)


def test_heat_map():
    """From nothing to the largest; what is not finite is nothing."""
    expected = colorize(np.array([[0, 0.5, 0.05], [1, 0.001, 0]]))
    np.testing.assert_array_equal(field_heat_map(FIELD, side=3), expected)
    large = field_heat_map(FIELD, side=6)
    np.testing.assert_array_equal(large, expected.repeat(2, 0).repeat(2, 1))
    assert large.dtype == np.uint8
    np.testing.assert_array_equal(
        field_heat_map(np.zeros((2, 2)), side=2), colorize(np.zeros((2, 2)))
    )


def test_heat_map_of_logarithms():
    """Three decades: a thousandth is dark, and a tenth is two thirds."""
    field = np.array([[1.0, 0.1, 0.001, 1e-5, 0.0]])
    expected = colorize(np.array([[1, 2 / 3, 0, 0, 0]]))
    np.testing.assert_array_equal(field_heat_map(field, side=5, decades=3), expected)


def test_heat_maps_stand_in_order():
    fields = {"a": np.eye(2), "b": np.ones((2, 2))}
    grid = field_heat_maps(fields, side=2)
    assert grid.shape == (2, 2 + 6 + 2, 4)
    np.testing.assert_array_equal(grid[:, :2, :3], colorize(np.eye(2)))
    np.testing.assert_array_equal(grid[:, 8:, :3], colorize(np.ones((2, 2))))
    with pytest.raises(ValueError, match=r"^field_heat_map: a field is \(H, W\).* in 'b'$"):
        field_heat_maps({"a": np.eye(2), "b": np.ones(3)})


def test_field_on_image():
    lit = field_on_image(
        np.full((1, 3), 200, np.uint8), np.array([[4.0, 1.0, 0.0]]), side=3, floor=0.5
    )
    np.testing.assert_array_equal(lit[0, :, 0], [200, 150, 100])
    assert lit.shape == (1, 3, 3)
    color = np.random.default_rng(0).integers(0, 256, (2, 2, 3), np.uint8)
    np.testing.assert_array_equal(field_on_image(color, np.ones((2, 2)), side=2), color)


@pytest.mark.parametrize(
    ("centre", "size", "rows", "columns"),
    [
        ((2, 3), 3, (1, 4), (2, 5)),
        ((2.5, 3.5), (2, 4), (2, 4), (2, 6)),
        ((0, 7), 5, (0, 3), (5, 8)),
        ((2, 3), 99, (0, 6), (0, 8)),
    ],
)
def test_overlay_of_a_box(centre, size, rows, columns):
    """A field of three pixels about pixel 2 covers pixels 1 to 3; its outline lies within it."""
    drawn = field_overlay(GREY, centre, size, side=80, dim=0.5, color=(255, 0, 0))
    scale = 10
    assert drawn.shape == (60, 80, 3)
    field = np.zeros((60, 80), bool)
    field[rows[0] * scale : rows[1] * scale, columns[0] * scale : columns[1] * scale] = True
    np.testing.assert_array_equal((drawn == 50).all(-1), ~field)
    red = (drawn == (255, 0, 0)).all(-1)
    assert (field | ~red).all()
    if size != 99:
        assert red.any()
        assert (drawn[field & ~red] == 100).all()


def test_overlay_of_an_ellipse_and_stride():
    drawn = field_overlay(GREY, (2.5, 3.5), (6, 8), shape="ellipse", stride=2, side=80, dim=0.0)
    dark = (drawn == 0).all(-1)
    assert abs(1 - dark.mean() - np.pi / 4) < 0.01
    assert dark[0, 0]
    assert tuple(drawn[20, 40]) == (250, 240, 214)  # on the upper side of the two pixels' square
    assert (drawn[25, 40] == 100).all()


def test_overlays_are_png():
    drawn = field_overlay(np.random.default_rng(0).normal(size=(5, 5, 4)), (2, 2), 3)
    with Image.open(io.BytesIO(encode_png(drawn))) as image:
        np.testing.assert_array_equal(np.asarray(image), drawn)


def test_growth():
    svg = growth_chart({"theory": [3, 5, 7], "measured": {"conv1": 2.1, "conv2": 3.0}})
    assert svg.startswith("<svg")
    assert "theory 7" in svg
    assert "measured 3" in svg


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: field_heat_map(np.ones(3)), r"^field_heat_map: a field is \(H, W\); got \(3,\)"),
        (lambda: field_heat_map(np.ones((0, 3))), r"^field_heat_map: a field is .*got \(0, 3\)"),
        (
            lambda: field_heat_map(FIELD, decades=-1),
            "^field_heat_map: decades must be at least 0; got",
        ),
        (
            lambda: field_on_image(GREY, FIELD),
            r"^field_on_image: .*got image \(6, 8\), field \(2, 3\)",
        ),
        (lambda: field_on_image(FIELD, FIELD, floor=2), "^field_on_image: floor .*; got floor=2"),
        (
            lambda: field_overlay(GREY, (1, 1), 3, shape="disc"),
            "^field_overlay: shape .*got shape='disc'",
        ),
        (lambda: field_overlay(GREY, (1, 1), 3, dim=-1), "^field_overlay: dim must .*got dim=-1"),
        (lambda: field_overlay(GREY, 1, 3), "^field_overlay: centre must be .*got centre=1"),
        (lambda: field_overlay(GREY, (1, 1), (3, 3, 3)), "^field_overlay: size must be one number"),
        (
            lambda: field_overlay(GREY, (1, 1), 0),
            "^field_overlay: size must be positive; got size=0",
        ),
    ],
)
def test_says_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call()
