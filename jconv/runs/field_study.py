"""The receptive fields of a network in theory, and measured on images, to be shown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jconv import receptive_field as rf
from jconv.receptive_field import ReceptiveField
from jconv.receptive_field.table import columns
from jconv.summary import Summary, endpoints_of, receptive_fields, summarize
from jconv.visualize import Fields, UnitOnImage
from jconv.visualize.evenly import evenly

MOST_MAPS = 8  # endpoints
SAMPLES = 200  # of the bootstrap
PIXELS = 200_000  # of the inputs that are differentiated at a time


def measured_fields(
    model: Any,
    x: Any,
    image: np.ndarray,
    measured: str,
    *,
    summary: Summary | None = None,
    endpoint: str | None = None,
    unit: Sequence[int] | None = None,
) -> Fields:
    """The fields of a model in evaluation mode, measured on x (N, H, W, C).

    Args:
      x: images as the model takes them.
      image: the first of them, as it is shown.
      measured: what they are, in words.
      summary: of the model, if it is at hand.

    Raises:
      ValueError: no such endpoint, or a unit outside of it.
    """
    one = jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype)
    theory = receptive_fields(model, one)
    shapes = _shapes(model, one)
    pixels = [name for name, field in theory.items() if _has_pixels(shapes[name], field)]
    summary = summary or summarize(model, one)
    endpoint, unit = _unit(endpoint, unit, pixels, shapes)
    chosen = {pixels[i] for i in evenly(len(pixels), MOST_MAPS)} | {endpoint}
    shown = [name for name in pixels if name in chosen]
    maps = _maps(model, x, {name: unit if name == endpoint else None for name in shown})
    radii = _radii(maps)
    cells, remarks = _table(theory, radii)
    shown_unit = None
    if endpoint is not None:
        shown_unit = _on_image(endpoint, unit, shapes[endpoint], theory, maps, image)
    return Fields(
        columns=cells,
        remarks=remarks,
        growth=_growth(theory, pixels, radii, summary),
        measured=measured,
        maps={name: np.asarray(m.mean(0)) for name, m in maps.items()},
        unit=shown_unit,
        missing="" if maps else "No endpoint has pixels, so there is no effective field to show.",
    )


def _table(theory, radii):
    """Cells by header, with a column for the radii if there are any, and remarks as sentences."""
    cells = columns(theory)
    said = cells.pop("remarks", ())
    if radii:
        cells["effective radius"] = [_text(radii.get(name)) for name in theory]
    return cells, [f"{name}: {text}." for name, text in zip(theory, said, strict=False) if text]


def _shapes(model: Any, one: jax.ShapeDtypeStruct) -> dict[str, jax.ShapeDtypeStruct]:
    graph, state = nnx.split(model)
    return jax.eval_shape(lambda state, x: endpoints_of(nnx.merge(graph, state), x), state, one)


def _has_pixels(shape: jax.ShapeDtypeStruct, field: ReceptiveField) -> bool:
    """Whether an endpoint is (N, P, Q, K), and its pixels lie as those of the image do."""
    along = all(axis in (None, k) for k, axis in enumerate(field.along, 1))
    return len(shape.shape) == 4 and jnp.issubdtype(shape.dtype, jnp.floating) and along


def _unit(endpoint, unit, pixels, shapes):
    """The endpoint whose unit is shown, and the unit; None where no endpoint has pixels."""
    if endpoint is not None and endpoint not in pixels:
        raise ValueError(
            f"receptive-field: endpoint must be one of {', '.join(pixels) or 'none'}; got "
            f"{endpoint!r}"
        )
    if not pixels:
        return None, None
    endpoint = endpoint or pixels[-1]
    height, width = shapes[endpoint].shape[1:3]
    unit = (height // 2, width // 2) if unit is None else tuple(unit)
    if len(unit) != 2 or not (0 <= unit[0] < height and 0 <= unit[1] < width):
        raise ValueError(
            f"receptive-field: unit must be a row and a column of {endpoint}, {height} x {width} "
            f"pixels; got unit={unit}"
        )
    return endpoint, unit


def _maps(model: Any, x: Any, units: Mapping[str, tuple[int, ...] | None]) -> dict[str, jax.Array]:
    """Absolute gradients of a unit of each endpoint, (N, H, W); None is the one in the middle."""
    if not units:
        return {}
    graph, state = nnx.split(model)
    # A trained model lies on all devices, which would do the same work.
    state = jax.device_put(state, jax.local_devices()[0])
    chunk = max(1, min(16, PIXELS // math.prod(x.shape[1:3])))

    @jax.jit
    def maps(state, x):
        merged = nnx.merge(graph, state)

        def shown(x):
            endpoints = endpoints_of(merged, x)
            return {name: endpoints[name] for name in units}

        return rf.gradient_maps(shown, x, unit=dict(units), chunk=chunk)

    found = maps(state, np.asarray(x))
    return {name: found[name] for name in units}  # jit sorts dicts


def _radii(maps: Mapping[str, jax.Array]) -> dict[str, rf.Interval]:
    """The radius of each endpoint's mean field, with bounds where there are several inputs."""
    if not maps:
        return {}
    stacked, measure = jnp.stack(list(maps.values()), 1), jax.vmap(rf.radius)
    if len(stacked) > 1:
        found = rf.bootstrap(measure, stacked, key=jax.random.key(0), samples=SAMPLES)
    else:
        value = measure(stacked[0])
        found = rf.Interval(value, value * math.nan, value * math.nan)
    parts = (np.asarray(part).tolist() for part in (found.value, found.low, found.high))
    ends = zip(*parts, strict=True)
    return {name: rf.Interval(*part) for name, part in zip(maps, ends, strict=True)}


def _text(radius: rf.Interval | None) -> str:
    if radius is None or not math.isfinite(radius.value):
        return "–"
    bounds = f" ({radius.low:.2f} to {radius.high:.2f})" if math.isfinite(radius.low) else ""
    return f"{radius.value:.2f}{bounds}"


def _growth(theory, pixels, radii, summary):
    """Sizes by endpoint, in theory and as four sigma of what was measured, and by layer."""
    growth = {}
    if pixels:
        growth["endpoint"] = {"theoretical": {name: max(theory[name].size) for name in pixels}}
        if any(math.isfinite(radius.value) for radius in radii.values()):
            four = {name: 4 * radius.value for name, radius in radii.items()}
            growth["endpoint"]["effective, 4 sigma"] = {n: four.get(n, math.nan) for n in pixels}
    fields = [row.receptive_field for row in summary.rows]
    moving = [max(field.size) for field in fields if field is not None and any(field.stride)]
    if moving:
        growth["layer"] = {"theoretical": moving}
    return growth


def _on_image(endpoint, unit, shape, theory, maps, image) -> UnitOnImage:
    """The field of the unit, for the first of the inputs; its bell is of their mean."""
    height, width = shape.shape[1:3]
    centre, covariance = map(np.asarray, rf.moments(maps[endpoint].mean(0)))
    bell = {}
    if np.isfinite(covariance).all():
        bell = {"centre": tuple(centre), "sigma": tuple(np.sqrt(np.diag(covariance)))}
    return UnitOnImage(
        endpoint=endpoint,
        unit=unit,
        image=image,
        effective=np.asarray(maps[endpoint][0]),
        rows=[theory[endpoint].span(i, 0)[0] for i in range(height)],
        columns=[theory[endpoint].span(0, j)[1] for j in range(width)],
        **bell,
    )
