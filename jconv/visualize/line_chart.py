"""A line chart as inline SVG: crisp at any size, coloured by the page, with the values on hover."""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable, Mapping, Sequence

from jconv.visualize.evenly import evenly
from jconv.visualize.markup import abbreviate, escape, isolated, svg_text

Points = Sequence[tuple[float, float]]

WIDTH, HEIGHT = 560.0, 300.0
LEFT, RIGHT, TOP, BOTTOM = 58.0, 116.0, 16.0, 44.0  # margins; RIGHT at least, see `_Frame`
LETTER = 7.8  # width of a letter of the labels at the ends of the lines
MOST_POINTS = 400  # per line; more than the plot has pixels
MOST_MARKS = 60  # per line; more would touch


def line_chart(
    series: Mapping[str, Points], *, title: str, x_label: str, percent: bool = False
) -> str:
    """An SVG of one line per series. A NaN or infinite value interrupts its line.

    Each line's name and last value stand in the margin to the right of all lines, beside its end.
    Colours come from the page: classes `line-0`, `line-1`, ... in the order of the series.

    Args:
      series: points (x, y) by name, x increasing.
      percent: y are fractions, shown in per cent.

    Raises:
      ValueError: no series has a finite point.
    """
    finite = {name: [p for p in points if _finite(p)] for name, points in series.items()}
    finite = {name: points for name, points in finite.items() if points}
    if not finite:
        names = ", ".join(series) or "no series"
        raise ValueError(f"line_chart: {title} has no finite point; got {names}")
    show = _percent if percent else _number
    ends = {name: show(points[-1][1]) for name, points in finite.items()}
    labels = [f"{isolated(abbreviate(name, 20))} {end}" for name, end in ends.items()]
    points = [point for points in finite.values() for point in points]
    frame = _Frame(points, max(RIGHT, 9 + LETTER * max(map(len, labels))))
    parts = [_grid(frame, show, x_label)]
    heights = [frame.y(points[-1][1]) for points in finite.values()]
    for index, (name, y) in enumerate(zip(finite, _spread(heights, 16.0), strict=True)):
        kind = f"line-{index % 6}"
        hovers = {p: f"{isolated(name)} {show(p[1])}, {x_label} {p[0]:g}" for p in finite[name]}
        parts += [_line(series[name], frame, kind), _marks(hovers, frame, kind)]
        parts.append(svg_text(f"end {kind}", frame.right + 9, y + 4, labels[index]))
    last_values = (f"{isolated(name)} ends at {end}" for name, end in ends.items())
    alt = escape(f"{isolated(title)}: {', '.join(last_values)}")
    view = f'viewBox="0 0 {WIDTH:g} {HEIGHT:g}" role="img" aria-label="{alt}"'
    return f'<svg class="chart" {view}>{"".join(parts)}</svg>'


class _Frame:
    """Where values lie on the page, and which of them the axes name; `margin` is on the right."""

    def __init__(self, points: Points, margin: float):
        xs, ys = zip(*points, strict=True)
        self.right = WIDTH - margin
        self.y_ticks = ticks(min(ys), max(ys), 5)
        self.x = _scale(min(xs), max(xs), LEFT, self.right)
        self.y = _scale(self.y_ticks[0], self.y_ticks[-1], HEIGHT - BOTTOM, TOP)
        # Half an epoch is no tick where all rows are whole epochs.
        whole = all(x == int(x) for x in xs)
        inside = [x for x in ticks(min(xs), max(xs), 7) if min(xs) <= x <= max(xs)]
        self.x_ticks = [x for x in inside if x == int(x) or not whole] or [min(xs)]


def ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) from at most `low` to at least `high`,
    both finite; beyond the largest float64 comes that number."""
    # Closer together than this, neighbouring ticks would be one float64.
    if high / 2 - low / 2 < max(1e-300, 1e-13 * max(abs(low), abs(high))):
        low, high = _float64(low - abs(low) * 0.1 - 1e-9), _float64(high + abs(high) * 0.1 + 1e-9)
    rough = high / about - low / about  # high - low may be too large a number
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [_float64(i * step) for i in range(first, last + 1)]


def _float64(value: float) -> float:
    """`value`, or the largest finite number where it is infinite."""
    return max(-sys.float_info.max, min(sys.float_info.max, value))


def _finite(point: tuple[float, float]) -> bool:
    return math.isfinite(point[0]) and math.isfinite(point[1])


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    if low == high:
        return lambda _: (start + end) / 2
    unit = max(abs(low), abs(high))  # in it, differences are neither too large nor too small
    span = high / unit - low / unit
    return lambda value: start + (value / unit - low / unit) / span * (end - start)


def _number(value: float) -> str:
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e12 else f"{value:.3g}"


def _percent(value: float) -> str:
    return f"{100 * value:.4g} %"


def _grid(frame: _Frame, show: Callable[[float], str], x_label: str) -> str:
    parts = []
    for value in frame.y_ticks:
        y = frame.y(value)
        ends = f'x1="{LEFT:g}" x2="{frame.right:g}" y1="{y:.1f}" y2="{y:.1f}"'
        parts.append(f'<line class="grid" {ends}/>')
        parts.append(svg_text("tick", LEFT - 8, y + 4, show(value), anchor="end"))
    for value in frame.x_ticks:
        x, y = frame.x(value), HEIGHT - BOTTOM + 18
        parts.append(svg_text("tick", x, y, _number(value), anchor="middle"))
    middle = (LEFT + frame.right) / 2
    return "".join([*parts, svg_text("axis", middle, HEIGHT - 6, x_label, anchor="middle")])


def _line(points: Points, frame: _Frame, kind: str) -> str:
    """The line as one path; a point that is not finite ends a stroke."""
    commands, pen_down = [], False
    for x, y in _thinned(points, MOST_POINTS):
        drawn = _finite((x, y))
        if drawn:
            commands.append(f"{'L' if pen_down else 'M'}{frame.x(x):.1f} {frame.y(y):.1f}")
        pen_down = drawn
    return f'<path class="line {kind}" d="{"".join(commands)}"/>'


def _marks(hovers: Mapping[tuple[float, float], str], frame: _Frame, kind: str) -> str:
    """Points that say their text on hover; small to the eye, large to the pointer."""
    shown = "mark" if len(hovers) <= 30 else "mark hidden"
    parts = []
    for point in _thinned(list(hovers), MOST_MARKS):
        where = f'cx="{frame.x(point[0]):.1f}" cy="{frame.y(point[1]):.1f}"'
        circles = f'<circle class="target" {where} r="9"/><circle class="dot" {where} r="2.6"/>'
        parts.append(
            f'<g class="{shown} {kind}"><title>{escape(hovers[point])}</title>{circles}</g>'
        )
    return "".join(parts)


def _thinned(points: Points, most: int) -> Points:
    """At most `most` of the points, evenly spaced, first and last among them."""
    return [points[i] for i in evenly(len(points), most)]


def _spread(positions: list[float], least: float) -> list[float]:
    """Moves positions apart, downwards and at the bottom of the plot upwards, until neighbours are
    `least` units from each other, or less where there is no room for so many."""
    bottom = HEIGHT - BOTTOM
    least = min(least, bottom / len(positions))
    order = sorted(range(len(positions)), key=positions.__getitem__)
    moved = list(positions)
    for before, after in itertools.pairwise(order):
        moved[after] = max(moved[after], moved[before] + least)
    moved[order[-1]] = min(moved[order[-1]], bottom)
    for after, before in itertools.pairwise(reversed(order)):
        moved[before] = min(moved[before], moved[after] - least)
    return moved
