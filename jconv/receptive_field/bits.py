"""The exact domain: of every element of a value, the set of input positions it reads, as bits.

Positions are those of one input axis, or of the product of several, row-major. A value's sets are
an array of uint64 words, (*shape, words): a set bit is a position that is read. Dimensions along
which all elements read the same have extent 1, so channels cost nothing where they are mixed.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from jconv.receptive_field.taps import Taps, groups, matrix

WORD = 64


@dataclasses.dataclass(frozen=True, slots=True)
class Bits:
    """What each element of a value reads.

    Attributes:
      words: uint64, the value's dimensions, each full or 1, and the words of a set.
      unknown: operations on the way that no rule knows.
    """

    words: np.ndarray
    unknown: frozenset[str] = frozenset()


class Sets:
    """The rules' vocabulary on sets of positions; see `Affine` for what each word means.

    Args:
      limit: bytes that one value's sets may take.
    """

    def __init__(self, limit: int):
        self.limit = limit

    exact = True  # known positions are followed one by one

    def start(self, shape: Sequence[int], axes: Sequence[int]) -> Bits:
        """The input itself: every element reads its own position along the axes."""
        extents = [shape[axis] for axis in axes]
        n = math.prod(extents)
        kept = tuple(shape[d] if d in axes else 1 for d in range(len(shape)))
        words = np.zeros((n, self._count(n, n)), np.uint64)
        at = np.arange(n)
        words[at, at // WORD] = np.uint64(1) << (at % WORD).astype(np.uint64)
        order = sorted(range(len(axes)), key=lambda k: axes[k])
        words = words.reshape(*extents, -1).transpose(*order, len(axes))
        return Bits(words.reshape(*kept, -1))

    def _count(self, n, elements):
        count = -(-n // WORD)
        self._check(elements * count)
        return count

    def place(self, dep: Bits, source: Sequence[int | None], shape: Sequence[int]) -> Bits:
        """A value of `shape` whose dimension k is `source[k]` of dep, or None."""
        named = [s for s in source if s is not None]
        rest = [d for d in range(dep.words.ndim - 1) if d not in named]
        words = dep.words.transpose(*named, *rest, dep.words.ndim - 1)
        kept = [1 if s is None else dep.words.shape[s] for s in source]
        return self._bits(words.reshape(*kept, words.shape[-1]), dep)

    def collapse(self, dep: Bits, dims: Sequence[int]) -> Bits:
        """Reduced over these dimensions, which stay with extent 1."""
        dims = tuple(d for d in dims if dep.words.shape[d] > 1)
        return self._bits(np.bitwise_or.reduce(dep.words, axis=dims, keepdims=True), dep)

    def whole(self, dep: Bits, name: str | None = None) -> Bits:
        """Everything that any element of dep reads."""
        dep = self.collapse(dep, range(dep.words.ndim - 1))
        return self.named(dep, name) if name else dep

    def named(self, dep: Bits, name: str) -> Bits:
        """dep, with an operation that no rule knows on its way."""
        return dataclasses.replace(dep, unknown=dep.unknown | {name})

    def varies(self, dep: Bits, dim: int) -> bool:
        """Whether not all positions of a dimension read the same."""
        return dep.words.shape[dim] > 1

    def window(self, dep: Bits, dim: int, n: int, out: int, taps: Taps) -> Bits:
        """Dimension `dim`, of extent n, read through a window, gets `out` positions."""
        if n == out and taps.is_identity:
            return dep
        return self.table(dep, dim, matrix(taps, n, out))

    def table(self, dep: Bits, dim: int, reads: np.ndarray) -> Bits:
        """Position o of dimension `dim` reads those with reads[o]."""
        words = np.moveaxis(dep.words, dim, 0)
        if len(words) == 1:
            if reads.any(1).all():
                return dep
            reads = reads.any(1, keepdims=True)
        self._check(len(reads) * words[0].size)
        out = np.zeros((len(reads), *words.shape[1:]), np.uint64)
        for o, row in enumerate(reads):
            at = np.flatnonzero(row)
            if len(at):
                np.bitwise_or.reduce(words[at], axis=0, out=out[o])
        return self._bits(np.moveaxis(out, 0, dim), dep)

    def flip(self, dep: Bits, dims: Sequence[int]) -> Bits:
        """The dimensions run backwards."""
        return self._bits(np.flip(dep.words, tuple(dims)), dep)

    def prefix(self, dep: Bits, dim: int, reverse: bool) -> Bits:
        """Position o reads 0 to o along the dimension, or o to the end."""
        words = np.flip(dep.words, dim) if reverse else dep.words
        words = np.bitwise_or.accumulate(words, axis=dim)
        return self._bits(np.flip(words, dim) if reverse else words, dep)

    def reshape(self, dep: Bits, old: Sequence[int], shape: Sequence[int]) -> Bits:
        """The same elements, of a value of shape `old`, in row-major order."""
        full, kept = [1] * len(old), [1] * len(shape)
        for olds, news in groups(tuple(old), tuple(shape)):
            if any(dep.words.shape[d] > 1 for d in olds):
                for d in olds:
                    full[d] = old[d]
                for d in news:
                    kept[d] = shape[d]
        words = self._full(dep.words, full)
        return self._bits(words.reshape(*kept, words.shape[-1]), dep)

    def index(self, dep: Bits, dim: int, position: int) -> Bits:
        """The slice at a position of a dimension, which goes."""
        position = position if dep.words.shape[dim] > 1 else 0
        return self._bits(np.take(dep.words, position, dim), dep)

    def stack(self, deps: Sequence[Bits | None], shape: Sequence[int]) -> Bits:
        """Slices one behind the other, along a new first dimension; None reads nothing."""
        there = [dep for dep in deps if dep is not None]
        kept = np.broadcast_shapes(*(dep.words.shape for dep in there))
        self._check(len(deps) * math.prod(kept))
        nothing = np.zeros(kept, np.uint64)
        words = [nothing if dep is None else np.broadcast_to(dep.words, kept) for dep in deps]
        return Bits(np.stack(words), _unknown(there))

    def concatenate(
        self, parts: Sequence[Bits | None], dim: int, sizes: Sequence[int],
        shape: Sequence[int], at: Any,
    ) -> Bits:  # fmt: skip
        """Values side by side along a dimension, of extents `sizes`; None reads nothing."""
        starts = itertools.accumulate(sizes, initial=0)
        moved = [
            self.window(part, dim, n, shape[dim], Taps(pad=start))
            for start, n, part in zip(starts, sizes, parts, strict=False)
            if part is not None
        ]
        return self.join(moved, shape, at)

    def join(self, deps: Sequence[Bits], shape: Sequence[int], at: Any) -> Bits:
        """What any of the deps reads."""
        self._check(math.prod(np.broadcast_shapes(*(dep.words.shape for dep in deps))))
        words = functools.reduce(np.bitwise_or, (dep.words for dep in deps))
        return Bits(words, _unknown(deps))

    def choose(self, which: np.ndarray, cases: Sequence[Any], shape: Sequence[int]) -> Any:
        """Elementwise one of several cases, as the known array `which` says."""
        there = [case for case in cases if case is not None]
        if not there:
            return None
        kept = np.broadcast_shapes(which.shape, *(case.words.shape[:-1] for case in there))
        count = there[0].words.shape[-1]
        self._check(math.prod(kept) * count)
        out = np.zeros((*kept, count), np.uint64)
        for i, case in enumerate(cases):
            if case is not None:
                np.copyto(out, case.words, where=(which == i)[..., None])
        return Bits(out, _unknown(there))

    def take(self, dep: Bits, shape: Sequence[int], source: np.ndarray) -> Bits:
        """Elements of a value of `shape` by their row-major numbers `source`; -1 reads nothing."""
        self._check(source.size * dep.words.shape[-1])
        flat = self._full(dep.words, shape).reshape(-1, dep.words.shape[-1])
        out = flat[np.maximum(source, 0)]
        out[source < 0] = 0
        return self._bits(out, dep)

    def put(
        self, dep: Bits, shape: Sequence[int], source: np.ndarray, update: Bits,
        update_shape: Sequence[int], over: bool,
    ) -> Bits:  # fmt: skip
        """dep of `shape` with the elements of an update at row-major numbers; -1 goes nowhere.

        Args:
          over: what stood there is replaced, not added to.
        """
        count = dep.words.shape[-1]
        words = np.array(self._full(dep.words, shape)).reshape(-1, count)
        at = source.reshape(-1)
        new = self._full(update.words, update_shape).reshape(-1, count)
        new, at = new[at >= 0], at[at >= 0]
        if over:
            words[at] = 0
        np.bitwise_or.at(words, at, new)
        return Bits(words.reshape(*shape, count), dep.unknown | update.unknown)

    def nothing(self, like: Bits, shape: Sequence[int]) -> Bits:
        """A value that reads no position."""
        return Bits(np.zeros((*[1] * len(shape), like.words.shape[-1]), np.uint64))

    def same(self, a: Any, b: Any) -> bool:
        """Whether two values read the same."""
        if not (isinstance(a, Bits) and isinstance(b, Bits)):
            return a is b
        return a.unknown == b.unknown and np.array_equal(a.words, b.words)

    def _full(self, words, shape):
        self._check(math.prod(shape) * words.shape[-1])
        return np.broadcast_to(words, (*shape, words.shape[-1]))

    def _bits(self, words, dep):
        return Bits(words, dep.unknown)

    def _check(self, words):
        if words * 8 > self.limit:
            raise ValueError(
                f"exact: the sets of one value must fit into the limit of {self.limit:,} bytes; "
                f"got a value that needs {words * 8:,}: take a smaller input, fewer axes, or a "
                "larger limit"
            )


def _unknown(deps):
    return frozenset().union(*(dep.unknown for dep in deps))
