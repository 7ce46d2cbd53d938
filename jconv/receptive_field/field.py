"""What a receptive field is reported as: exact numbers, one per axis of the input."""

from __future__ import annotations

import dataclasses
import itertools
import math
from fractions import Fraction
from typing import Any

from jconv.receptive_field import factors
from jconv.receptive_field.affine import Affine
from jconv.receptive_field.factors import Dim, Number, ratio
from jconv.receptive_field.intervals import Interval, Table

MOST_PHASES = 4096


@dataclasses.dataclass(frozen=True)
class ReceptiveField:
    """Which input pixels the pixels of one output depend on, one entry per axis asked for.

    Along an axis, output pixel i depends on `size` pixels at most, from first to last, around
    `centre + i * stride`. Numbers are exact: int, or Fraction where an output pixel steps by parts
    of an input pixel. Pixels outside the input are its padding.

    Attributes:
      size: pixels from the first to the last that an output pixel reads, of those in between too;
        0 where it reads none. Where outputs differ, the largest.
      stride: input pixels from one output pixel to the next; 0 where all read the same.
      offset: the first pixel that output pixel 0 reads, before the image's first if negative.
      centre: the middle of what output pixel 0 reads, in pixels.
      padding: pixels before the first that output pixel 0 reads, `-offset`.
      along: the output's axis along which the field moves, None where none does.
      aligned: no branches met whose strides or centres differ.
      misaligned: where they did, and how.
      unknown: operations that no rule knows, which were taken to read everything.
    """

    size: tuple[int, ...]
    stride: tuple[Number, ...]
    offset: tuple[int, ...]
    centre: tuple[Number, ...]
    padding: tuple[int, ...]
    along: tuple[int | None, ...]
    aligned: bool
    misaligned: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    _lines: tuple[Line, ...] = dataclasses.field(default=(), repr=False)

    def span(self, *index: int) -> tuple[tuple[int, int] | None, ...]:
        """Per axis the first and the last pixel that the output pixel at `index` reads.

        Bounds: it reads no pixel outside them, of the image or its padding. None where it reads
        none.

        Args:
          index: the output pixel, one number per axis; not used where the field does not move.
        """
        return tuple(line.span(i) for line, i in zip(self._lines, index, strict=True))


@dataclasses.dataclass(frozen=True)
class Line:
    """The field along one axis of the input, as the output's one dimension moves it."""

    dim: Dim
    lo: Number
    hi: Number
    along: int | None
    table: Table | None = None
    reads: bool = True

    def span(self, position: int) -> tuple[int, int] | None:
        """First and last pixel, None where there is none."""
        if self.table is not None:
            first, last = self.table[0][position], self.table[1][position]
        else:
            lo, hi = factors.at(self.dim, position)
            first, last = math.ceil(self.lo + lo), math.floor(self.hi + hi)
        return (first, last) if self.reads and first <= last else None

    @property
    def offset(self) -> int:
        """The first pixel that position 0 reads, the padding's too."""
        return math.ceil(self.lo)

    @property
    def stride(self) -> Number:
        """Pixels from one position to the next, on average where they alternate."""
        flat = factors.flatten(self.dim)[0]
        return ratio(flat.lo + flat.hi, 2)

    @property
    def size(self) -> int:
        """The most pixels that a position reads."""
        widest = max((self._width(position) for position in self._positions()), default=0)
        return widest if self.reads else 0

    def _width(self, position):
        span = self.span(position)
        return span[1] - span[0] + 1 if span else 0

    def _positions(self):
        """Enough of them: widths repeat with the fractions' denominators, and grow linearly."""
        if self.table is not None:
            return range(len(self.table[0]))
        digits = []
        for f in self.dim:
            period = math.lcm(Fraction(f.lo).denominator, Fraction(f.hi).denominator)
            if f.lo != f.hi:
                digits.append(
                    sorted(
                        {*range(min(period, f.extent)), *range(max(0, f.extent - period), f.extent)}
                    )
                )
            else:
                digits.append(range(min(period, f.extent)))
        if math.prod(map(len, digits)) > MOST_PHASES:
            digits = [range(f.extent) for f in self.dim]
        inner = factors.inner_extents(self.dim) if self.dim else []
        return [
            sum(d * s for d, s in zip(choice, inner, strict=True))
            for choice in itertools.product(*digits)
        ]


NONE = Line((), 0, -1, None, reads=False)


def line(domain: Affine, dep: Interval | None) -> Line:
    """The field of an output: all its elements together but along the dimension that moves most."""
    if dep is None:
        return NONE
    reach = [sum((abs(f.lo) + abs(f.hi)) * (f.extent - 1) for f in dim) for dim in dep.dims]
    along = max(range(len(reach)), key=reach.__getitem__, default=None)
    if along is None or not domain.varies(dep, along):
        along = None
    flat = domain.collapse(dep, [d for d in range(len(dep.dims)) if d != along])
    return Line(() if along is None else flat.dims[along], flat.lo, flat.hi, along, flat.table)


def field(lines: tuple[Line, ...], deps: list[Any]) -> ReceptiveField:
    """The report of one output."""
    there = [dep for dep in deps if dep is not None]
    misaligned = sorted({note for dep in there for note in dep.misaligned})
    unknown = sorted({name for dep in there for name in dep.unknown})
    offset = tuple(one.offset for one in lines)
    return ReceptiveField(
        size=tuple(one.size for one in lines),
        stride=tuple(one.stride for one in lines),
        offset=offset,
        centre=tuple(ratio(one.lo + one.hi, 2) for one in lines),
        padding=tuple(-o for o in offset),
        along=tuple(one.along for one in lines),
        aligned=not misaligned,
        misaligned=tuple(misaligned),
        unknown=tuple(unknown),
        _lines=lines,
    )
