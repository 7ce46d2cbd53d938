"""What each element of a value reads along one axis of the input, from first to last position.

Element (i, j, ...) depends on positions lo(i, j, ...) to hi(i, j, ...) at most; both are affine in
the digits of its own indices (`factors.py`). Positions outside the input are its padding. Where
they move along one dimension alone, as in most values, and an affine map is not exact, a table says
first and last position for each index: the phases of a transposed convolution or of a resize, the
pieces of a concatenation. The affine map then is a strip round the table.

References: Araujo, Norris & Sim 2019, "Computing receptive fields of convolutional neural
networks", Distill; Cousot & Halbwachs 1978 for affine bounds as an abstract domain.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction

import numpy as np

from jconv.receptive_field import factors
from jconv.receptive_field.factors import Dim, Factor, Number, constant, ratio
from jconv.receptive_field.strip import strip

type At = Callable[[], str | None] | None  # names the place where branches meet, if it matters
type Table = tuple[tuple[int, ...], tuple[int, ...]]  # first and last, per index


@dataclasses.dataclass(frozen=True, slots=True)
class Interval:
    """What each element of a value reads: lo to hi at index 0, moving as `dims` say.

    Attributes:
      dims: one per dimension of the value.
      table: first and last along the one dimension that moves, where `dims` are not exact.
      misaligned: where branches met whose strides or centres differ.
      unknown: operations on the way that no rule knows.
    """

    dims: tuple[Dim, ...]
    lo: Number
    hi: Number
    table: Table | None = None
    misaligned: frozenset[str] = frozenset()
    unknown: frozenset[str] = frozenset()

    @property
    def moving(self) -> list[int]:
        """The dimensions along which elements read different positions."""
        return [d for d, dim in enumerate(self.dims) if not factors.is_constant(dim)]

    def noted(self, others: Iterable[Interval], note: str | None = None) -> Interval:
        """Itself, with what was noted on the way to the others too."""
        misaligned, unknown = self.misaligned, self.unknown
        for other in others:
            misaligned, unknown = misaligned | other.misaligned, unknown | other.unknown
        misaligned |= {note} if note else frozenset()
        return dataclasses.replace(self, misaligned=misaligned, unknown=unknown)


def interval(dims: Iterable[Sequence[Factor]], lo: Number, hi: Number, n: int) -> Interval:
    """In normal form, along an input axis of n positions."""
    tidied = tuple(map(factors.tidy, dims))
    steps = [step for dim in tidied for f in dim for step in (f.lo, f.hi)]
    if all(step.denominator == 1 for step in steps):  # positions are whole
        lo, hi = math.ceil(lo), math.floor(hi)
    if not any(steps):
        lo, hi = min(max(lo, 0), n - 1), max(min(hi, n - 1), 0)
    return Interval(tidied, lo, hi)


def tabled(
    rank: int, dim: int, first: np.ndarray, last: np.ndarray, shape: Sequence[int], n: int
) -> Interval:
    """Of a value of `shape`, from first and last position for each index of one dimension.

    Indices with first > last read nothing.
    """
    there = first <= last
    near, far = first, last
    if not there.any():
        first, last = near, far = np.zeros_like(first), np.zeros_like(last)
    elif not there.all():  # for the lines any bound will do: a neighbour's
        nearest = np.maximum.accumulate(np.where(there, np.arange(len(there)), -1))
        nearest = np.where(nearest < 0, there.argmax(), nearest)
        near, far = first[nearest], last[nearest]
    below, above = strip(near, far)
    dims = [constant(shape[d]) for d in range(rank)]
    dims[dim] = factors.tidy([Factor(len(first), below.slope, above.slope)])
    found = interval(dims, below.start, above.start, n)
    if not found.moving:  # a table needs a dimension that moves
        return dataclasses.replace(found, lo=int(near.min()), hi=int(far.max()))
    affine = ends(found, dim)
    if (
        np.array_equal(first, affine[0])
        and np.array_equal(last, affine[1])
        and not any(Fraction(step).denominator > 1 for step in (below.slope, above.slope))
    ):
        return found
    return dataclasses.replace(found, table=(tuple(first.tolist()), tuple(last.tolist())))


def ends(dep: Interval, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """First and last position for each index of the only dimension that moves, or of any."""
    if dep.table is not None:
        return np.array(dep.table[0], np.int64), np.array(dep.table[1], np.int64)
    first, last = [np.zeros(1, object)], [np.zeros(1, object)]
    for f in dep.dims[dim]:
        digits = np.arange(f.extent).astype(object)
        first.append(np.add.outer(first.pop(), digits * f.lo).ravel())
        last.append(np.add.outer(last.pop(), digits * f.hi).ravel())
    lo = [math.ceil(dep.lo + move) for move in first[0]]
    hi = [math.floor(dep.hi + move) for move in last[0]]
    return np.array(lo, np.int64), np.array(hi, np.int64)


def beyond(
    first: np.ndarray, last: np.ndarray, slope: Number, at: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """First and last at any index, those outside as if the middle went on."""
    n, period = len(first), slope.denominator
    middle = max(0, min(n // 2, n - period))
    inside = (at >= 0) & (at < n)
    like = np.where(inside, at, np.minimum(middle + (at - middle) % period, n - 1))
    moved = (at - like) // period * slope.numerator
    return first[like] + moved, last[like] + moved


def flat(dep: Interval, dim: int) -> tuple[Factor, Number, Number]:
    """The dimension as one factor, and lo and hi that hold with it."""
    f, lo, hi = factors.flatten(dep.dims[dim])
    return f, dep.lo + lo, dep.hi + hi


def put(dims: tuple[Dim, ...], dim: int, new: Sequence[Factor]) -> tuple[Dim, ...]:
    """dims with another one in a place."""
    return (*dims[:dim], tuple(new), *dims[dim + 1 :])


def pair(a: Interval, b: Interval, n: int, at: At) -> Interval:
    """What either of two values of the same shape reads; `at`: where they meet, if it matters."""
    for one, other in ((a, b), (b, a)):
        if not one.moving and one.lo <= 0 and one.hi >= n - 1:
            return one.noted([other])  # everything: there is nothing else to read
    why = _misaligned(a, b) if at is not None else None
    place = at() if why and at is not None else None
    note = f"{place}: {why}" if place else None
    return _union(a, b, n).noted([a, b], note)


def _union(a, b, n):
    moving = {*a.moving, *b.moving}
    same_steps = a.table is b.table is None and a.dims == b.dims
    if same_steps:
        return interval(a.dims, min(a.lo, b.lo), max(a.hi, b.hi), n)
    if len(moving) == 1:
        (dim,) = moving
        shape = [factors.extent(d) for d in a.dims]
        (first_a, last_a), (first_b, last_b) = (_along(dep, dim) for dep in (a, b))
        first, last = np.minimum(first_a, first_b), np.maximum(last_a, last_b)
        return tabled(len(shape), dim, first, last, shape, n)
    forms = _on_common_digits(a, b)
    for one, other in (forms, forms[::-1]):
        if _within(other, one):
            return interval(*one, n)
    lo, steps_lo = _outer(forms, 1, -1)
    hi, steps_hi = _outer(forms, 2, 1)
    moves = iter(zip(steps_lo, steps_hi, strict=True))
    dims = [[Factor(f.extent, *next(moves)) for f in dim] for dim in forms[0][0]]
    return interval(dims, lo, hi, n)


def _along(dep, dim):
    """`ends`, also where nothing moves."""
    first, last = ends(dep, dim)
    count = factors.extent(dep.dims[dim])
    return np.broadcast_to(first, count), np.broadcast_to(last, count)


def _misaligned(a, b) -> str | None:
    """Why two branches are not aligned, in words, or None if they are."""
    if not a.moving and not b.moving:
        return None
    starts = []
    for dep in (a, b):
        centre, steps = dep.lo + dep.hi, []
        for dim in dep.dims:
            f, lo, hi = factors.flatten(dim)
            centre += lo + hi
            steps.append(f.lo + f.hi)
        starts.append((steps, centre))
    (steps_a, centre_a), (steps_b, centre_b) = starts
    for step_a, step_b in zip(steps_a, steps_b, strict=True):
        if step_a != step_b:
            return f"strides {ratio(step_a, 2)} and {ratio(step_b, 2)}"
    apart = abs(ratio(centre_a - centre_b, 2))
    return f"centres {apart} apart" if apart else None


def _on_common_digits(a, b):
    """(dims, lo, hi) of both, with the same factors."""
    dims, lows, highs = ([], []), [a.lo, b.lo], [a.hi, b.hi]
    for one, other in zip(a.dims, b.dims, strict=True):
        found = factors.refined(one, other)
        if found is None:
            flats = [factors.flatten(dim) for dim in (one, other)]
            found = [flats[0][0]], [flats[1][0]]
            lows = [lo + f[1] for lo, f in zip(lows, flats, strict=True)]
            highs = [hi + f[2] for hi, f in zip(highs, flats, strict=True)]
        dims[0].append(found[0])
        dims[1].append(found[1])
    return [(dims[0], lows[0], highs[0]), (dims[1], lows[1], highs[1])]


def _factors(form):
    return [f for dim in form[0] for f in dim]


def _within(inner, outer):
    """Whether everywhere the one lies within the other."""
    lo, hi = inner[1] - outer[1], inner[2] - outer[2]
    for f, g in zip(_factors(inner), _factors(outer), strict=True):
        lo += min(0, (f.lo - g.lo) * (f.extent - 1))
        hi += max(0, (f.hi - g.hi) * (f.extent - 1))
    return lo >= 0 and hi <= 0


def _outer(forms, end, sign):
    """The bound of both on one side that is tighter halfway: where it starts, and its steps.

    Args:
      end: 1 for lo, 2 for hi; with sign -1 or 1.
    """
    extents = [f.extent for f in _factors(forms[0])]
    ours, theirs = ([f[end] for f in _factors(form)] for form in forms)
    common = [a if a == b else 0 for a, b in zip(ours, theirs, strict=True)]

    def start(steps):
        """Where a bound with these steps has to start to hold for both."""
        bounds = []
        for form, own in zip(forms, (ours, theirs), strict=True):
            moves = zip(own, steps, extents, strict=True)
            bounds.append(
                sign * form[end] + sum(max(0, sign * (a - b) * (n - 1)) for a, b, n in moves)
            )
        return sign * max(bounds)

    def halfway(steps):
        moved = sum(step * (n - 1) for step, n in zip(steps, extents, strict=True))
        return sign * (2 * start(steps) + moved)

    best = min((ours, theirs, common), key=halfway)
    return start(best), best


def union(deps: Sequence[Interval], n: int, at: At) -> Interval:
    """What any of several values of the same shape reads."""
    return functools.reduce(lambda a, b: pair(a, b, n, at), deps)
