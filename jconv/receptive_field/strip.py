"""Lines below and above given ranges of positions, in exact arithmetic."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from jconv.receptive_field.factors import Number, ratio


class Line(NamedTuple):
    """start + slope * o"""

    slope: Number
    start: Number


def strip(first: np.ndarray, last: np.ndarray) -> tuple[Line, Line]:
    """A line that is at most first[o] and one that is at least last[o], for every o.

    They are tight in the middle half, so that borders don't tilt them, and parallel unless that
    makes the strip between them much wider. A tightest line lies on an edge of the hull of what it
    bounds, so only the edges' slopes are tried.

    Args:
      first, last: int64, one entry per position o.
    """
    o = np.arange(len(first))
    middle = slice(len(o) // 4, len(o) - len(o) // 4)
    lows = _edges(o[middle], first[middle])
    highs = {-slope for slope in _edges(o[middle], -last[middle])}

    def area(lines):
        """What lies between, over the middle half."""
        count, total = len(o[middle]), int(o[middle].sum())
        below, above = lines
        steps = Fraction(above.slope - below.slope) * total
        return steps + Fraction(above.start - below.start) * count

    parallel = ((_below(first, s), _above(last, s)) for s in sorted(lows | highs))
    apart = ((_below(first, a), _above(last, b)) for a in sorted(lows) for b in sorted(highs))
    parallel, apart = min(parallel, key=area), min(apart, key=area)
    enough = area(parallel) <= Fraction(3, 2) * area(apart) + len(o)
    return parallel if enough else apart


def _below(values, slope: Number) -> Line:
    rise, run = slope.numerator, slope.denominator
    return Line(slope, ratio(int((values * run - rise * np.arange(len(values))).min()), run))


def _above(values, slope: Number) -> Line:
    line = _below(-values, -slope)
    return Line(slope, -line.start)


def _edges(o: np.ndarray, values: np.ndarray) -> set[Number]:
    """The slopes of the lower hull; 0 of a single point. Of many the middle ones."""
    hull: list[tuple[int, int]] = []
    for point in zip(o.tolist(), values.tolist(), strict=True):
        while len(hull) > 1 and _turn(hull[-2], hull[-1], point) <= 0:
            hull.pop()
        hull.append(point)
    slopes = [_slope(a, b) for a, b in itertools.pairwise(hull)]
    return set(_middle(slopes)) or {0}


def _middle(slopes: list[Number], most: int = 8) -> Iterable[Number]:
    start = max(0, (len(slopes) - most) // 2)
    return slopes[start : start + most]


def _slope(a, b) -> Number:
    return ratio(b[1] - a[1], b[0] - a[0])


def _turn(a, b, c) -> int:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
