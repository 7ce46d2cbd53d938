"""Receptive fields to look at: heat maps, their place on an image, and how they grow with depth.

Positions are pixel indices: pixel 3 reaches from 2.5 to 3.5, so a field of size 1 about 3 covers
pixel 3 alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from jconv.visualize.color_map import colorize
from jconv.visualize.image_grid import displayable, enlarge, image_grid
from jconv.visualize.line_chart import line_chart

SAND = (250, 240, 214)


def field_heat_map(field: np.ndarray, *, side: int = 256, decades: float = 0.0) -> np.ndarray:
    """An effective field (H, W), at least 0, from 0 (dark) to its largest (light): uint8 RGB.

    Args:
      side: enlarged to about so many pixels.
      decades: shows the logarithm, so many powers of ten below the largest as dark; 0 shows the
        values themselves, in which little but the middle is to be seen.

    Raises:
      ValueError: a field that is not (H, W), or decades below 0.
    """
    shares = _shares("field_heat_map", field)
    if decades < 0:
        raise ValueError(f"field_heat_map: decades must be at least 0; got decades={decades}")
    if decades:
        with np.errstate(divide="ignore"):
            shares = np.clip(1 + np.log10(shares) / decades, 0, 1)
    return enlarge(colorize(shares), _scale(shares.shape, side))


def field_heat_maps(
    fields: Mapping[str, np.ndarray], *, side: int = 128, decades: float = 0.0, columns: int = 8
) -> np.ndarray:
    """`field_heat_map` of every endpoint, side by side in order: uint8 RGBA.

    Each is shown from 0 to its own largest value. Raises as `field_heat_map`, naming the endpoint,
    and as `image_grid` for fields of different sizes.
    """
    images = []
    for name, field in fields.items():
        try:
            images.append(field_heat_map(field, side=side, decades=decades))
        except ValueError as error:
            raise ValueError(f"{error} in {name!r}") from error
    return image_grid(images, columns=columns, gap=6)


def field_on_image(
    image: np.ndarray, field: np.ndarray, *, side: int = 256, floor: float = 0.15
) -> np.ndarray:
    """An image (H, W) or (H, W, C) lit by an effective field (H, W): uint8 RGB.

    The square root of the field lights it, so that its flanks can be seen too.

    Args:
      side: enlarged to about so many pixels.
      floor: the light where the field is 0, 0 to 1.

    Raises:
      ValueError: an image that is none, a field of another size, or a floor outside of 0 to 1.
    """
    shares = _shares("field_on_image", field)
    pixels = displayable(image)
    if pixels.shape[:2] != shares.shape:
        raise ValueError(
            "field_on_image: image and field must have the same pixels; got image "
            f"{np.shape(image)}, field {shares.shape}"
        )
    if not 0 <= floor <= 1:
        raise ValueError(f"field_on_image: floor must be between 0 and 1; got floor={floor}")
    light = floor + (1 - floor) * np.sqrt(shares)[..., None]
    lit = np.round(_rgb(pixels) * light).astype(np.uint8)
    return enlarge(lit, _scale(shares.shape, side))


def field_overlay(
    image: np.ndarray,
    centre: Sequence[float],
    size: float | Sequence[float],
    *,
    shape: str = "box",
    stride: float | Sequence[float] | None = None,
    side: int = 256,
    dim: float = 0.35,
    color: tuple[int, int, int] = SAND,
) -> np.ndarray:
    """An image (H, W) or (H, W, C) with the outline of a receptive field: uint8 RGB.

    What lies outside of the field is darkened, and what lies outside of the image is not shown.

    Args:
      centre: row and column of the field's middle, in pixels, whole or between two.
      size: of the field, pixels, one for both axes or (rows, columns); may exceed the image. For an
        effective field the diameter wanted, such as 4 sigma.
      shape: "box", as theoretical fields are, or "ellipse".
      stride: pixels from one unit's field to the next: marks as much about the centre.
      side: enlarged to about so many pixels.
      dim: the light outside of the field, 0 to 1.
      color: of the outline.

    Raises:
      ValueError: an image that is none, a centre or size that is not one number per axis, or an
        unknown shape.
    """
    if shape not in ("box", "ellipse"):
        raise ValueError(f"field_overlay: shape must be box or ellipse; got shape={shape!r}")
    if not 0 <= dim <= 1:
        raise ValueError(f"field_overlay: dim must be between 0 and 1; got dim={dim}")
    middle = _pair("centre", centre)
    extent = _pair("size", size)
    if min(extent) <= 0:
        raise ValueError(f"field_overlay: size must be positive; got size={size}")
    pixels = displayable(image)
    scale = _scale(pixels.shape[:2], side)
    canvas = enlarge(_rgb(pixels), scale)
    at = [(np.arange(n) + 0.5) / scale - 0.5 for n in canvas.shape[:2]]
    line = max(1, round(side / 128)) / scale
    inside = _inside(at, middle, extent, shape)
    canvas = np.where(inside[..., None], canvas, np.round(canvas * dim)).astype(np.uint8)
    outlines = [(extent, shape)] + ([] if stride is None else [(_pair("stride", stride), "box")])
    for outer, kind in outlines:
        inner = [max(o - 2 * line, 0.0) for o in outer]
        ring = _inside(at, middle, outer, kind) & ~_inside(at, middle, inner, kind)
        canvas[ring] = color
    return canvas


def growth_chart(
    series: Mapping[str, Sequence[float] | Mapping[str, float]],
    *,
    title: str = "Receptive field",
    x_label: str = "layer",
) -> str:
    """How fields grow from layer to layer, as an SVG of one line per series.

    Args:
      series: by name, a size in pixels for every layer, the first being layer 1: numbers in order,
        or a dict of endpoints in order.

    Raises:
      ValueError: no series has a finite number.
    """
    points = {
        name: [(float(i), float(v)) for i, v in enumerate(_numbers(values), 1)]
        for name, values in series.items()
    }
    return line_chart(points, title=title, x_label=x_label)


def _numbers(values):
    return values.values() if isinstance(values, Mapping) else values


def _inside(at, centre, size, shape):
    """Which places of the canvas lie within a box or an ellipse; nothing where size is 0."""
    rows, columns = (
        (a - c) / (s / 2) if s > 0 else np.full(a.shape, np.inf)
        for a, c, s in zip(at, centre, size, strict=True)
    )
    if shape == "ellipse":
        return rows[:, None] ** 2 + columns[None, :] ** 2 <= 1
    return (abs(rows) <= 1)[:, None] & (abs(columns) <= 1)[None, :]


def _shares(op, field):
    """The field as shares of its largest value; 0 where it is not finite, or all 0."""
    field = np.asarray(field, np.float64)
    if field.ndim != 2 or 0 in field.shape:
        raise ValueError(f"{op}: a field is (H, W); got {field.shape}")
    field = np.where(np.isfinite(field), np.maximum(field, 0), 0)
    return field / (field.max() or 1.0)


def _pair(name, value):
    pair = (value, value) if np.ndim(value) == 0 else tuple(value)
    if len(pair) != 2 or (name == "centre" and np.ndim(value) == 0):
        raise ValueError(
            f"field_overlay: {name} must be one number for each axis, rows and columns; got "
            f"{name}={value}"
        )
    return tuple(map(float, pair))


def _rgb(pixels):
    return np.broadcast_to(pixels, (*pixels.shape[:2], 3))


def _scale(shape, side):
    return max(1, math.ceil(side / max(shape)))
