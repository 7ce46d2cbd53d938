"""Learning curves and the confusion matrix: the numbers by hand, the drawings as XML."""

from __future__ import annotations

import math
import re
import sys
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from jconv.visualize import (
    confusion_matrix,
    confusion_svg,
    learning_curves,
    line_chart,
    metric_series,
    most_confused,
    precision,
    recall,
)
from jconv.visualize.curves import not_finite
from jconv.visualize.line_chart import BOTTOM, HEIGHT, LETTER, WIDTH, _spread, ticks

NAN = float("nan")


def test_rows_of_a_metrics_file():
    history = [
        {"kind": "train", "step": 10, "loss": 2.0, "learning_rate": 0.1, "seconds": 3.0},
        {"kind": "eval", "step": 10, "loss": 2.5, "accuracy": 0.5},
        {"kind": "train", "step": 20, "loss": np.float32(1.0), "note": "text", "done": True},
    ]
    assert metric_series(history) == {
        "loss": {"train": [(10, 2.0), (20, 1.0)], "eval": [(10, 2.5)]},
        "accuracy": {"eval": [(10, 0.5)]},
        "learning_rate": {"train": [(10, 0.1)]},
    }


def test_rows_with_the_split_in_the_key():
    history = [
        {
            "epoch": 1,
            "step": 9,
            "train_loss": 2.0,
            "test/loss": 3.0,
            "valid_accuracy": 0.1,
            "error": 0.9,
        }
    ]
    assert metric_series(history) == {
        "loss": {"train": [(1, 2.0)], "test": [(1, 3.0)]},
        "accuracy": {"valid": [(1, 0.1)]},
        "error": {"train": [(1, 0.9)]},
    }
    assert metric_series([{"loss": 1.0}, {"loss": 2.0}]) == {
        "loss": {"train": [(1, 1.0), (2, 2.0)]}
    }
    assert metric_series([]) == {}


@pytest.mark.parametrize("step", [None, "ten", 10**400])
def test_a_step_that_is_no_number_is_the_number_of_its_row(step):
    history = [{"step": 5, "loss": 2.0}, {"step": step, "loss": 1.0}]
    assert metric_series(history) == {"loss": {"train": [(5, 2.0), (2, 1.0)]}}
    assert list(learning_curves(history)) == ["loss"]


def test_metrics_without_a_finite_value_have_no_curve():
    history = [
        {"epoch": 1, "loss": NAN, "accuracy": 0.1},
        {"epoch": 2, "loss": math.inf, "accuracy": 0.2},
    ]
    assert list(learning_curves(history)) == ["accuracy"]
    assert not_finite(history) == {"loss": 2}


def texts(svg, kind):
    return [e.text for e in ET.fromstring(svg).iter("text") if kind in e.get("class").split()]


def test_chart_says_values_on_hover_and_at_the_end():
    svg = line_chart(
        {"train": [(1, 0.5), (2, 0.25)]}, title="accuracy", x_label="epoch", percent=True
    )
    root = ET.fromstring(svg)
    assert [e.text for e in root.iter("title")] == ["train 50 %, epoch 1", "train 25 %, epoch 2"]
    assert texts(svg, "end") == ["train 25 %"]
    assert root.get("aria-label") == "accuracy: train ends at 25 %"
    assert texts(svg, "tick")[:2] == ["25 %", "30 %"]


def test_nan_interrupts_the_line():
    points = [(1, 1.0), (2, 2.0), (3, NAN), (4, 2.0), (5, 1.0)]
    root = ET.fromstring(line_chart({"train": points}, title="loss", x_label="epoch"))
    path = root.find("path").get("d")
    assert (path.count("M"), path.count("L")) == (2, 2)


def test_chart_stays_in_its_frame():
    rng = np.random.default_rng(0)
    points = list(zip(range(5000), rng.normal(size=5000).tolist(), strict=True))
    root = ET.fromstring(line_chart({"train": points}, title="loss", x_label="step"))
    circles = [(float(e.get("cx")), float(e.get("cy"))) for e in root.iter("circle")]
    assert len(circles) <= 2 * 60
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in circles)
    assert len(root.find("path").get("d")) < 10_000


@pytest.mark.parametrize("value", [0.0, 1.0, -3.5, 1e-12, 1e30])
def test_one_point_has_a_chart(value):
    ET.fromstring(line_chart({"train": [(1, value)]}, title="loss", x_label="epoch"))


MAX, LEAST = sys.float_info.max, math.ulp(0.0)
EXTREMES = {
    "range_beyond_float64": [-1e308, 1e308],
    "the_largest": [-MAX, MAX, 0.0],
    "one_largest": [MAX],
    "denormal": [0.0, LEAST],
    "below_the_least_power_of_ten": [-3e-310, 0.0, 1e-309],
    "neighbours": [1.0, math.nextafter(1.0, 2.0)],
    "mixed": [2.3, 1e308, LEAST],
    "with_nan_and_inf": [NAN, 1.0, math.inf, -MAX, -math.inf],
}


@pytest.mark.parametrize("values", EXTREMES.values(), ids=EXTREMES)
@pytest.mark.parametrize("percent", [False, True])
def test_extreme_values_have_a_chart(values, percent):
    for points in (enumerate(values), ((x, n) for n, x in enumerate(values))):
        svg = line_chart({"train": list(points)}, title="loss", x_label="step", percent=percent)
        places = [
            (float(e.get("cx")), float(e.get("cy"))) for e in ET.fromstring(svg).iter("circle")
        ]
        assert places
        assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in places)
        assert max(len(text) for text in texts(svg, "tick")) < 20


def test_a_range_beyond_float64_fills_the_plot():
    svg = line_chart({"train": [(0, -1e308), (1, 1e308)]}, title="loss", x_label="step")
    (low, *_, high) = [float(e.get("cy")) for e in ET.fromstring(svg).iter("circle")]
    assert low - high > 200
    assert texts(svg, "tick")[:5] == ["-1e+308", "-5e+307", "0", "5e+307", "1e+308"]


ENDS = {
    "one_line_is_longer": {"train": [(0, 0.1), (90, 0.98)], "eval": [(50, 0.97), (100, 0.981)]},
    "one_stops_early": {"train": [(0, 2.0), (10, 1.0)], "eval": [(0, 1.0), (100, 1.0)]},
    "both_at_the_bottom": {"train": [(0, 9.0), (90, 0.0)], "eval": [(0, 8.0), (100, 0.01)]},
    "one_point": {"train": [(5, 1.0)], "eval": [(5, 1.0)]},
    "many": {f"split {i}": [(0, 1.0), (i + 1, 0.5)] for i in range(20)},
    "long_name": {"n" * 200: [(0, 1.0), (1, 2.0)]},
}


@pytest.mark.parametrize("series", ENDS.values(), ids=ENDS)
def test_labels_lie_beyond_every_curve_and_apart(series):
    root = ET.fromstring(line_chart(series, title="accuracy", x_label="step", percent=True))
    labels = [e for e in root.iter("text") if "end" in e.get("class").split()]
    numbers = (re.findall(r"[\d.]+", e.get("d"))[::2] for e in root.iter("path"))
    last_x = max(float(x) for own in numbers for x in own)
    assert len(labels) == len(series)
    for label in labels:
        x = float(label.get("x"))
        assert x >= last_x + 6  # the mark at the end has a radius of 2.6, or 4.5 under the pointer
        assert x + LETTER * len(label.text) <= WIDTH + 0.1
    heights = sorted(float(label.get("y")) for label in labels)
    assert min(np.diff(heights), default=16) >= min(15.9, 240 / len(series))
    assert heights[0] > 0
    assert heights[-1] <= HEIGHT - BOTTOM + 4.1


def test_chart_needs_a_point():
    with pytest.raises(ValueError, match="line_chart: loss has no finite point; got train"):
        line_chart({"train": [(1, NAN)]}, title="loss", x_label="epoch")


def test_hostile_names_are_text():
    svg = line_chart({"<b>&\"'": [(1, 1.0)]}, title='"><script>', x_label="<x>")
    assert ET.fromstring(svg).find("script") is None
    assert texts(svg, "end") == ["<b>&\"' 1"]


@pytest.mark.parametrize(
    ("low", "high"),
    [(0, 1), (0.1, 0.13), (-5, 1234), (3, 3), (0, 0), (1e-9, 2e-9), (-1e308, 1e308), (0, 5e-324)],
)
def test_ticks_are_round_and_cover_the_range(low, high):
    found = ticks(low, high, 5)
    assert found[0] <= low + 1e-12
    assert found[-1] >= high - 1e-12
    assert 2 <= len(found) <= 9
    step = found[-1] / (len(found) - 1) - found[0] / (len(found) - 1)
    assert f"{step:.0e}"[0] in "125"


def test_labels_do_not_touch():
    moved = _spread([100.0, 101.0, 50.0, 102.0], 16)
    assert sorted(np.diff(sorted(moved)).round(6).tolist())[:2] == [16, 16]
    bottom = HEIGHT - BOTTOM
    assert _spread([bottom, bottom, 20.0, bottom], 16) == [bottom - 32, bottom - 16, 20, bottom]


COUNTS = np.array([[3, 1, 0], [0, 4, 2], [0, 0, 0]])


def test_confusion_by_hand():
    true, predicted = [0, 0, 0, 0, 1, 1, 1, 1, 1, 1], [0, 0, 0, 1, 1, 1, 1, 1, 2, 2]
    np.testing.assert_array_equal(confusion_matrix(np.array(true), np.array(predicted), 3), COUNTS)
    assert most_confused(COUNTS) == [(1, 2, 2, 2 / 6), (0, 1, 1, 1 / 4)]
    assert most_confused(COUNTS, 1) == [(1, 2, 2, 2 / 6)]
    np.testing.assert_allclose(recall(COUNTS), [0.75, 4 / 6, NAN])
    np.testing.assert_allclose(precision(COUNTS), [1, 0.8, 0])


@pytest.mark.parametrize(
    ("true", "predicted", "message"),
    [
        ([0, 1], [0], r"one length; got true \(2,\), predicted \(1,\)"),
        ([0, 3], [0, 1], r"labels of 3 classes lie in 0..2; got true from 0 to 3"),
        ([0, 1], [-1, 1], r"got predicted from -1 to 1"),
    ],
)
def test_confusion_says_what_is_wrong(true, predicted, message):
    with pytest.raises(ValueError, match=message):
        confusion_matrix(np.array(true), np.array(predicted), 3)


def test_confusion_drawing():
    root = ET.fromstring(confusion_svg(COUNTS, ["a", "<i>", "c" * 40]))
    hovers = [e.text for e in root.iter("title")]
    assert len(hovers) == 9
    assert hovers[5] == f"2 of class <i> taken for {'c' * 40}, 33.3 % of the class"
    assert [e.get("class") for e in root.iter("rect")] == [
        "right",
        "wrong",
        "empty",
        "empty",
        "right",
        "wrong",
        "empty",
        "empty",
        "empty",
    ]
    assert "c" * 13 + "…" in [e.text for e in root.iter("text")]
    arabic = ET.fromstring(confusion_svg(COUNTS, ["قطة", "b", "c"]))
    assert next(e.text for e in arabic.iter("title")).startswith("3 of class \u2068قطة\u2069 recog")
    with pytest.raises(ValueError, match=r"2 classes need as many rows and columns; got \(3, 3\)"):
        confusion_svg(COUNTS, ["a", "b"])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_numbers_can_be_read_on_every_cell(scheme):
    """WCAG's contrast of 4.5 between the text and the cell, whatever the share."""
    from importlib.resources import files

    colors = {}
    for name in ("charts.css", "report.css"):
        css = files("jconv.visualize").joinpath(name).read_text()
        block = css.split(":root {")[1 if scheme == "light" else 2].split("}")[0]
        colors |= dict(line.strip().rstrip(";").split(": ") for line in block.strip().splitlines())
    paper, ink, strong = (_rgb(colors[name]) for name in ("--paper", "--ink", "--strong"))
    for count in range(1, 101):
        for counts in ([[count, 100 - count], [0, 0]], [[100 - count, count], [0, 0]]):
            root = ET.fromstring(confusion_svg(np.array(counts), ["a", "b"]))
            for group in root.iter("g"):
                rect, number = group.find("rect"), group.find("text")
                if number is None:
                    continue
                fill = _rgb(colors["--c0" if rect.get("class") == "right" else "--c1"])
                opacity = float(rect.get("fill-opacity"))
                cell = opacity * fill + (1 - opacity) * paper
                text = strong if "strong" in number.get("class") else ink
                assert _contrast(text, cell) >= 4.5, (counts, rect.attrib)


def _rgb(text):
    return np.array([int(text[i : i + 2], 16) for i in (1, 3, 5)], float)


def _contrast(a, b):
    """Contrast ratio of two sRGB colours 0..255, as WCAG 2.1 defines it."""

    def luminance(rgb):
        c = rgb / 255
        linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
        return linear @ [0.2126, 0.7152, 0.0722]

    low, high = sorted([luminance(a), luminance(b)])
    return (high + 0.05) / (low + 0.05)
