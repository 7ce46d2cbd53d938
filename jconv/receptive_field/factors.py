"""Positions along one dimension of a value, as digits of mixed radix, and affine maps of them.

A dimension of extent n is a tuple of factors, outermost first, whose extents multiply to n:
position m has the digits d_k, m = sum d_k * (product of the extents further in). Each factor says
by how much the first (`lo`) and the last (`hi`) input position move with its digit. So what a
reshape merges stays apart until an operation needs the merged position as one number:
space-to-depth, pixel shuffles and windows of attention are exact.

All numbers are exact: int, or Fraction where a transposed convolution or a resize steps by parts.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

type Number = int | Fraction


class Factor(NamedTuple):
    """Digits 0 to extent - 1; one more moves the first position by `lo`, the last by `hi`."""

    extent: int
    lo: Number
    hi: Number


type Dim = tuple[Factor, ...]  # () has extent 1


def constant(extent: int) -> Dim:
    """A dimension along which nothing moves."""
    return () if extent == 1 else (Factor(extent, 0, 0),)


def is_constant(dim: Dim) -> bool:
    """Whether nothing moves along it."""
    return not any(f.lo or f.hi for f in dim)


def extent(dim: Dim) -> int:
    """The number of positions."""
    return math.prod(f.extent for f in dim)


def ratio(a: Number, b: Number = 1) -> Number:
    """a / b, an int where it is one."""
    value = Fraction(a, b) if isinstance(a, int) and isinstance(b, int) else Fraction(a) / b
    return value.numerator if value.denominator == 1 else value


def tidy(factors: Sequence[Factor]) -> Dim:
    """The normal form: no factor of extent 1, and no two that count on as one."""
    out: list[Factor] = []
    for f in factors:
        if f.extent == 1:
            continue
        if out and out[-1].lo == f.lo * f.extent and out[-1].hi == f.hi * f.extent:
            out[-1] = Factor(out[-1].extent * f.extent, f.lo, f.hi)
        else:
            out.append(f)
    return tuple(out)


def lowest(dim: Dim) -> Number:
    """The least that the first position moves by, over all positions."""
    return sum(min(0, f.lo * (f.extent - 1)) for f in dim)


def highest(dim: Dim) -> Number:
    """The most that the last position moves by, over all positions."""
    return sum(max(0, f.hi * (f.extent - 1)) for f in dim)


def at(dim: Dim, position: int) -> tuple[Number, Number]:
    """How far the first and the last position have moved at this one."""
    lo = hi = 0
    for f in reversed(dim):
        position, digit = divmod(position, f.extent)
        lo, hi = lo + f.lo * digit, hi + f.hi * digit
    return lo, hi


def flatten(dim: Dim) -> tuple[Factor, Number, Number]:
    """One factor that bounds the dimension from both sides, and what to add to lo and to hi.

    Of the slopes that its factors offer, the one whose bound is tightest halfway along.
    """
    if len(dim) <= 1:
        return (dim[0] if dim else Factor(1, 0, 0)), 0, 0
    inner = inner_extents(dim)
    lo, shift_lo = _bound([f.lo for f in dim], dim, inner, -1)
    hi, shift_hi = _bound([f.hi for f in dim], dim, inner, 1)
    return Factor(extent(dim), lo, hi), shift_lo, shift_hi


def _bound(steps, dim, inner, sign):
    """slope and shift of the tightest line below (sign -1) or above all positions."""

    def shift(slope):
        slack = (
            (step - slope * s) * (f.extent - 1)
            for step, s, f in zip(steps, inner, dim, strict=True)
        )
        return sum(max(0, sign * e) for e in slack) * sign

    half = Fraction(extent(dim) - 1, 2)
    slopes = dict.fromkeys(ratio(step, s) for step, s in zip(steps, inner, strict=True))
    best = min(slopes, key=lambda slope: sign * (slope * half + shift(slope)))
    return best, shift(best)


def inner_extents(dim: Dim) -> list[int]:
    """For each factor the product of the extents further in."""
    out = list(itertools.accumulate((f.extent for f in reversed(dim)), int.__mul__, initial=1))
    return out[-2::-1]


def split(factors: Sequence[Factor], extents: Sequence[int]) -> list[Dim] | None:
    """The factors dealt out to dimensions of these extents, or None where a digit would be cut."""
    rest, dims = list(factors), []
    for n in reversed(extents):
        dim: list[Factor] = []
        while n > 1:
            f = rest.pop()
            if n % f.extent == 0:
                n //= f.extent
                dim.insert(0, f)
            elif f.extent % n == 0:
                rest.append(Factor(f.extent // n, f.lo * n, f.hi * n))
                dim.insert(0, Factor(n, f.lo, f.hi))
                n = 1
            else:
                return None
        dims.insert(0, tidy(dim))
    return dims


def refined(a: Dim, b: Dim) -> tuple[list[Factor], list[Factor]] | None:
    """Both on common digits, or None where there are none."""
    if [f.extent for f in a] == [f.extent for f in b]:
        return list(a), list(b)
    steps = sorted({*inner_extents(a), *inner_extents(b), extent(a)})
    if any(more % less for less, more in itertools.pairwise(steps)):
        return None
    extents = [more // less for less, more in itertools.pairwise(steps)][::-1]
    return _on(a, extents), _on(b, extents)


def _on(dim, extents):
    """The factors of a dimension, each cut into some of these extents."""
    out, rest = [], list(dim)
    for n in reversed(extents):
        f = rest.pop()
        out.insert(0, Factor(n, f.lo, f.hi))
        if f.extent > n:
            rest.append(Factor(f.extent // n, f.lo * n, f.hi * n))
    return out
