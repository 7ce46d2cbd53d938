"""Convolution with three taps along every axis by Winograd's minimal filtering.

    y = A' [(G w) * (B' x)]        m outputs along an axis, from a tile of a = m + 2 pixels

where * multiplies entry by entry: a products instead of 3m. It multiplies polynomials by way of
their values at a points, one of them infinity: G takes those values of the filter, A and B' are
the transposes of taking values and of going back from them. On two axes the matrices act along
both, and with channels there are a*a products of matrices for each tile of m*m outputs, not 9*m*m:

    F(2x2, 3x3)    points 0, 1, -1, infinity                   16 for 36    2.25 times fewer
    F(4x4, 3x3)    points 0, 1/2, -1/2, 3/2, -3/2, infinity    36 for 144   4 times fewer

Shapes: x N H W C, w 3 3 C K, y and dy N P Q K; T tiles, pixels a*a T C, values of the filter
a*a C K, products a*a T K. Any number of spatial axes, stride 1; float32 at least in between.

Rounding: the tiles' sums have weights that cancel at the end, the more so the larger m. Against
float64, on normal numbers and 4 to 512 channels, the root mean square error of F(2x2) is 0.4 to 1.9
times the direct form's, that of F(4x4) 1.6 to 7 times (its largest error up to 21 times), so it is
for those who ask for it by name. With the points 0, 1, -1, 2, -2 of Lavin & Gray: 1.7 times more.
An infinite pixel gives NaN beside infinities where the direct form has infinities alone, and sums
of a tile may pass the largest number, by a factor of 4 for F(2x2), where the direct form's do not.

Memory beside x, w and y: 1.5 times a piece (`jconv.algorithms.pieces`) and twice the values of the
filter, (a/3)^axes times w each. A piece is tiles and products, of CACHE bytes, or as many as one
row of tiles takes, or the values of the filter, which every piece reads. One image that is cut into
pieces is padded before: once x.

On XLA's CPU compiler, from 64 channels on, F(2x2) takes 0.65 to 0.85 of the processor time of its
own convolution forward and in the input gradient, 0.25 to 0.9 in the filter's; F(4x4) 0.4 to 0.9.

References: Winograd 1980, "Arithmetic complexity of computations"; Lavin & Gray 2015, "Fast
algorithms for convolutional neural networks", arXiv:1509.09308; Barabasz et al. 2018, "Error
analysis and improving the accuracy of Winograd convolution", arXiv:1803.10986, on points.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jconv.algorithms.pieces import Pieces
from jconv.window import Pair

TAPS = 3
HALF = Fraction(1, 2)
POINTS = {2: (0, 1, -1), 4: (0, HALF, -HALF, 3 * HALF, -3 * HALF)}  # by m, and infinity

type Matrix = tuple[tuple[Fraction, ...], ...]


@functools.cache
def matrices(tile: int) -> tuple[Matrix, Matrix, Matrix]:
    """A' (m, a), G (a, 3) and B' (a, a) of F(m, 3), for m = `tile`, 2 or 4, and a = m + 2.

    With f(x) the polynomial that is zero at all finite points p, row p of B' holds the coefficients
    of f(x) / (x - p), the row of G is (1, p, p^2) over that polynomial's value at p, and the column
    of A' is 1, p, p^2, ...; infinity reads the highest coefficient.
    """
    points = [Fraction(p) for p in POINTS[tile]]
    others = [[q for q in points if q != p] for p in points]
    b = [[*_with_roots(roots), Fraction(0)] for roots in others] + [_with_roots(points)]
    g = [
        [p**i / math.prod((p - q for q in roots), start=Fraction(1)) for i in range(TAPS)]
        for p, roots in zip(points, others, strict=True)
    ] + [_unit(TAPS)]
    a = [[p**i for i in range(tile)] for p in points] + [_unit(tile)]
    return _tuples(zip(*a, strict=True)), _tuples(g), _tuples(b)


def conv(
    x: jax.Array,
    w: jax.Array,
    stride: Sequence[int],
    pads: Sequence[Pair],
    input_dilation: Sequence[int],
    dilation: Sequence[int],
    *,
    output: Sequence[int],
    groups: int,
    tile: int,
    dtype: Any,
    sum_dtype: Any,
    precision: lax.PrecisionLike = None,
) -> jax.Array:
    """y (N, *output, K) of `dtype` from x (N, *spatial, C) and w (3, ..., C, K).

    Args:
      stride, input_dilation, dilation, groups: 1, on every axis.
      pads: (lo, hi) zeros round the pixels of x; negative ones crop.
      tile: m, the outputs of a tile along each axis, 2 or 4.
      sum_dtype: of the transforms and sums, float32 at least.
    """
    to_outputs, to_values, to_pixels = matrices(tile)
    values = _of_filter(to_values, w.astype(sum_dtype))
    pieces, tiles = _cut(x.shape[0], output, tile, values)
    y = jax.ShapeDtypeStruct((x.shape[0], *output, w.shape[-1]), dtype)

    def piece(place):
        pixels = _of_pixels(to_pixels, x, place, pieces, tiles, pads, tile, sum_dtype)
        products = lax.dot_general(
            pixels, values, (((2,), (1,)), ((0,), (0,))), precision=precision,
            preferred_element_type=sum_dtype,
        )  # fmt: skip
        products = lax.optimization_barrier(products)
        products = products.reshape(*_points(tile, tiles), pieces.images, *tiles, w.shape[-1])
        rows = _of_products(to_outputs, products, len(tiles))
        return rows[_first((pieces.images, pieces.rows, *output[1:]))].astype(dtype)

    return pieces.fill(piece, y, x)


def filter_grad(
    x: jax.Array,
    dy: jax.Array,
    stride: Sequence[int],
    pads: Sequence[Pair],
    input_dilation: Sequence[int],
    dilation: Sequence[int],
    *,
    size: Sequence[int],
    groups: int,
    tile: int,
    dtype: Any,
    sum_dtype: Any,
    precision: lax.PrecisionLike = None,
) -> jax.Array:
    """dw (3, ..., C, K) of `dtype` from x (N, *spatial, C) and dy (N, *output, K).

    The transpose of `conv` in w, dw = G' [sum over T of (B' x)' (A dy)]: F(3x3, 2x2) for tile=2.
    Arguments as there; `size` is 3 on every axis.
    """
    to_outputs, to_values, to_pixels = matrices(tile)
    from_outputs, from_values = _transposed(to_outputs), _transposed(to_values)
    output, axes = dy.shape[1:-1], dy.ndim - 2
    c, k = x.shape[-1], dy.shape[-1]
    points = math.prod(_points(tile, output))
    values = jax.ShapeDtypeStruct((points, c, k), sum_dtype)
    pieces, tiles = _cut(x.shape[0], output, tile, values)

    def piece(place):
        pixels = _of_pixels(to_pixels, x, place, pieces, tiles, pads, tile, sum_dtype)
        outputs = pieces.outputs(dy, place).astype(sum_dtype)
        edges = [(0, t * tile - p, 0) for t, p in zip(tiles, outputs.shape[1:-1], strict=True)]
        outputs = lax.pad(outputs, jnp.zeros((), sum_dtype), [(0, 0, 0), *edges, (0, 0, 0)])
        outputs = _of_tiles(from_outputs, outputs, tiles, tile)
        # Summed over the rows of both, XLA's product takes 1.6 times as long for 64 channels.
        pixels = lax.optimization_barrier(jnp.swapaxes(pixels, 1, 2))
        return lax.dot_general(
            pixels, outputs, (((2,), (1,)), ((0,), (0,))), precision=precision,
            preferred_element_type=sum_dtype,
        )  # fmt: skip

    dw = pieces.add(piece, values, x).reshape(*_points(tile, output), c, k)
    for axis in reversed(range(axes)):
        dw = jnp.stack(_combine(from_values, list(dw)), axis)
    return dw.astype(dtype)


def _cut(images, output, tile, values):
    """The pieces, and the tiles of one along each axis.

    All pieces read (or add up) the filter's values: they are no smaller than those.
    """
    points, c, k = values.shape
    row = points * math.prod(-(-p // tile) for p in output[1:]) * (c + k) * values.dtype.itemsize
    least = math.prod(values.shape) * values.dtype.itemsize
    pieces = Pieces.of(images, output[0], -(-row // tile), unit=tile, least=least)
    return pieces, tuple(-(-p // tile) for p in (pieces.rows, *output[1:]))


def _of_filter(matrix, w):
    """R S C K -> a*a C K, the points of the last axis first."""
    axes = w.ndim - 2
    for axis in range(axes):
        taps = [lax.index_in_dim(w, tap, axis, keepdims=False) for tap in range(TAPS)]
        w = jnp.stack(_combine(matrix, taps))
    return lax.optimization_barrier(w.reshape(-1, *w.shape[axes:]))


def _of_pixels(matrix, x, place, pieces, tiles, pads, tile, dtype):
    """N H W C -> a*a T C, of one piece."""
    reach = [t * tile + TAPS - 1 for t in tiles]
    lo, ones = [before for before, _ in pads], (1,) * len(pads)
    x = pieces.read(x, place, lo=lo, input_dilation=ones, stride=1, reach=reach)
    return _of_tiles(matrix, x.astype(dtype), tiles, tile)


def _of_tiles(matrix, x, tiles, tile):
    """N H W C -> a*a T C: the matrix, of one column for each pixel of a tile, along each axis."""
    axes = len(tiles)
    for axis, count in enumerate(tiles):
        last = (count - 1) * tile + 1
        pixels = [
            lax.slice_in_dim(x, i, i + last, tile, 2 * axis + 1) for i in range(len(matrix[0]))
        ]
        x = lax.optimization_barrier(jnp.stack(_combine(matrix, pixels)))
    return x.reshape(math.prod(x.shape[:axes]), -1, x.shape[-1])


def _of_products(matrix, products, axes):
    """a a N H/m W/m K -> N H W K"""
    for axis in reversed(range(axes)):
        products = jnp.stack(_combine(matrix, list(products)), 2 * axis + 2)
        products = lax.optimization_barrier(products) if axis else products
    n, *tiled, k = products.shape
    sizes = (t * m for t, m in zip(tiled[::2], tiled[1::2], strict=True))
    return products.reshape(n, *sizes, k)


def _combine(matrix, parts):
    """matrix @ parts, entry by entry: a list of sums, from a list of arrays."""
    return [
        functools.reduce(operator.add, [_times(m, p) for m, p in zip(row, parts, strict=True) if m])
        for row in matrix
    ]


def _times(factor, x):
    if abs(factor) == 1:
        return x if factor == 1 else -x
    return float(factor) * x


def _with_roots(roots):
    """The coefficients, lowest first, of the product of all (x - root)."""
    coefficients = [Fraction(1)]
    for root in roots:
        shifted = [Fraction(0), *coefficients]
        coefficients = [s - root * c for s, c in zip(shifted, [*coefficients, 0], strict=True)]
    return coefficients


def _unit(n):
    """The coefficients of x^(n-1), of n."""
    return [Fraction(i == n - 1) for i in range(n)]


def _points(tile, output):
    return (tile + TAPS - 1,) * len(output)


def _first(sizes):
    return tuple(slice(size) for size in sizes)


def _transposed(matrix):
    return _tuples(zip(*matrix, strict=True))


def _tuples(rows):
    return tuple(map(tuple, rows))
