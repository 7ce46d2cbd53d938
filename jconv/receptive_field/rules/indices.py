"""Gathers, scatters and slices at computed positions.

Positions that are known without the input are followed: one by one in the domain of sets, by the
range that each index reads in the affine one. Positions that the input decides are read too, and
what they pick from is read whole, and the operation named.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from jconv.receptive_field.constants import Known
from jconv.receptive_field.rules.call import Call, is_dep, joined
from jconv.receptive_field.taps import Taps


@dataclasses.dataclass(frozen=True)
class Slices:
    """Slices of an array x, one for each index of `batch`.

    Attributes:
      shape: of x.
      sizes: of a slice, per dimension of x.
      batch: extents of the dimensions that count the slices.
      batch_at: where those stand among the dimensions of the gathered array.
      offset_at: where a dimension of x stands there, None where slices of extent 1 drop it.
      paired: per dimension of x, the batch dimension that it runs along with, or None.
      starts: per dimension of x, where slices start (*batch), None where that is not known.
      drops: slices that do not fit are left out, not moved.
    """

    shape: tuple[int, ...]
    sizes: tuple[int, ...]
    batch: tuple[int, ...]
    batch_at: tuple[int, ...]
    offset_at: tuple[int | None, ...]
    paired: tuple[int | None, ...]
    starts: tuple[np.ndarray | None, ...]
    drops: bool = False

    @property
    def gathered(self) -> tuple[int, ...]:
        """The shape of the gathered array."""
        offsets = dict(zip(self.offset_at, self.sizes, strict=True))
        rank = len(self.batch) + sum(at is not None for at in self.offset_at)
        batch = dict(zip(self.batch_at, self.batch, strict=True))
        return tuple(batch.get(d, offsets.get(d, 1)) for d in range(rank))

    def numbers(self) -> np.ndarray | None:
        """Per gathered element the row-major number of x's, -1 where it is left out; None where a
        start is not known.
        """
        if any(start is None for start in self.starts):
            return None
        shape, number = self.gathered, np.zeros((), np.int64)
        inside = np.array(True)
        for d, (n, size) in enumerate(zip(self.shape, self.sizes, strict=True)):
            start, pair = self.start(d), self.paired[d]
            if pair is not None:
                start = np.arange(n).reshape(
                    [-1 if k == pair else 1 for k in range(len(self.batch))]
                )
            elif self.drops:
                fits = (self._given(d) >= 0) & (self._given(d) <= n - size)
                inside = inside & self._at_batch(np.broadcast_to(fits, self.batch), shape)
            at = self._at_batch(np.broadcast_to(start, self.batch), shape)
            if (o := self.offset_at[d]) is not None:
                at = at + np.arange(size).reshape([-1 if k == o else 1 for k in range(len(shape))])
            number = number * n + at
        return np.where(np.broadcast_to(inside, shape), number, -1)

    def start(self, d: int) -> np.ndarray:
        """Where slices start along dimension d of x, moved to where they fit."""
        return np.clip(self._given(d), 0, self.shape[d] - self.sizes[d])

    def _given(self, d):
        start = self.starts[d]
        assert start is not None
        return start

    def _at_batch(self, values, shape):
        """(*batch) as of the gathered array's rank."""
        order = np.argsort(self.batch_at)
        values = values.transpose(order)
        at = sorted(self.batch_at)
        extents = [1] * len(shape)
        for d, n in zip(at, values.shape, strict=True):
            extents[d] = n
        return values.reshape(extents)

    def along(self, d: int) -> tuple[int, np.ndarray] | None:
        """The batch dimension along which slices move most along d, and which of x's positions its
        indices read, (batch, n) bool; None where that is not known.
        """
        if (pair := self.paired[d]) is not None:
            return pair, np.eye(self.shape[d], dtype=bool)
        if self.starts[d] is None or not self.batch:
            return None
        start = np.broadcast_to(self.start(d), self.batch)
        ranges = []
        for b in range(len(self.batch)):
            rest = tuple(k for k in range(len(self.batch)) if k != b)
            ranges.append((start.min(rest), start.max(rest) + self.sizes[d]))
        b = min(range(len(ranges)), key=lambda b: (ranges[b][1] - ranges[b][0]).mean())
        (lo, hi), at = ranges[b], np.arange(self.shape[d])
        return b, (at >= lo[:, None]) & (at < hi[:, None])


def gather(domain: Any, call: Call) -> Any:
    """x at known indices, or all of what unknown ones pick from."""
    x, indices = call.ins
    dims = call.params["dimension_numbers"]
    slices = _slices(
        call.shapes[0], call.params["slice_sizes"], indices, call.shapes[1], dims.offset_dims,
        dims.collapsed_slice_dims, dims.start_index_map, dims.operand_batching_dims,
        dims.start_indices_batching_dims, call.params["mode"],
    )  # fmt: skip
    return _read(domain, call, x, slices, [(indices, slices.batch_at)], "gather")


def _slices(
    shape, sizes, indices, index_shape, offset_dims, dropped, start_map, paired, pairs, mode
) -> Slices:
    batch = tuple(index_shape[:-1])
    rank = len(batch) + len(offset_dims)
    batch_at = tuple(d for d in range(rank) if d not in offset_dims)
    gone = {*dropped, *paired}
    kept = iter(offset_dims)
    offset_at = tuple(None if d in gone else next(kept) for d in range(len(shape)))
    pair_of = dict(zip(paired, pairs, strict=True))
    starts: list[np.ndarray | None] = []
    for d in range(len(shape)):
        if d not in start_map:
            starts.append(np.zeros((1,) * len(batch), np.int64))
        elif isinstance(indices, Known):
            starts.append(indices.value[..., start_map.index(d)].astype(np.int64))
        else:
            starts.append(None)
    return Slices(
        tuple(shape), tuple(sizes), batch, batch_at, offset_at,
        tuple(pair_of.get(d) for d in range(len(shape))), tuple(starts), "FILL" in str(mode),
    )  # fmt: skip


def dynamic_slice(domain: Any, call: Call) -> Any:
    """A slice whose start is computed."""
    x, *starts = call.ins
    slices = _one_slice(call.shapes[0], call.params["slice_sizes"], starts)
    return _read(domain, call, x, slices, [(start, ()) for start in starts], "dynamic_slice")


def _one_slice(shape, sizes, starts):
    rank = len(shape)
    known = (np.asarray(s.value, np.int64) if isinstance(s, Known) else None for s in starts)
    return Slices(
        tuple(shape), tuple(sizes), (), (), tuple(range(rank)), (None,) * rank, tuple(known)
    )


def _read(domain, call, x, slices, deciding, name):
    """The slices of x, and what decides where they lie.

    Args:
      deciding: (value, where its dimensions but the last stand in the result).
    """
    (shape,), parts = call.outs, []
    if is_dep(x):
        numbers = slices.numbers() if domain.exact else None
        if numbers is not None:
            parts.append(domain.take(x, slices.shape, numbers))
        else:
            parts.append(_picked(domain, x, slices, shape, name))
    for value, at in deciding:
        if is_dep(value):
            source: list[int | None] = [None] * len(shape)
            for k, d in enumerate(at):
                source[d] = k
            value = domain.collapse(value, [len(at)]) if at or name == "gather" else value
            parts.append(domain.place(value, source, shape))
    return joined(domain, parts, shape, None)


def _picked(domain, x, slices, shape, name):
    """Dimension by dimension: kept, cut, read by ranges along a batch dimension, or whole."""
    source: list[int | None] = [None] * len(shape)
    for d, (n, size) in enumerate(zip(slices.shape, slices.sizes, strict=True)):
        offset = slices.offset_at[d]
        if not domain.varies(x, d):
            x = domain.collapse(x, [d])
        elif size == n and slices.paired[d] is None and offset is not None:
            source[offset] = d
        elif (start := _fixed(slices, d)) is not None:
            x = domain.window(x, d, n, size, Taps(1, 1, -start))
            if offset is not None:
                source[offset] = d
        else:
            found = slices.along(d)
            if found is not None and source[slices.batch_at[found[0]]] is None:
                x = domain.table(x, d, found[1])
                source[slices.batch_at[found[0]]] = d
            else:
                x = domain.named(domain.collapse(x, [d]), name)
    return domain.place(x, source, shape)


def _fixed(slices, d):
    """Where every slice starts along a dimension, if all start there."""
    if slices.starts[d] is None or slices.paired[d] is not None:
        return None
    start = slices.start(d)
    return int(start.flat[0]) if start.size and (start == start.flat[0]).all() else None


def scatter(domain: Any, call: Call) -> Any:
    """An array with slices put or added into it."""
    x, indices, update = call.ins
    dims = call.params["dimension_numbers"]
    shape, index_shape, update_shape = call.shapes
    gone = (*dims.inserted_window_dims, *dims.operand_batching_dims)
    window = iter(dims.update_window_dims)
    sizes = [1 if d in gone else update_shape[next(window)] for d in range(len(shape))]
    slices = _slices(
        shape, sizes, indices, index_shape, dims.update_window_dims, dims.inserted_window_dims,
        dims.scatter_dims_to_operand_dims, dims.operand_batching_dims,
        dims.scatter_indices_batching_dims, call.params["mode"],
    )  # fmt: skip
    over = call.name == "scatter" and not _reads_before(call.params["update_jaxpr"])
    return _written(domain, call, x, update, slices, [indices], over, "scatter")


def _reads_before(combine) -> bool:
    """Whether what is put there is made of what stood there, as by `x.at[i].apply`."""
    if combine is None:
        return False
    before = combine.invars[0]
    return before in combine.outvars or any(before in eqn.invars for eqn in combine.eqns)


def dynamic_update_slice(domain: Any, call: Call) -> Any:
    """An array with a slice put into it."""
    x, update, *starts = call.ins
    slices = _one_slice(call.shapes[0], call.shapes[1], starts)
    return _written(domain, call, x, update, slices, starts, True, "dynamic_update_slice")


def _written(domain, call, x, update, slices, deciding, over, name):
    (shape,), parts = call.outs, []
    x, update = (value if is_dep(value) else None for value in (x, update))
    numbers = slices.numbers() if domain.exact else None
    if numbers is not None and (x is not None or update is not None):
        like = x if x is not None else update
        x = domain.nothing(like, shape) if x is None else x
        update = domain.nothing(like, slices.gathered) if update is None else update
        parts.append(domain.put(x, shape, numbers, update, slices.gathered, over))
    else:
        parts += [x] if x is not None else []
        parts += [_put(domain, update, slices, shape, name)] if update is not None else []
    for value in deciding:
        if is_dep(value):
            parts.append(domain.place(domain.whole(value), [None] * len(shape), shape))
    return joined(domain, parts, shape, None)


def _put(domain, update, slices, shape, name):
    """Dimension by dimension of the result: which of the update's reaches it."""
    source: list[int | None] = [None] * len(shape)
    extents = slices.gathered
    for d, n in enumerate(shape):
        offset, start = slices.offset_at[d], _fixed(slices, d)
        if offset is not None and start is not None:
            update = domain.window(update, offset, extents[offset], n, Taps(1, 1, start))
            source[d] = offset
        elif offset is None and (found := slices.along(d)) is not None:
            at = slices.batch_at[found[0]]
            if at not in source and domain.varies(update, at):
                update = domain.table(update, at, found[1].T)
                source[d] = at
    lost = [d for d in range(len(extents)) if d not in source]
    varied = any(domain.varies(update, d) for d in lost)
    update = domain.collapse(update, lost)
    return domain.place(domain.named(update, name) if varied else update, source, shape)


def _names(kinds: Sequence[str]) -> list[str]:
    return ["scatter", *(f"scatter{mark}{kind}" for kind in kinds for mark in "-_")]


RULES = {
    "gather": gather,
    "dynamic_slice": dynamic_slice,
    "dynamic_update_slice": dynamic_update_slice,
    **dict.fromkeys(_names(["add", "sub", "mul", "min", "max"]), scatter),
}
