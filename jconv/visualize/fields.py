"""What a network sees: its receptive fields as a section of a report, and as files."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from jconv.visualize.chart_file import chart_image, svg_file
from jconv.visualize.elements import picture, section, table
from jconv.visualize.markup import bdi, escape, isolated
from jconv.visualize.png import encode_png
from jconv.visualize.receptive_field import (
    field_heat_map,
    field_heat_maps,
    field_on_image,
    field_overlay,
    growth_chart,
)
from jconv.visualize.units import Span, units_on_image

type Sizes = Sequence[float] | Mapping[str, float]

TITLE = "What the network sees"
DECADES = 3.0  # of the heat maps: flanks of a thousandth are still to be seen


@dataclasses.dataclass(frozen=True)
class UnitOnImage:
    """The field of one unit, to be drawn on an image, and those of its neighbours.

    Attributes:
      endpoint: whose unit it is.
      unit: its row and column.
      image: (H, W) or (H, W, C), as the data set has it.
      effective: (H, W), what each pixel of this image moves the unit.
      rows: for every row of units the first and the last row of pixels that it could see, beyond
        the image where padding is read; None for one that sees nothing.
      columns: the same of columns.
      centre, sigma: of the effective field, rows and columns, pixels; None where nothing moves it.
    """

    endpoint: str
    unit: tuple[int, int]
    image: np.ndarray
    effective: np.ndarray
    rows: Sequence[Span]
    columns: Sequence[Span]
    centre: tuple[float, ...] | None = None
    sigma: tuple[float, ...] | None = None

    @property
    def name(self) -> str:
        """In words."""
        return f"{self.endpoint} at {self.unit[0]}, {self.unit[1]}"


@dataclasses.dataclass(frozen=True)
class Fields:
    """The receptive fields of a network.

    Attributes:
      columns: the table of its endpoints, cells by header; the first column names them.
      remarks: sentences beside the table, such as what reads everything.
      growth: what `growth_chart` takes, sizes in pixels by series, for every unit of depth:
        {"endpoint": {"theoretical": {"conv1": 3, ...}, ...}, "layer": {...}}.
      measured: what effective fields were measured on: "test images (32)".
      maps: effective fields (H, W) by endpoint, in order.
      unit: the one that is shown on an image.
      missing: why there are no effective fields.
    """

    columns: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    remarks: Sequence[str] = ()
    growth: Mapping[str, Mapping[str, Sizes]] = dataclasses.field(default_factory=dict)
    measured: str = ""
    maps: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    unit: UnitOnImage | None = None
    missing: str = ""


def fields(shown: Fields | None) -> str:
    """The section: the table, how fields grow, heat maps, and one unit's field on an image.

    Raises:
      ValueError: a map that is not (H, W), or an image and a field of different sizes.
      IndexError: a unit beyond the rows or columns.
    """
    if shown is None:
        return ""
    lead = (
        "The theoretical receptive field of an output is the part of the image that could move it, "
        "in pixels from the first to the last; the stride is how far it moves from one output to "
        "the next, 0 where it does not, and the padding how far the first one reaches beyond the "
        "image."
    )
    parts = [_theory(shown)]
    if shown.maps:
        parts.append(_effective(shown))
    if shown.unit is not None:
        parts.append(_on_image(shown.unit))
    if shown.missing:
        parts.append(f'<p class="aside">{escape(shown.missing)}</p>')
    return section("fields", TITLE, lead, "".join(parts))


def field_files(shown: Fields) -> dict[str, bytes]:
    """The same as image files, by name: charts as SVG and PNG, heat maps and overlays as PNG."""
    files = {}
    for depth, chart in _charts(shown).items():
        files[f"growth_by_{depth}.svg"] = svg_file(chart).encode()
        files[f"growth_by_{depth}.png"] = encode_png(chart_image(chart))
    if shown.maps:
        files["heat_maps.png"] = encode_png(field_heat_maps(shown.maps, decades=DECADES))
    if shown.unit is not None:
        for name, (pixels, _) in _overlays(shown.unit).items():
            files[f"{name}.png"] = encode_png(pixels)
    return files


def _charts(shown: Fields) -> dict[str, str]:
    """Growth charts by the unit of depth."""
    return {
        depth: growth_chart(series, title=f"Receptive field by {depth}, pixels", x_label=depth)
        for depth, series in shown.growth.items()
    }


def _theory(shown: Fields) -> str:
    """The table beside the charts."""
    columns = shown.columns
    rows = list(zip(*columns.values(), strict=True))
    numbers = table("", list(columns), rows, numbers=len(columns) - 1) if rows else ""
    remarks = "".join(f'<p class="aside">{bdi(text)}</p>' for text in shown.remarks)
    figures = "".join(
        f"<figure><figcaption>Size by {escape(depth)}, pixels</figcaption>{chart}</figure>"
        for depth, chart in _charts(shown).items()
    )
    body = f'<div class="scroll">{numbers}</div>{remarks}' if rows else remarks
    return f'{body}<div class="grid">{figures}</div>' if figures else body


def _effective(shown: Fields) -> str:
    """Heat maps, in the order of the endpoints."""
    said = (
        "The effective receptive field is how much each pixel does: the absolute gradient of one "
        f"unit of each endpoint, its channels summed, as a mean over {shown.measured}. Light is "
        "the most, dark a thousandth of it or less."
    )
    figures = "".join(
        f"<figure><figcaption>{bdi(name)}</figcaption>"
        f"{picture(field_heat_map(field, decades=DECADES), f'Effective field of {isolated(name)}')}"
        "</figure>"
        for name, field in shown.maps.items()
    )
    return f'<p>{escape(said)}</p><div class="fields">{figures}</div>'


def _on_image(unit: UnitOnImage) -> str:
    """The unit's overlays, and the fields of all, to be pointed at."""
    figures = [
        f"<figure>{picture(pixels, said)}<figcaption>{escape(said)}</figcaption></figure>"
        for pixels, said in _overlays(unit).values()
    ]
    if any(unit.rows) and any(unit.columns):
        drawn = units_on_image(
            unit.image, unit.rows, unit.columns, given=unit.unit, name=unit.endpoint
        )
        said = "Point at the image, or click, to see what the unit there could see."
        figures.insert(1, f"<figure>{drawn}<figcaption>{said}</figcaption></figure>")
    return (
        f"<p>One unit, {bdi(unit.name)}, on an image.</p>"
        f'<div class="fields">{"".join(figures)}</div>'
    )


def _overlays(unit: UnitOnImage) -> dict[str, tuple[np.ndarray, str]]:
    """Pictures by name, each with a sentence that says what is to be seen."""
    overlays = {}
    rows, columns = unit.rows[unit.unit[0]], unit.columns[unit.unit[1]]
    if rows is not None and columns is not None:
        middle = [(first + last) / 2 for first, last in (rows, columns)]
        sizes = [last - first + 1 for first, last in (rows, columns)]
        said = (
            f"What the unit could see: rows {rows[0]} to {rows[1]}, columns {columns[0]} to "
            f"{columns[1]} of the image."
        )
        overlays["unit_theoretical"] = field_overlay(unit.image, middle, sizes), said
    if unit.centre is not None and unit.sigma is not None:
        diameters = [max(4 * sigma, 1.0) for sigma in unit.sigma]
        drawn = field_overlay(unit.image, unit.centre, diameters, shape="ellipse")
        down, across = (f"{sigma:.1f}" for sigma in unit.sigma)
        said = (
            "Two sigma about the middle of its effective field; sigma is "
            f"{down} pixels up and down and {across} from side to side."
        )
        overlays["unit_two_sigma"] = drawn, said
    lit = field_on_image(unit.image, unit.effective)
    overlays["unit_effective"] = lit, "The image, lit by how much each pixel moves the unit."
    return overlays
