"""The report: valid, self-contained and safe HTML for every kind of run; drawn without errors in a
browser."""

from __future__ import annotations

import base64
import dataclasses
import html
import html.parser
import io
import json
import re
import shutil
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jconv.summary import summarize
from jconv.visualize import (
    Fields,
    Report,
    UnitOnImage,
    WrongImage,
    render_report,
    write_report,
)

HOSTILE = "<script>alert(1)</script>\"'&\x00\ud800\u202e"
LONG = "b" * 200
ARABIC = "قطة سوداء"
RNG = np.random.default_rng(0)


def image(*shape):
    return RNG.integers(0, 256, shape, np.uint8)


def rows(epochs):
    kinds = ("train", "eval")
    return [
        {"kind": k, "epoch": e, "loss": 1 / e, "accuracy": 1 - 1 / (e + 1)}
        for e in range(1, epochs + 1)
        for k in kinds
    ]


def summary():
    model = nnx.Sequential(
        nnx.Linear(4, 8, rngs=nnx.Rngs(0)), nnx.relu, nnx.Linear(8, 3, rngs=nnx.Rngs(0))
    )
    return summarize(model, jax.ShapeDtypeStruct((1, 4), jnp.float32))


FIELDS = Fields(
    columns={
        "endpoint": ["conv1", "layer2"],
        "size": ["3", "8"],
        "stride": ["1", "2"],
        "effective radius": ["–", "2.31 (2.20 to 2.43)"],
    },
    remarks=["layer2: reads all by fft."],
    growth={
        "endpoint": {
            "theoretical": {"conv1": 3, "layer2": 8},
            "effective": {"conv1": float("nan"), "layer2": 9.2},
        },
        "layer": {"theoretical": [3, 5, 8]},
    },
    measured="test images (32)",
    maps={"conv1": RNG.random((8, 8)), "layer2": RNG.random((8, 8))},
    unit=UnitOnImage(
        endpoint="layer2",
        unit=(1, 2),
        image=image(8, 8, 1),
        effective=RNG.random((8, 8)),
        rows=[(-5, 2), (-3, 4), (-1, 6)],
        columns=[(-4, 3), (-2, 5), (0, 7)],
        centre=(1.0, 3.5),
        sigma=(2.0, 1.5),
    ),
)

FULL = Report(
    title="LeNet on digits",
    headline={"test accuracy": "98.3 %", "parameters": "1,234"},
    history=rows(5),
    classes=["zero", "one", "two"],
    confusion=np.array([[5, 1, 0], [0, 6, 2], [1, 0, 7]]),
    worst=[WrongImage(image(8, 8, 1), 0, 1, 0.99999), WrongImage(image(8, 8), 2, 0, 0.61)],
    filters=RNG.normal(size=(3, 3, 1, 6)),
    image=image(8, 8, 1),
    endpoints={
        "conv": RNG.normal(size=(8, 8, 6)),
        "fc": RNG.normal(size=20),
        "logits": np.array([3.0, 1.0, -2.0]),
    },
    fields=FIELDS,
    summary=summary(),
    config={"data": "digits", "optimizer": {"name": "sgd", "momentum": 0.9}},
    versions={"jax": "0.12"},
    notes=["Made by hand."],
)

MANY = [f"{HOSTILE} {i}" for i in range(1000)]
REPORTS = {
    "full": FULL,
    "nothing": Report("Nothing"),
    "one_class": Report(
        "One", history=rows(1), classes=["only"], confusion=np.array([[4]]), worst=[]
    ),
    "no_test_images": Report("None", classes=["a", "b"], confusion=np.zeros((2, 2), int), worst=[]),
    "thousand_classes": Report(
        "Many",
        classes=MANY,
        confusion=RNG.integers(0, 3, (1000, 1000)),
        endpoints={"logits": RNG.normal(size=1000)},
    ),
    "forty_classes": Report("Forty", classes=MANY[:40], confusion=RNG.integers(0, 30, (40, 40))),
    "nan": dataclasses.replace(
        FULL,
        history=[{"epoch": 1, "loss": float("nan")}, {"epoch": 2, "loss": float("inf")}],
        endpoints={"conv": np.full((4, 4, 3), np.nan), "logits": np.full(3, np.nan)},
        filters=np.full((3, 3, 3, 4), np.nan),
        fields=dataclasses.replace(FIELDS, maps={"conv1": np.full((8, 8), np.nan)}),
    ),
    "rgb": dataclasses.replace(
        FULL,
        worst=[WrongImage(image(9, 7, 3), 0, 2, 0.5)],
        image=image(300, 200, 3),
        filters=RNG.normal(size=(7, 7, 3, 64)),
    ),
    "many_channels": dataclasses.replace(
        FULL,
        worst=[WrongImage(RNG.normal(size=(9, 7, 12)), 0, 2, 1.0)],
        image=image(9, 7, 2),
        filters=RNG.normal(size=(3, 3, 12, 200)),
    ),
    "hostile": Report(
        title=HOSTILE,
        headline={HOSTILE: HOSTILE},
        history=[{"epoch": 1, HOSTILE: 1.0, "loss": 2.0}],
        classes=[HOSTILE, "</style>"],
        confusion=np.array([[1, 2], [3, 4]]),
        worst=[WrongImage(image(8, 8), 0, 1, 0.9)],
        endpoints={HOSTILE: np.ones((2, 2, 2)), "logits": np.ones(2)},
        config={HOSTILE: {HOSTILE: HOSTILE}},
        versions={HOSTILE: HOSTILE},
        notes=[HOSTILE],
        fields=Fields(
            columns={HOSTILE: [HOSTILE]},
            remarks=[HOSTILE],
            growth={HOSTILE: {HOSTILE: {HOSTILE: 3}}},
            measured=HOSTILE,
            maps={HOSTILE: np.ones((2, 2))},
            unit=dataclasses.replace(FIELDS.unit, endpoint=HOSTILE),
            missing=HOSTILE,
        ),
        summary=dataclasses.replace(summary(), name=HOSTILE),
    ),
    "long_and_leftward_names": dataclasses.replace(
        FULL,
        title=LONG,
        classes=[LONG, ARABIC, "dog\u2069\u202e\u2067"],
        notes=[LONG],
        config={LONG: LONG, ARABIC: ARABIC},
        endpoints={LONG: np.ones((2, 2, 2)), "logits": np.arange(3.0)},
        fields=Fields(
            columns={"endpoint": [LONG, ARABIC], "size": ["3", "5"]},
            maps={LONG: np.ones((2, 2)), ARABIC: np.ones((2, 2))},
            unit=dataclasses.replace(FIELDS.unit, endpoint="dog\u2069\u202e"),
        ),
    ),
}
each_report = pytest.mark.parametrize("report", REPORTS.values(), ids=REPORTS)

VOID = {"meta", "link", "img", "br"}
LIST_ITEMS = {
    "dl": {"div"},
    "ul": {"li"},
    "tr": {"th", "td"},
    "tbody": {"tr"},
    "thead": {"tr"},
    "tfoot": {"tr"},
}


class Page(html.parser.HTMLParser):
    """Checks nesting while it reads; collects elements and text."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.texts = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        parent = self.open[-1] if self.open else None
        assert tag in LIST_ITEMS.get(parent, {tag}), f"<{tag}> in <{parent}>"
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"<{tag}> repeats an attribute"
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        assert tag in ("line", "path", "circle", "rect", "image"), f"<{tag}/>"
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    def all(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]


@each_report
def test_page_is_well_formed(report):
    text = render_report(report)
    assert text.startswith("<!DOCTYPE html>\n<html lang=")
    page = Page(text)
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    labels = [attrs["aria-labelledby"] for _, attrs in page.elements if "aria-labelledby" in attrs]
    assert set(labels) <= set(ids)
    assert len(page.all("h1")) == len(page.all("title")[:1]) == 1
    assert "$" not in re.sub(r"<style>.*</style>", "", text, flags=re.DOTALL)


@each_report
def test_every_image_is_inside_the_page(report):
    from PIL import Image

    for attrs in Page(render_report(report)).all("img"):
        assert attrs["alt"].strip()
        head, body = attrs["src"].split(",")
        assert head == "data:image/png;base64"
        with Image.open(io.BytesIO(base64.b64decode(body, validate=True))) as decoded:
            decoded.load()
            assert decoded.size == (int(attrs["width"]), int(attrs["height"]))


@each_report
def test_page_loads_nothing_and_runs_nothing(report):
    text = render_report(report)
    page = Page(text)
    for tag, attrs in page.elements:
        assert tag not in ("script", "iframe", "object", "embed", "base", "form")
        assert not any(name.startswith("on") for name in attrs)
        for name in ("src", "href", "data", "srcset", "action"):
            assert attrs.get(name, "data:").startswith("data:")
    style = text[text.index("<style>") : text.index("</style>")]
    assert not re.search(r"url\(|@import|@font-face|https?:", style)
    assert "default-src 'none'" in [m.get("content", "") for m in page.all("meta")][-1]


@each_report
def test_tables_and_drawings_can_be_read_aloud(report):
    page = Page(render_report(report))
    assert all(attrs.get("scope") in ("row", "col") for attrs in page.all("th"))
    assert all(attrs["role"] == "img" and attrs["aria-label"] for attrs in page.all("svg"))


def test_hostile_text_is_shown_not_run():
    page = Page(render_report(REPORTS["hostile"]))
    shown = re.sub("[\x00\ud800\u202e]", "�", HOSTILE)
    assert "".join(page.texts).count(shown) >= 12


@each_report
def test_no_text_turns_its_neighbours_round(report):
    text = render_report(report)
    assert not re.search("[\u202a-\u202e]", text)
    assert not re.search("[\u2066-\u2069]", re.sub("\u2068[^\u2066-\u2069]*\u2069", "", text))


def test_names_from_right_to_left_stand_apart():
    text = render_report(REPORTS["long_and_leftward_names"])
    assert f"is <em><bdi>{ARABIC}</bdi></em>" not in text  # no wrong image is of that class
    assert f"<strong><bdi>{ARABIC}</bdi></strong>" in text
    assert f'<th scope="row"><bdi>{ARABIC}</bdi></th>' in text
    assert f"taken for \u2068{ARABIC}\u2069" in text
    outside = re.sub(f"<bdi>{ARABIC}</bdi>|\u2068{ARABIC}\u2069|>{ARABIC}</text>", "", text)
    assert ARABIC not in outside
    assert "dog���" in text


def test_a_long_name_is_cut_and_whole_on_hover():
    text = render_report(REPORTS["long_and_leftward_names"])
    cut = f'<bdi title="{LONG}">{LONG[:39]}…</bdi>'
    assert f'<th scope="row">{cut}</th>' in text
    assert f"is <em>{cut}</em>" in text
    assert f'<th scope="row"><bdi>{LONG}</bdi></th>' in text  # in full among all classes


def test_page_says_what_the_report_holds():
    text = "".join(Page(render_report(FULL)).texts)
    for part in (
        "LeNet on digits",
        "98.3 %",
        "18 of 22 test images",
        "one > 99.9 %",
        "layers.0",
        "optimizer.momentum",
        "0.9",
        "Made by hand.",
        "What the network says",
        "87.5 %",
    ):
        assert part in text, part


def test_nothing_wrong_is_said():
    assert "None: every test image is right." in render_report(REPORTS["one_class"])


def test_empty_parts_are_left_out():
    assert Page(render_report(Report("Nothing"))).all("section") == []
    sections = [attrs["id"] for attrs in Page(render_report(FULL)).all("section")]
    assert sections == [
        "curves",
        "confusion",
        "worst",
        "filters",
        "maps",
        "fields",
        "layers",
        "notes",
        "settings",
    ]


def test_more_than_forty_classes_have_no_matrix():
    assert Page(render_report(REPORTS["forty_classes"])).all("svg")
    thousand = Page(render_report(REPORTS["thousand_classes"]))
    assert not thousand.all("svg")
    assert "Most confused" in thousand.texts


def test_nan_is_named():
    text = render_report(REPORTS["nan"])
    assert "What the network says is not a number." in text
    said = "".join(Page(text).texts)
    assert "Not a number or infinite, and so not drawn: loss (2 of 2 rows)." in said


def test_file_is_the_page(tmp_path):
    path = write_report(tmp_path / "report.html", FULL)
    assert path.read_text(encoding="utf-8") == render_report(FULL)
    with pytest.raises(FileNotFoundError):
        write_report(tmp_path / "missing" / "report.html", FULL)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"confusion": np.zeros((3, 4))}, r"confusion matrix of 3 classes .*; got \(3, 4\)"),
        ({"classes": []}, r"confusion matrix of 0 classes .*; got \(3, 3\)"),
        (
            {"worst": [WrongImage(image(2, 2), 0, 3, 0.5)]},
            r"in 0..2; got predicted=3 in worst\[0\]",
        ),
        ({"worst": [WrongImage(image(2, 2), -1, 2, 0.5)]}, r"in 0..2; got true=-1 in worst\[0\]"),
        ({"filters": np.zeros((3, 3))}, r"a kernel is \(R, S, C, K\); got \(3, 3\)"),
    ],
)
def test_says_what_does_not_fit(change, message):
    with pytest.raises(ValueError, match=message):
        render_report(dataclasses.replace(FULL, **change))


CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)

PROBE = """<!DOCTYPE html><html><body>
<iframe id="page" width="%d" height="900" srcdoc="%s"></iframe><script>
addEventListener("load", () => {
  const page = document.getElementById("page").contentDocument, root = page.documentElement;
  const images = [...page.images].map(i => i.naturalWidth);
  const found = {images, wide: root.scrollWidth - root.clientWidth};
  document.body.textContent = JSON.stringify(found);
});
</script></body></html>"""


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
@pytest.mark.parametrize("width", [400, 1200])
@pytest.mark.parametrize(
    "name", ["full", "rgb", "hostile", "thousand_classes", "long_and_leftward_names"]
)
def test_browser_draws_every_image_without_errors(name, width, tmp_path):
    text = render_report(REPORTS[name])
    probe = tmp_path / "probe.html"
    probe.write_text(PROBE % (width, html.escape(text)), encoding="utf-8")
    done = subprocess.run(
        [
            CHROMIUM,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--no-first-run",
            f"--user-data-dir={tmp_path / 'profile'}",
            "--enable-logging=stderr",
            "--v=0",
            "--virtual-time-budget=5000",
            "--dump-dom",
            probe.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "CONSOLE" not in done.stderr
    found = json.loads(re.search(r"\{.*?\}", done.stdout)[0])
    assert found["wide"] == 0, "the page is wider than its window"
    assert len(found["images"]) == len(Page(text).all("img"))
    assert all(found["images"])
