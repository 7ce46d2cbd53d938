"""The charts of a page as files of their own: SVG with its colours inside, or pixels."""

from __future__ import annotations

import importlib.resources
import re
import xml.etree.ElementTree as ET
from typing import Any

import numpy as np

LETTERS = 12  # pixels, as in charts.css
MOVE = re.compile(r"([ML])([-0-9.]+) ([-0-9.]+)")
ANCHORS = {"start": "ls", "middle": "ms", "end": "rs"}  # SVG's in Pillow's words
VARIABLE = re.compile(r"--(\w+): (#\w{6});")


def chart_style() -> str:
    """The rules of charts in CSS, light and dark, for a page or a file that holds some."""
    return importlib.resources.files("jconv.visualize").joinpath("charts.css").read_text("utf-8")


def svg_file(svg: str) -> str:
    """The text of an SVG file, of a chart such as `line_chart` draws for a page."""
    opening, separator, rest = svg.partition(">")
    opening = opening.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    return f"{opening}{separator}<style>{chart_style()}</style>{rest}\n"


def chart_image(svg: str, *, scale: int = 2) -> np.ndarray:
    """A chart such as `line_chart` draws, on white: uint8 RGB (H, W, 3).

    Args:
      scale: pixels per unit of the drawing.

    Raises:
      ImportError: Pillow is not installed.
    """
    from PIL import Image, ImageDraw, ImageFont

    root = ET.fromstring(svg)
    width, height = (round(float(n) * scale) for n in root.attrib["viewBox"].split()[2:])
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    # Drawn in the light colours, which stand first.
    colors = dict(reversed(VARIABLE.findall(chart_style())))
    font = ImageFont.load_default(LETTERS * scale)
    for element in root.iter():
        _draw(draw, element, colors, font, scale)
    return np.asarray(image)


def _draw(draw: Any, element: ET.Element, colors: dict[str, str], font: Any, scale: int) -> None:
    """One element: a line of the grid, a curve, a text, or the points of a curve."""
    kind = element.get("class", "").split()
    color = next((colors[f"c{k[-1]}"] for k in kind if k.startswith("line-")), colors["muted"])
    match element.tag:
        case "line":
            draw.line(_numbers(element, scale, "x1", "y1", "x2", "y2"), colors["rule"], scale)
        case "path":
            for stroke in _strokes(element.get("d", ""), scale):
                draw.line(stroke, color, 2 * scale, joint="curve")
        case "text":
            anchor = ANCHORS[element.get("text-anchor", "start")]
            draw.text(_numbers(element, scale, "x", "y"), element.text or "", color, font, anchor)
        case "g" if "mark" in kind and "hidden" not in kind:
            for dot in element.iterfind("circle[@class='dot']"):
                x, y, r = _numbers(dot, scale, "cx", "cy", "r")
                draw.ellipse((x - r, y - r, x + r, y + r), color)


def _numbers(element: ET.Element, scale: int, *names: str) -> list[float]:
    return [float(element.get(name, 0)) * scale for name in names]


def _strokes(path: str, scale: int) -> list[list[tuple[float, float]]]:
    """The strokes of a path that moves (M) and draws straight lines (L)."""
    strokes: list[list[tuple[float, float]]] = []
    for command, x, y in MOVE.findall(path):
        if command == "M":
            strokes.append([])
        strokes[-1].append((float(x) * scale, float(y) * scale))
    return strokes
