"""Charts as files: SVG that stands alone, and pixels in the right places and colours."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from jconv.visualize import chart_image, line_chart, svg_file
from jconv.visualize.chart_file import chart_style
from jconv.visualize.line_chart import BOTTOM, HEIGHT, LEFT, TOP, WIDTH

SERIES = {"a": [(1.0, 0.0), (2.0, 10.0)], "b": [(1.0, 10.0), (2.0, 10.0)]}
CHART = line_chart(SERIES, title="t <&>", x_label="step")


def rgb(name):
    """A colour of the light page."""
    text = re.search(rf"--{name}: #(\w{{6}});", chart_style())[1]
    return tuple(bytes.fromhex(text))


def columns_of(image, color):
    return np.flatnonzero((image == color).all(-1).any(0))


def rows_of(image, color):
    return np.flatnonzero((image == color).all(-1).any(1))


def test_svg_file_stands_alone():
    root = ET.fromstring(svg_file(CHART))
    space = "{http://www.w3.org/2000/svg}"
    assert root.tag == f"{space}svg"
    assert root.attrib["aria-label"].startswith("t <&>: ")
    style = root.find(f"{space}style").text
    for element in root.iter():
        for name in (element.get("class") or "").split():
            assert name in ("chart", "tick", "axis") or f".{name}" in style, name
    names = set(re.findall(r"var\((--\w+)\)", style))
    assert names <= set(re.findall(r"(--\w+):", style))


@pytest.mark.parametrize("scale", [1, 3])
def test_pixels(scale):
    """Series a climbs from the bottom left of the plot to its top right, b stays at the top."""
    image = chart_image(CHART, scale=scale)
    assert image.shape == (HEIGHT * scale, WIDTH * scale, 3)
    assert image.dtype == np.uint8
    assert tuple(image[0, 0]) == (255, 255, 255)
    plot = image[:, : int(300 * scale)]  # left of the labels
    climbing, flat = rgb("c0"), rgb("c1")
    assert abs(columns_of(plot, climbing)[0] - LEFT * scale) <= 3 * scale
    assert abs(rows_of(plot, climbing)[-1] - (HEIGHT - BOTTOM) * scale) <= 3 * scale
    assert abs(rows_of(plot, flat).mean() - TOP * scale) <= 2 * scale
    middle = image[:, int(150 * scale) : int(151 * scale)]
    assert rows_of(middle, climbing).mean() > rows_of(middle, flat).mean() + 20 * scale
    assert (image == rgb("rule")).all(-1).any()
    assert (image[int((HEIGHT - 20) * scale) :] != 255).any()  # the axis has its name


def test_a_line_that_is_interrupted():
    chart = line_chart(
        {"a": [(0.0, 1.0), (1.0, 1.0), (2.0, float("nan")), (3.0, 1.0), (4.0, 1.0)]},
        title="t",
        x_label="x",
    )
    image = chart_image(chart, scale=1)
    drawn = columns_of(image[: int(HEIGHT - BOTTOM), : int(WIDTH) - 125], rgb("c0"))
    assert np.diff(drawn).max() > 100


def test_points_of_a_long_line_are_not_drawn():
    """They show on hover alone, which a picture has not."""
    dots = line_chart({"a": [(float(i), 0.0) for i in range(5)]}, title="t", x_label="x")
    many = line_chart({"a": [(float(i), 0.0) for i in range(50)]}, title="t", x_label="x")
    thick, thin = (
        rows_of(chart_image(chart, scale=1)[:, : int(WIDTH) - 125], rgb("c0"))
        for chart in (dots, many)
    )
    assert len(thick) > len(thin) == 2
