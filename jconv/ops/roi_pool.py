"""Regions of interest: the largest pixel in each bin of each box of an image.

Box k spans start to end, after `spatial_scale` and rounded to pixels, both inclusive, cut along
each axis into P bins of size s = (end - start + 1) / P:

    y[k, p, q, c] = the largest x[box_indices[k], h, w, c] for h from start + floor(p s) to before
                    start + ceil((p + 1) s), and w alike; 0 where there is no such pixel

Shapes: x N H W C, boxes K 4 (x1, y1, x2, y2), box_indices K, y K P Q C. An integer argmax without
a derivative, and a gather at the winners, whose transpose is a scatter, on a GPU in no fixed order
(see `sample.py`).

References: Girshick 2015, "Fast R-CNN", arXiv:1504.08083; torchvision.ops.roi_pool.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec

from jconv.core import automatic
from jconv.ops import sample
from jconv.ops.dtypes import at_least_float32, comparable
from jconv.ops.pooling import least
from jconv.ops.roi_align import check_boxes
from jconv.window import PerAxis


def roi_pool(
    x: jax.Array,
    boxes: jax.Array,
    box_indices: jax.Array,
    *,
    output_size: PerAxis,
    spatial_scale: float = 1.0,
) -> jax.Array:
    """The largest pixel of x (N, H, W, C) in each bin of each box (K, 4): (K, P, Q, C).

    As `torchvision.ops.roi_pool`. The gradient goes to the first of equal pixels in row-major
    order; there is none in the boxes. A NaN in a bin is its maximum (torchvision skips it). For
    every box all of its image is read: use it for parity, `roi_align` for speed.

    Args:
      boxes, box_indices, output_size, spatial_scale: as in `roi_align`.

    Raises:
      ValueError: shapes, dtypes or arguments that don't fit each other.
    """
    x, boxes, box_indices = jnp.asarray(x), jnp.asarray(boxes), comparable(jnp.asarray(box_indices))
    p, q = check_boxes("roi_pool", x, boxes, box_indices, output_size)
    n, height, width, c = x.shape
    if n == 0 or c == 0:
        return jnp.zeros((len(boxes), p, q, c), x.dtype)
    boxes = lax.stop_gradient(boxes).astype(at_least_float32(boxes.dtype)) * spatial_scale
    boxes = lax.round(boxes, lax.RoundingMethod.AWAY_FROM_ZERO)
    in_row = _bins(boxes[:, 1], boxes[:, 3], p, height)
    in_column = _bins(boxes[:, 0], boxes[:, 2], q, width)
    out = PartitionSpec(jax.typeof(boxes).sharding.spec[0])
    return automatic(_maxima, out, x, box_indices, in_row, in_column)


def _maxima(x, box_indices, in_row, in_column):
    """The largest pixel of each bin, K P Q C, by which pixels are in it: K P H and K Q W."""
    n, *_, c = x.shape
    image = lax.stop_gradient(x)[jnp.clip(box_indices, 0, n - 1)]
    # In each row, then among the rows: of equal pixels the first in row-major order wins.
    best, column = _first_largest(image[:, None], in_column[:, :, None, :, None], 3)  # K Q H C
    _, row = _first_largest(best[:, None], in_row[:, :, None, :, None], 3)  # K P Q C
    column = jnp.take_along_axis(column[:, None], row[:, :, :, None], 3)[:, :, :, 0]
    some = in_row.any(-1)[:, :, None, None] & in_column.any(-1)[:, None, :, None]
    example = jnp.where(some, box_indices.astype(jnp.int32)[:, None, None, None], jnp.int32(-1))
    position = (jnp.broadcast_to(each, row.shape) for each in (example, row, column))
    y = sample.pixels(x[None, ..., None], tuple(each.reshape(1, -1, c) for each in position))
    return y.reshape(row.shape)


def _bins(start, end, bins, size):
    """Which pixels each bin of each box holds: booleans K P H."""
    length = jnp.maximum(end - start + 1, 1)[:, None] / bins
    bin, start = jnp.arange(bins, dtype=start.dtype), start[:, None]
    low, high = start + jnp.floor(bin * length), start + jnp.ceil((bin + 1) * length)
    pixel = jnp.arange(size, dtype=start.dtype)
    return (pixel >= low[..., None]) & (pixel < high[..., None])


def _first_largest(values, inside, axis):
    """The largest of the values that are `inside`, and the first index that has it."""
    best = jnp.max(jnp.where(inside, values, least(values.dtype)), axis, keepdims=True)
    wins = inside & ((values == best) | jnp.isnan(values))
    return jnp.squeeze(best, axis), jnp.argmax(wins, axis)
