"""What a network sees, as a section and as files."""

from __future__ import annotations

import dataclasses
import io
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from jconv.visualize import Fields, Report, field_files, render_report
from jconv.visualize.units import MOST, units_on_image
from tests.visualize.test_report import FIELDS, Page


def page(fields):
    return Page(render_report(Report("t", fields=fields)))


def said(fields):
    return " ".join(page(fields).texts)


def test_says_what_it_holds():
    text = said(FIELDS)
    for part in (
        "effective radius", "2.31 (2.20 to 2.43)", "layer2: reads all by fft.",
        "as a mean over test images (32)", "layer2 at 1, 2", "rows -3 to 4, columns 0 to 7",
        "sigma is 2.0 pixels up and down and 1.5 from side to side",
    ):  # fmt: skip
        assert part in text, part


def test_pictures_say_what_they_show():
    shown = page(FIELDS)
    assert len(shown.all("img")) == 2 + 3
    assert [attrs["alt"] for attrs in shown.all("img")][:2] == [
        "Effective field of conv1",
        "Effective field of layer2",
    ]
    assert len(shown.all("svg")) == 2 + 1
    assert "theoretical ends at 8" in shown.all("svg")[0]["aria-label"]


def test_why_there_is_nothing():
    assert page(Fields(missing="It sees <all>.")).texts.count("It sees <all>.") == 1
    assert page(None).all("section") == []


def test_a_unit_that_sees_nothing_has_no_outline():
    nothing = [None, None, None]
    unit = dataclasses.replace(FIELDS.unit, rows=nothing, centre=None, sigma=None)
    fields = dataclasses.replace(FIELDS, unit=unit)
    assert len(page(fields).all("img")) == 2 + 1
    assert len(page(fields).all("svg")) == 2
    assert "unit_theoretical.png" not in field_files(fields)


def test_files():
    files = field_files(FIELDS)
    charts = [f"growth_by_{depth}.{kind}" for depth in FIELDS.growth for kind in ("svg", "png")]
    units = ["unit_theoretical.png", "unit_two_sigma.png", "unit_effective.png"]
    assert list(files) == [*charts, "heat_maps.png", *units]
    for name, content in files.items():
        if name.endswith(".svg"):
            assert content.startswith(b"<svg xmlns=")
            continue
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            assert min(image.size) > 100


def test_the_overlay_is_where_the_field_is():
    """Rows -3 to 4 and columns 0 to 7 of 8 x 8 pixels: the lower three rows are darkened."""
    unit = dataclasses.replace(FIELDS.unit, image=np.full((8, 8), 200, np.uint8))
    with Image.open(io.BytesIO(field_files(Fields(unit=unit))["unit_theoretical.png"])) as image:
        pixels = np.asarray(image)
    scale = len(pixels) // 8
    assert (pixels[5 * scale :] == 70).all()
    assert (pixels[2 * scale, 2 * scale] == 200).all()


def test_units_to_point_at():
    """Two rows and one column of units on 4 x 8 pixels: cells share the image, boxes are clipped to
    a quarter of it beyond each side."""
    svg = units_on_image(np.zeros((4, 8)), [(-9, 1), (2, 3)], [(1, 4)], given=(1, 0), name="<e>")
    root = ET.fromstring(svg)
    assert root.attrib["viewBox"] == "-2 -1 12 6"
    assert root.attrib["aria-label"] == "Fields of the units of <e> on the image"
    groups = root.findall("g")
    assert [group.get("class") for group in groups] == ["unit", "unit given"]
    assert groups[0].find("title").text == "<e> at 0, 0: rows -9 to 1, columns 1 to 4"
    places = [
        [float(rect.get(name)) for name in ("x", "y", "width", "height")]
        for rect in root.iter("rect")
    ]
    assert places == [[0, 0, 8, 2], [1, -1, 4, 3], [0, 2, 8, 2], [1, 2, 4, 2]]
    assert root.find("image").get("href").startswith("data:image/png;base64,")


def test_of_many_units_some_can_be_pointed_at():
    spans = [(i, i) for i in range(100)]
    svg = units_on_image(np.zeros((100, 100)), spans, [None, (0, 1)], given=(50, 1), name="e")
    rows = [int(re.match(r"e at (\d+), 1", t.text)[1]) for t in ET.fromstring(svg).iter("title")]
    assert MOST <= len(rows) <= MOST + 1
    assert {0, 50, 99} <= set(rows)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (Fields(maps={"a": np.ones(3)}), r"field_heat_map: a field is \(H, W\); got \(3,\)"),
        (
            Fields(unit=dataclasses.replace(FIELDS.unit, effective=np.ones((3, 3)))),
            "field_on_image: image and field must have the same pixels",
        ),
    ],
)
def test_says_what_does_not_fit(fields, message):
    with pytest.raises(ValueError, match=message):
        render_report(Report("t", fields=fields))
