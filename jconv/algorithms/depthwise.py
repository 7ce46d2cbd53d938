"""Depthwise convolution as sums of shifted images, and its filter gradient as sums over pixels.

    y[n, p, q, c] = sum over r, s of
                    x[n, p*stride + r*dilation - lo, q*stride + s*dilation - lo, c] * w[r, s, c]
    dw[r, s, c]   = sum over n, p, q of x[n, p*stride + ...] * dy[n, p, q, c]

Shapes: x N H W C, w R S 1 C, y and dy N P Q C. XLA's CPU compiler has no depthwise convolution: it
multiplies matrices of one row or column, and the filter gradient gets none of its threads. Here
each tap is one product and one sum for vectors of channels, and an example at a time stays in the
cache: 1/4 to 1/90 of the time (dw3_56x128 forward 215 ms to 20, dw7_28x192 filter gradient 1300
to 25), whatever the size: of 113 thousand multiply-adds 418 us to 14, filter gradient 10 ms to
0.03. Few examples are computed at once, which took 2/3 of the time of a loop (48x48x32, 16 images).

Beside operands and result: the padded images of one chunk of examples, at most 2 MiB or one example
forward and four times as much in the filter gradient, each twice; or of all examples, where padded
images and results have 12 MiB at most.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jconv.algorithms import chunks, phases
from jconv.algorithms.chunks import fenced, pad, pixels
from jconv.window import Pair

WHOLE = 12 * 2**20  # bytes up to which a loop over chunks costs more than it saves
FOLDS = 8  # sums side by side
MOST_TERMS = 9  # products that one loop adds up: beyond, what it reads no longer fits registers


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
    dtype: Any,
    sum_dtype: Any,
    precision: lax.PrecisionLike = None,
) -> jax.Array:
    """y (N, *output, C) of `dtype` from x (N, *spatial, C) and w (*window, 1, C).

    Args:
      pads: (lo, hi) zeros round the pixels of x; negative ones crop.
      input_dilation: 1 on every axis, unless `stride` is.
      groups: C.
      sum_dtype: what products are summed in, at least as wide as the operands.
      precision: without effect, products are exact to `sum_dtype` anyway.
    """
    del groups, precision
    w = w.astype(sum_dtype)
    taps = functools.partial(_sum_of_taps, stride=stride)

    def some(x):
        y = phases.spread(
            taps, x.astype(sum_dtype), w, pads, input_dilation, dilation, output=output
        )
        return y.astype(dtype)

    result = x.shape[-1] * math.prod(output)
    return chunks.each(some, x, length=_length(x, pads, result, sum_dtype, chunks.BYTES))


def _sum_of_taps(x, w, pads, dilation, *, stride, output):
    x = fenced(pad(x, pads, (1,) * len(pads)))
    sums = []  # so far, in loops of MOST_TERMS
    for taps in itertools.batched(itertools.product(*map(range, w.shape[:-2])), MOST_TERMS):
        for tap in taps:
            starts = [t * d for t, d in zip(tap, dilation, strict=True)]
            sums.append(pixels(x, starts, stride, output) * w[tap][0])
        sums = [fenced(functools.reduce(jnp.add, sums))]
    return sums[0]


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
    dtype: Any,
    sum_dtype: Any,
    precision: lax.PrecisionLike = None,
) -> jax.Array:
    """dw (*size, 1, C) of `dtype` from x (N, *spatial, C) and dy (N, *output, C).

    A sum over all pixels is no loop that XLA makes vectors of. So the image is folded: the products
    of eight stripes of its rows are added up, which is, and what is left is an eighth.
    """
    del groups, precision
    output = dy.shape[1:-1]
    folds = min(FOLDS, output[0])
    rows = -(-output[0] // folds)
    more = rows * folds - output[0]  # rows of zeros below dy
    stripe = (rows, *output[1:])
    (lo, hi), *others = pads
    pads = [(lo, hi + more * stride[0]), *others]

    def some(x, dy):
        x = fenced(pad(x.astype(sum_dtype), pads, input_dilation))
        below = [(0, more), *[(0, 0)] * (len(output) - 1)]
        dy = fenced(pad(dy.astype(sum_dtype), below, (1,) * len(output)))
        sums = []
        for *lead, _ in itertools.product(*map(range, (*size[:-1], 1))):
            row = []
            for last in range(size[-1]):
                start, *starts = (t * d for t, d in zip((*lead, last), dilation, strict=True))
                terms = (
                    pixels(x, (start + i * rows * stride[0], *starts), stride, stripe)
                    * dy[:, i * rows : (i + 1) * rows]
                    for i in range(folds)
                )
                row.append(fenced(functools.reduce(jnp.add, terms)))
            sums.append(_over_pixels(jnp.stack(row)))
        return jnp.concatenate(sums)

    length = _length(x, pads, dy[0].size, sum_dtype, 4 * chunks.BYTES)
    dw = chunks.total(some, x, dy, length=length)
    return dw.reshape(*size, 1, -1).astype(dtype)


def _length(x, pads, other, dtype, most):
    """How many examples go into a chunk: all, where padded they and what has `other` numbers for
    each of them are few bytes, else those that take `most` bytes without padding.
    """
    examples, *image, channels = x.shape
    size = jnp.dtype(dtype).itemsize
    padded = channels * math.prod(
        max(n, n + lo + hi) for n, (lo, hi) in zip(image, pads, strict=True)
    )
    if examples * (padded + other) * size <= WHOLE:
        return examples
    return chunks.length(examples, (x[0].size + other) * size, most)


def _over_pixels(x):
    """[T C], the sums of x (T, N, *spatial, C) over examples and pixels: folded, then XLA's."""
    rows = x.shape[2]
    folds = next((n for n in range(FOLDS, 1, -1) if rows % n == 0), 1)
    parts = jnp.split(x, folds, axis=2)
    return fenced(functools.reduce(jnp.add, parts)).sum(range(1, x.ndim - 1))
