"""The adjoints of pooling, gathered: each pixel sums the windows that hold it.

    by index     dx[n, i, c] = sum over the windows p that hold pixel i, where tap[n, p, c] is the
                               one that reads i there, of dy[n, p, c]
    of sums      dx[n, i, c] = sum over the windows p that hold pixel i of dy[n, p, c]

Shapes (one spatial axis; any number): dy and tap N P C, dx N H C, a tap counts a window's R pixels.

The stride cuts the image into cells of `stride` pixels: pixel i = cell * stride + phase, and window
p reads it by tap r if

    p * stride + r * dilation - lo = i
    so p = cell - q with r * dilation - lo = q * stride + phase

The shift q takes ceil(R / stride) values along an axis, or one more, and for each the tap r follows
from the phase alone, which is static. So dx is a sum of that many copies of dy, shifted by whole
windows and held against a small table: one pass that writes dx once and needs no other memory,
where a scatter needs the positions of all winners (int32, as large as dy) and a sum over taps one
term for every pixel of a window, 64 instead of 1 for windows of 8x8 side by side.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jconv.window import Window


@dataclasses.dataclass(frozen=True)
class Shift:
    """Along one axis, the windows p = cell - q: those of the cells from `first` up to `stop`.

    Attributes:
      taps: for each phase, the tap by which those windows read its pixels, -1 for none.
    """

    q: int
    first: int
    stop: int
    cells: int
    taps: tuple[int, ...]


def put(dy: jax.Array, tap: jax.Array, window: Window, *, dtype: Any) -> jax.Array:
    """dx (N, *input, C) of `dtype`, in which it is summed: each dy at the pixel that `tap` reads.

    Args:
      dy, tap: (N, *output, C); tap integer, row-major in the window.
    """

    dy = dy.astype(dtype)

    def term(shifts):
        t, reads = _taps(shifts, window)
        won = reads & (_of_cells(tap, shifts) == t.astype(tap.dtype))
        return jnp.where(won, _of_cells(dy, shifts), jnp.zeros((), dtype))

    return _gathered(term, dy, window, dtype)


def spread(dy: jax.Array, window: Window, *, dtype: Any) -> jax.Array:
    """dx (N, *input, C) of `dtype`, in which it is summed: each dy at all the pixels of its window.

    Args:
      dy: (N, *output, C).
    """

    dy = dy.astype(dtype)

    def term(shifts):
        _, reads = _taps(shifts, window)
        return jnp.where(reads, _of_cells(dy, shifts), jnp.zeros((), dtype))

    return _gathered(term, dy, window, dtype)


def terms(window: Window) -> int:
    """How many shifted copies of dy are summed: how many windows hold a pixel, at most."""
    return math.prod(map(len, _axes(window)))


def _gathered(
    term: Callable[[tuple[Shift, ...]], jax.Array], dy: jax.Array, window: Window, dtype: Any
) -> jax.Array:
    """The sum of `term`, whose axes are N, then a cell and a phase for each axis, then C."""
    axes = _axes(window)

    def padded(shifts):
        edges = ((s.first, s.cells - s.stop, 0) for s in shifts)
        pads = ((0, 0, 0), *_beside(edges, (0, 0, 0)), (0, 0, 0))
        return lax.pad(term(shifts), jnp.zeros((), dtype), pads)

    dx = functools.reduce(jnp.add, map(padded, itertools.product(*axes)))
    for axis in range(1, 1 + len(axes)):  # one after the other: explicit sharding allows no more
        dx = lax.collapse(dx, axis, axis + 2)
    return lax.slice(dx, (0,) * dx.ndim, (dy.shape[0], *window.input, dy.shape[-1]))


def _axes(window: Window) -> list[list[Shift]]:
    """Along each axis the shifts by which a window meets a cell, the first taps first.

    The order is that of the terms in the sum: in the reverse one XLA's code for 3x3 windows at
    stride 1 took 3 times as long.
    """
    axes = zip(
        window.input, window.output, window.size, window.stride, window.dilation, window.pads,
        strict=True,
    )  # fmt: skip
    return [_shifts(*axis) for axis in axes]


def _shifts(n, p, size, stride, dilation, pad) -> list[Shift]:
    stride = stride if p > 1 else max(1, min(stride, n))  # a single window: one cell will do
    cells = -(-n // stride)
    taps: dict[int, list[int]] = {}
    for r in range(size):
        q, phase = divmod(r * dilation - pad[0], stride)
        taps.setdefault(q, [-1] * stride)[phase] = r
    shifts = []
    for q in sorted(taps):
        first = min(max(q, 0), cells)
        shifts.append(Shift(q, first, max(first, min(cells, p + q)), cells, tuple(taps[q])))
    return [s for s in shifts if s.first < s.stop] or shifts[:1]


def _of_cells(a: jax.Array, shifts: tuple[Shift, ...]) -> jax.Array:
    """What stands at the windows of the cells, with an axis of one phase beside each of cells."""
    first = [0 if s.stop == s.first else s.first - s.q for s in shifts]
    stop = [f + s.stop - s.first for f, s in zip(first, shifts, strict=True)]
    a = lax.slice(a, (0, *first, 0), (a.shape[0], *stop, a.shape[-1]))
    return lax.expand_dims(a, range(2, 2 * len(shifts) + 1, 2))


def _taps(shifts: tuple[Shift, ...], window: Window) -> tuple[jax.Array, jax.Array]:
    """The tap, row-major in the window, by which each phase is read, and whether there is one."""
    taps = [0]
    for shift, size in zip(shifts, window.size, strict=True):
        taps = [-1 if min(t, r) < 0 else t * size + r for t in taps for r in shift.taps]
    phases = (len(shift.taps) for shift in shifts)
    shape = (1, *_beside(phases, 1, after=False), 1)
    tap = jnp.asarray([max(t, 0) for t in taps], jnp.int32).reshape(shape)
    return tap, jnp.asarray([t >= 0 for t in taps]).reshape(shape)


def _beside(entries: Iterable[Any], one: Any, *, after: bool = True) -> tuple[Any, ...]:
    """For each axis its entry, and `one` after it, or before."""
    pairs = ((entry, one) if after else (one, entry) for entry in entries)
    return tuple(itertools.chain.from_iterable(pairs))
