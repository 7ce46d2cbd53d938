"""The rules' vocabulary on intervals: how operations move first and last positions.

A window shifts and scales them, a sum of branches takes the union, a reduction the extremes along a
dimension. Where the result can't be told exactly, it is too wide, never too narrow.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from jconv.receptive_field import factors
from jconv.receptive_field.factors import Dim, Factor, constant, ratio
from jconv.receptive_field.intervals import (
    At,
    Interval,
    beyond,
    ends,
    flat,
    interval,
    put,
    tabled,
    union,
)  # fmt: skip
from jconv.receptive_field.taps import Taps, groups

NOWHERE = np.int64(1) << 40  # beyond all positions: of what reads nothing


class Affine:
    """Intervals along an input axis of n positions."""

    exact = False  # known positions are followed by ranges

    def __init__(self, n: int):
        self.n = n

    def start(self, shape: Sequence[int], axis: int) -> Interval:
        """The input itself: every element reads its own position along the axis."""
        dims = [constant(size) for size in shape]
        dims[axis] = factors.tidy([Factor(shape[axis], 1, 1)])
        return Interval(tuple(dims), 0, 0)

    def varies(self, dep: Interval, dim: int) -> bool:
        """Whether not all positions of a dimension read the same."""
        return not factors.is_constant(dep.dims[dim])

    def named(self, dep: Interval, name: str) -> Interval:
        """dep, with an operation that no rule knows on its way."""
        return dataclasses.replace(dep, unknown=dep.unknown | {name})

    def same(self, a: Any, b: Any) -> bool:
        """Whether two values read the same."""
        return a == b

    def place(self, dep: Interval, source: Sequence[int | None], shape: Sequence[int]) -> Interval:
        """A value of `shape` whose dimension k is `source[k]` of dep, or None: constant along it.

        Dimensions of dep that are not named have extent 1 or are constant.
        """
        dims = tuple(
            dep.dims[s] if s is not None and dep.dims[s] else constant(size)
            for s, size in zip(source, shape, strict=True)
        )
        return dataclasses.replace(dep, dims=dims)

    def collapse(self, dep: Interval, dims: Sequence[int]) -> Interval:
        """Reduced over these dimensions, which stay with extent 1."""
        gone = [d for d in dims if dep.dims[d]]
        if not gone:
            return dep
        kept: list[Dim] = [() if d in gone else dim for d, dim in enumerate(dep.dims)]
        if not any(self.varies(dep, d) for d in gone):
            return dataclasses.replace(dep, dims=tuple(kept))
        if dep.table is not None:
            lo, hi = min(dep.table[0]), max(dep.table[1])
        else:
            lo = dep.lo + sum(factors.lowest(dep.dims[d]) for d in gone)
            hi = dep.hi + sum(factors.highest(dep.dims[d]) for d in gone)
        return interval(kept, lo, hi, self.n).noted([dep])

    def whole(self, dep: Interval, name: str | None = None) -> Interval:
        """Everything that any element of dep reads; `name` is the operation that no rule knows."""
        dep = self.collapse(dep, range(len(dep.dims)))
        return self.named(dep, name) if name else dep

    def window(self, dep: Interval, dim: int, n: int, out: int, taps: Taps) -> Interval:
        """Dimension `dim`, of extent n, read through a window, gets `out` positions."""
        if not self.varies(dep, dim):
            return dataclasses.replace(dep, dims=put(dep.dims, dim, constant(out)))
        if n == out and taps.is_identity:
            return dep
        affine = dep.table is None and len(dep.dims[dim]) == 1 and taps.base_dilation == 1
        if len(dep.moving) == 1 and not affine:
            return self._window_of_table(dep, dim, out, taps)
        f, lo, hi = flat(dep, dim)
        scale = taps.base_dilation
        near = ratio(-taps.pad, scale)
        far = ratio((taps.size - 1) * taps.dilation - taps.pad, scale)
        step = ratio(taps.stride, scale)
        moved = Factor(out, f.lo * step, f.hi * step)
        lo, hi = lo + min(f.lo * near, f.lo * far), hi + max(f.hi * near, f.hi * far)
        return interval(put(dep.dims, dim, [moved]), lo, hi, self.n).noted([dep])

    def _window_of_table(self, dep, dim, out, taps):
        first, last = ends(dep, dim)
        f, _, _ = flat(dep, dim)
        slope = f.lo if f.lo == f.hi else 0
        o, base = np.arange(out), taps.base_dilation
        lows, highs = np.full(out, NOWHERE), np.full(out, -NOWHERE)
        for t in range(taps.size):
            at = o * taps.stride - taps.pad + t * taps.dilation
            reads = at % base == 0
            near, far = beyond(first, last, slope, at // base)
            lows = np.where(reads, np.minimum(lows, near), lows)
            highs = np.where(reads, np.maximum(highs, far), highs)
        return self._tabled(dep, dim, lows, highs)

    def _tabled(self, dep, dim, first, last):
        shape = [factors.extent(d) for d in dep.dims]
        return tabled(len(shape), dim, first, last, shape, self.n).noted([dep])

    def table(self, dep: Interval, dim: int, reads: np.ndarray) -> Interval:
        """Position o of dimension `dim` reads those with reads[o], (out, n) bool."""
        if not self.varies(dep, dim):
            return dataclasses.replace(dep, dims=put(dep.dims, dim, constant(len(reads))))
        if len(dep.moving) > 1:  # other dimensions move too: from the first read to the last
            f, lo, hi = flat(dep, dim)
            any_row = np.where(reads.any(1, keepdims=True), reads, True)
            near, far = any_row.argmax(1), reads.shape[1] - 1 - any_row[:, ::-1].argmax(1)
            moved = tabled(1, 0, near, far, [len(reads)], reads.shape[1])
            g = moved.dims[0][0] if moved.dims[0] else Factor(1, 0, 0)
            nearest, farthest = (g.lo, moved.lo), (g.hi, moved.hi)
            # Where positions run backwards, the last one that is read comes first.
            step_lo, at_lo = nearest if f.lo >= 0 else farthest
            step_hi, at_hi = farthest if f.hi >= 0 else nearest
            steps = Factor(len(reads), f.lo * step_lo, f.hi * step_hi)
            lo, hi = lo + f.lo * at_lo, hi + f.hi * at_hi
            return interval(put(dep.dims, dim, [steps]), lo, hi, self.n).noted([dep])
        first, last = ends(dep, dim)
        first = np.where(reads, first, NOWHERE).min(1)
        last = np.where(reads, last, -NOWHERE).max(1)
        return self._tabled(dep, dim, first, last)

    def flip(self, dep: Interval, dims: Sequence[int]) -> Interval:
        """The dimensions run backwards."""
        if dep.table is not None:
            if dep.moving[0] not in dims:
                return dep
            first, last = ends(dep, dep.moving[0])
            return self._tabled(dep, dep.moving[0], first[::-1], last[::-1])
        kept, lo, hi = list(dep.dims), dep.lo, dep.hi
        for d in dims:
            lo += sum(f.lo * (f.extent - 1) for f in kept[d])
            hi += sum(f.hi * (f.extent - 1) for f in kept[d])
            kept[d] = tuple(Factor(f.extent, -f.lo, -f.hi) for f in kept[d])
        return interval(kept, lo, hi, self.n).noted([dep])

    def prefix(self, dep: Interval, dim: int, reverse: bool) -> Interval:
        """Position o reads 0 to o along the dimension, or o to the end."""
        if not self.varies(dep, dim):
            return dep
        if len(dep.moving) > 1:
            extent = factors.extent(dep.dims[dim])
            whole = self.collapse(dep, [dim])
            source = [None if d == dim else d for d in range(len(dep.dims))]
            shape = [factors.extent(d) for d in put(whole.dims, dim, constant(extent))]
            return self.place(whole, source, shape)
        first, last = ends(dep, dim)
        step = -1 if reverse else 1
        first = np.minimum.accumulate(first[::step])[::step]
        last = np.maximum.accumulate(last[::step])[::step]
        return self._tabled(dep, dim, first, last)

    def reshape(self, dep: Interval, old: Sequence[int], shape: Sequence[int]) -> Interval:
        """The same elements, of a value of shape `old`, in row-major order."""
        dims: list[Dim] = [()] * len(shape)
        lo, hi, table = dep.lo, dep.hi, dep.table
        for olds, news in groups(tuple(old), tuple(shape)):
            together = [f for d in olds for f in dep.dims[d]]
            extents = [shape[d] for d in news]
            parts = factors.split(together, extents)
            if parts is None:
                one, more_lo, more_hi = factors.flatten(factors.tidy(together))
                lo, hi = lo + more_lo, hi + more_hi
                parts = factors.split([one], extents)
                assert parts is not None  # one factor can be cut anywhere
            for d, part in zip(news, parts, strict=True):
                dims[d] = part
        found = interval(dims, lo, hi, self.n).noted([dep])
        if table is None or len(found.moving) != 1:
            return found
        kept = factors.extent(found.dims[found.moving[0]]) == len(table[0])
        return dataclasses.replace(found, table=table if kept else None)

    def index(self, dep: Interval, dim: int, position: int) -> Interval:
        """The slice at a position of a dimension, which goes."""
        kept = (*dep.dims[:dim], *dep.dims[dim + 1 :])
        if dep.table is not None:
            if dim != dep.moving[0]:
                return dataclasses.replace(dep, dims=kept)
            lo, hi = dep.table[0][position], dep.table[1][position]
            lo, hi = (lo, hi) if lo <= hi else (0, 0)  # of nothing any bound will do
            return interval(kept, lo, hi, self.n).noted([dep])
        lo, hi = factors.at(dep.dims[dim], position)
        return interval(kept, dep.lo + lo, dep.hi + hi, self.n).noted([dep])

    def stack(self, deps: Sequence[Interval | None], shape: Sequence[int]) -> Interval:
        """Slices one behind the other, along a new first dimension; None reads nothing."""
        there = [dep for dep in deps if dep is not None]
        if any(dep.moving for dep in there):
            joined = self.join(there, shape[1:], None)
            return self.place(joined, [None, *range(len(shape) - 1)], shape)
        first = [NOWHERE if dep is None else int(dep.lo) for dep in deps]
        last = [-NOWHERE if dep is None else int(dep.hi) for dep in deps]
        found = tabled(len(shape), 0, np.array(first), np.array(last), shape, self.n)
        return found.noted(there)

    def concatenate(
        self, parts: Sequence[Interval | None], dim: int, sizes: Sequence[int],
        shape: Sequence[int], at: At,
    ) -> Interval:  # fmt: skip
        """Values side by side along a dimension, of extents `sizes`; None reads nothing."""
        there = [part for part in parts if part is not None]
        if all(part.moving in ([], [dim]) for part in there) and any(p.moving for p in there):
            lows, highs = [], []
            for part, n in zip(parts, sizes, strict=True):
                first, last = (
                    (np.array([NOWHERE]), np.array([-NOWHERE])) if part is None else ends(part, dim)
                )
                lows.append(np.broadcast_to(first, n))
                highs.append(np.broadcast_to(last, n))
            first, last = np.concatenate(lows), np.concatenate(highs)
            return tabled(len(shape), dim, first, last, shape, self.n).noted(there)
        starts = itertools.accumulate(sizes, initial=0)
        moved = [
            self.window(part, dim, n, shape[dim], Taps(pad=start))
            for part, n, start in zip(parts, sizes, starts, strict=False)
            if part is not None
        ]
        moves = any(self.varies(part, dim) for part in there)
        return self.join(moved, shape, None if moves else at)

    def join(self, deps: Sequence[Interval], shape: Sequence[int], at: At) -> Interval:
        """What any of the deps reads; `at` names the operation where branches meet, if it matters
        that they are aligned.
        """
        same = range(len(shape))
        return union([self.place(dep, same, shape) for dep in deps], self.n, at)

    def choose(self, which: np.ndarray, cases: Sequence[Any], shape: Sequence[int]) -> Any:
        """Elementwise one of several cases, as the known array `which` says; None reads nothing."""
        used = [case for i, case in enumerate(cases) if case is not None and (which == i).any()]
        return self.join(used, shape, None) if used else None
