"""The resizing of one axis in numbers: which pixels each output reads, with which weights.

A matrix of m rows and n columns, of which a row holds the weights of one output pixel and few are
not zero. Computed in float64, once for each axis; no array of JAX is touched.

References: torch.nn.functional.interpolate; Keys 1981, "Cubic convolution interpolation for digital
image processing".
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

METHODS = ("nearest", "nearest-exact", "linear", "cubic", "area")
CONTINUOUS = ("linear", "cubic")


@dataclasses.dataclass(frozen=True)
class Line:
    """The resizing of one axis, a matrix m n: hashable, to be a primitive's static parameter."""

    n: int  # pixels of the input
    m: int  # pixels of the output
    method: str
    align_corners: bool = False
    antialias: bool = False
    scale: float | None = None
    transposed: bool = False

    @property
    def output(self) -> int:
        """Pixels of the result: of the input, for the transpose."""
        return self.n if self.transposed else self.m

    @property
    def step(self) -> float:
        """Pixels of the input from one pixel of the output to the next."""
        if self.align_corners:
            return (self.n - 1) / (self.m - 1) if self.m > 1 else 0.0
        return self.n / self.m if self.scale is None or self._simple else 1.0 / self.scale

    @property
    def _simple(self) -> bool:
        """Whether PyTorch copies, or doubles, an axis without a look at its scale."""
        kept = self.method in ("nearest", "linear") or self.antialias
        return (self.m == self.n and kept) or (self.m == 2 * self.n and self.method == "nearest")

    @property
    def identity(self) -> bool:
        """Whether the result is the input."""
        i, j, weight = entries(self)
        return self.n == self.m == len(i) and bool((i == j).all() and (weight == 1).all())


@functools.lru_cache(maxsize=256)
def entries(line: Line) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The matrix: row, column and value of each entry that is not zero, row by row."""
    if line.antialias:
        index, weight = _antialiased(line)
    elif line.method in CONTINUOUS:
        index, weight = _continuous(line)
    elif line.method == "area":
        index, weight = _area(line)
    else:
        index, weight = _nearest(line), np.ones((line.m, 1))
    # Several taps may read one pixel, the border's.
    at = np.arange(line.m)[:, None] * line.n + np.clip(index, 0, line.n - 1)
    at, position = np.unique(at, return_inverse=True)
    value = np.bincount(position.ravel(), weight.ravel(), len(at))
    i, j, value = (array[value != 0] for array in (at // line.n, at % line.n, value))
    if line.transposed:
        order = np.argsort(j, kind="stable")
        i, j, value = j[order], i[order], value[order]
    return i, j, value


def taps(line: Line) -> tuple[np.ndarray, np.ndarray]:
    """index and weight (output, taps); where a row has fewer taps its first index, at weight 0."""
    i, j, value = entries(line)
    count = np.bincount(i, minlength=line.output)
    start = np.cumsum(count) - count
    place = np.arange(len(i)) - start[i]
    first = np.where(count > 0, j[np.minimum(start, len(j) - 1)], 0)
    index = np.repeat(first[:, None], count.max(), 1)
    weight = np.zeros(index.shape)
    index[i, place], weight[i, place] = j, value
    return index, weight


def _nearest(line):
    """In float32, as PyTorch does: in exact arithmetic some sizes, such as 14 to 46, differ."""
    centre = np.float32(0.5 if line.method == "nearest-exact" else 0)
    at = (np.arange(line.m, dtype=np.float32) + centre) * np.float32(line.step)
    return np.floor(at).astype(np.int64)[:, None]


def _continuous(line):
    i = np.arange(line.m)
    at = i * line.step if line.align_corners else (i + 0.5) * line.step - 0.5
    if line.method == "linear":
        at = np.maximum(at, 0)
        low = np.minimum(np.floor(at), line.n - 1)
        after = np.minimum(at - low, 1)
        weight = np.stack([1 - after, after], 1)
    else:
        low = np.minimum(np.floor(at), line.n - 1)
        after = np.minimum(at - low, 1)[:, None]
        weight = _cubic(after - np.arange(-1, 3), -0.75)
    reach = weight.shape[1] // 2
    return low.astype(np.int64)[:, None] + np.arange(1 - reach, 1 + reach), weight


def _area(line):
    i = np.arange(line.m)
    start, stop = i * line.n // line.m, -(-(i + 1) * line.n // line.m)
    return _spans(start, stop, lambda index, inside: inside / (stop - start)[:, None])


def _antialiased(line):
    """PyTorch's, and PIL's: the filter as wide as the step, cut off at the border, summing to 1."""
    widen = max(line.step, 1.0)
    support = widen * (1 if line.method == "linear" else 2)
    centre = (np.arange(line.m) + 0.5) * line.step
    start = np.maximum((centre - support + 0.5).astype(np.int64), 0)
    stop = np.minimum((centre + support + 0.5).astype(np.int64), line.n)

    def weigh(index, inside):
        at = (index - centre[:, None] + 0.5) / widen
        weight = np.maximum(1 - np.abs(at), 0) if line.method == "linear" else _cubic(at, -0.5)
        weight = weight * inside
        return weight / weight.sum(1, keepdims=True)

    return _spans(start, stop, weigh)


def _spans(start, stop, weigh):
    index = start[:, None] + np.arange((stop - start).max())
    return index, weigh(index, index < stop[:, None])


def _cubic(at, a):
    """Keys' filter: 1 at 0, 0 at the other whole numbers, of support 2."""
    at = np.abs(at)
    inner = ((a + 2) * at - (a + 3)) * at**2 + 1
    outer = ((at - 5) * at + 8) * at * a - 4 * a
    return np.where(at <= 1, inner, np.where(at < 2, outer, 0))
