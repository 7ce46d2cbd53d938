"""Which positions an operation reads along one dimension: a window in integers, or a table."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Taps(NamedTuple):
    """Output o reads the inputs j with j * base_dilation = o * stride - pad + t * dilation, for
    taps t from 0 to size - 1.
    """

    size: int = 1
    stride: int = 1
    pad: int = 0
    dilation: int = 1
    base_dilation: int = 1

    @property
    def is_identity(self) -> bool:
        """Whether output o reads input o alone, as far as both go."""
        return (self.size, self.stride, self.pad, self.base_dilation) == (1, 1, 0, 1)

    @property
    def adjoint(self) -> Taps:
        """The window of the transpose: input j of this one is read by the outputs o."""
        pad = (self.size - 1) * self.dilation - self.pad
        return Taps(self.size, self.base_dilation, pad, self.dilation, self.stride)


def matrix(taps: Taps, n: int, out: int) -> np.ndarray:
    """(out, n) bool: which of n positions each of `out` outputs reads; padding is none of them."""
    o, t = np.arange(out)[:, None], np.arange(taps.size)
    at = o * taps.stride - taps.pad + t * taps.dilation
    inside = (at % taps.base_dilation == 0) & (at >= 0) & (at < n * taps.base_dilation)
    reads = np.zeros((out, n), bool)
    rows = np.broadcast_to(o, at.shape)[inside]
    reads[rows, at[inside] // taps.base_dilation] = True
    return reads


def groups(old: tuple[int, ...], new: tuple[int, ...]) -> list[tuple[list[int], list[int]]]:
    """How a reshape falls apart: the fewest dimensions of `old` that become some of `new`."""
    found, i, j = [], 0, 0
    while i < len(old) or j < len(new):
        a, b, size_a, size_b = [], [], 1, 1
        while True:
            if i < len(old) and (not a or size_a < size_b):
                a.append(i)
                size_a, i = size_a * old[i], i + 1
            elif j < len(new) and (not b or size_b < size_a):
                b.append(j)
                size_b, j = size_b * new[j], j + 1
            else:
                break
        found.append((a, b))
    return found
