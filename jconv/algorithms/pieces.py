"""A loop over pieces of an image, so that what is computed from one fits in the caches.

A piece is whole images, neighbours in the batch, or neighbouring rows of outputs of one image, rows
being entries of the first spatial axis. All pieces have one size, so that one program computes
them. The last one is moved back to end where the array ends, over some of what its neighbour did:
a result that is overwritten comes out the same, and one that is summed leaves that part out.

The loop runs on all cores: XLA splits each operation inside it, not the loop.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import lax

CACHE = 4 * 2**20  # bytes that the intermediate arrays of a piece may take, unless one row is more

type Place = tuple[jax.Array | int, jax.Array | int]  # which piece: along N, along the rows


@dataclasses.dataclass(frozen=True)
class Pieces:
    """N images of P rows, cut into pieces of `images` images or of `rows` rows."""

    total: tuple[int, int]  # N, P
    images: int
    rows: int

    @classmethod
    def of(cls, images: int, rows: int, row_bytes: int, *, unit: int = 1, least: int = 0) -> Pieces:
        """The largest pieces whose intermediate arrays fit in `CACHE`, about equally large.

        Args:
          row_bytes: of the intermediate arrays for one row of one image.
          unit: rows that are computed together.
          least: bytes that are read or written for every piece, and that it should not fall below.
        """
        fit = max(max(CACHE, least) // row_bytes, 1)
        if fit < rows:
            return cls((images, rows), 1, _even(rows, max(fit // unit * unit, unit), unit))
        return cls((images, rows), _even(images, fit // rows, 1), rows)

    @property
    def count(self) -> tuple[int, int]:
        """How many pieces there are along N and along the rows."""
        return -(-self.total[0] // self.images), -(-self.total[1] // self.rows)

    def fill(self, f: Callable[[Place], jax.Array], out: jax.ShapeDtypeStruct, like: jax.Array):
        """The array `out` (N, P, ...) whose pieces are f(place) (images, rows, ...).

        Args:
          like: an array that varies over the same axes of a manual mesh as the result.
        """
        if self.count == (1, 1):
            return f((0, 0))
        zeros = (0,) * (len(out.shape) - 2)

        def write(i, y):
            place = self._place(i)
            return lax.dynamic_update_slice(y, f(place), (*self._start(place), *zeros))

        empty = lax.full_like(like, 0, out.dtype, out.shape)
        return lax.fori_loop(0, self.count[0] * self.count[1], write, empty)

    def add(self, f: Callable[[Place], jax.Array], out: jax.ShapeDtypeStruct, like: jax.Array):
        """The sum, like `out`, of f(place) over all pieces."""
        if self.count == (1, 1):
            return f((0, 0))
        zero = lax.full_like(like, 0, out.dtype, out.shape)
        pieces = self.count[0] * self.count[1]
        return lax.fori_loop(0, pieces, lambda i, sums: sums + f(self._place(i)), zero)

    def read(
        self,
        x: jax.Array,
        place: Place,
        *,
        lo: Sequence[int],
        input_dilation: Sequence[int],
        stride: int,
        reach: Sequence[int],
    ) -> jax.Array:
        """The pixels (images, *reach, C) of x (N, *spatial, C) behind the outputs of a piece.

        Zeros stand between the pixels, lo zeros before them, and behind them as many as are needed.

        Args:
          stride: pixels between the rows of two outputs.
          reach: pixels that one piece reads, per axis.
        """
        sizes = [(self.total[1] - self.rows) * stride + reach[0], *reach[1:]]
        x = self._images(x, place[0])
        edges = [
            (before, size - before - ((n - 1) * d + 1), d - 1)
            for n, before, size, d in zip(x.shape[1:-1], lo, sizes, input_dilation, strict=True)
        ]
        x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *edges, (0, 0, 0)])
        if self.count[1] > 1:
            x = lax.dynamic_slice_in_dim(x, self._start(place)[1] * stride, reach[0], 1)
        return lax.optimization_barrier(x)  # written once, not computed anew for every tap

    def outputs(self, dy: jax.Array, place: Place) -> jax.Array:
        """dy of a piece (images, rows, ...), zero where another piece has the same outputs."""
        dy = self._images(dy, place[0])
        if self.count[1] > 1:
            dy = lax.dynamic_slice_in_dim(dy, self._start(place)[1], self.rows, 1)
        sizes = zip(place, self._start(place), (self.images, self.rows), self.total, strict=True)
        for axis, (i, start, size, total) in enumerate(sizes):
            if total % size:
                fresh = lax.broadcasted_iota(jnp.int32, dy.shape, axis) >= i * size - start
                dy = jnp.where(fresh, dy, jnp.zeros((), dy.dtype))
        return dy

    def _images(self, x, i):
        if self.count[0] == 1:
            return x
        start = self._start((i, 0))[0]
        return lax.dynamic_slice_in_dim(x, start, self.images)

    def _place(self, i):
        return i // self.count[1], i % self.count[1]

    def _start(self, place):
        sizes = zip(place, (self.images, self.rows), self.total, strict=True)
        return tuple(jnp.minimum(i * size, total - size) for i, size, total in sizes)


def _even(total, most, unit):
    """The size, a multiple of unit unless it is the total, of equal parts of `most` or less."""
    parts = -(-total // most)
    return min(-(-total // (parts * unit)) * unit, total)
