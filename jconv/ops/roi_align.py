"""Regions of interest: the mean in each bin of each box of an image.

Box k spans start to end, in pixels after `spatial_scale`, cut along each axis into P bins of size
s = (end - start) / P:

    y[k, p, q, c] = the mean of x[box_indices[k], h, w, c] over g x g positions, linear between
                    pixels, h = start + p s + (i + 1/2) s / g for i < g, and w alike

Shapes: x N H W C, boxes K 4 (x1, y1, x2, y2), box_indices K, y K P Q C. Linear in x: the gradient
in x is a scatter, on a GPU in no fixed order (see `sample.py`). float16 and bfloat16 are summed in
float32.

References: He et al. 2017, "Mask R-CNN", arXiv:1703.06870; torchvision.ops.roi_align.
"""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from jconv.core import automatic
from jconv.ops import sample
from jconv.ops.dtypes import at_least_float32, comparable, wider
from jconv.ops.pooling import check_positions
from jconv.window import PerAxis, per_axis, whole


def roi_align(
    x: jax.Array,
    boxes: jax.Array,
    box_indices: jax.Array,
    *,
    output_size: PerAxis,
    spatial_scale: float = 1.0,
    sampling_ratio: int,
    most_samples: int | None = None,
    aligned: bool = False,
) -> jax.Array:
    """The mean of x (N, H, W, C) in each bin of each box (K, 4): (K, P, Q, C), of x's dtype.

    As `torchvision.ops.roi_align`, with a derivative in the boxes too (torchvision has none): that
    of the samples' positions.

    Args:
      boxes: (x1, y1, x2, y2). A position more than a pixel outside of the image reads 0, and so
        does one that is not a number.
      box_indices: the image of each box, integers. A box of an image that does not exist, such as
        -1, is 0 throughout: sets of boxes can be filled up to one size.
      output_size: (P, Q), or one int for both.
      spatial_scale: pixels of x per unit of the boxes.
      sampling_ratio: positions per bin and axis, g. With 0 it is ceil(s), box by box (torchvision's
        default, and Detectron2's), but at most `most_samples`: the shapes of a program can't depend
        on the boxes. All most_samples^2 positions are computed, and the surplus has no weight.
      most_samples: with sampling_ratio=0, and only then. The result is torchvision's where no bin
        is larger than so many pixels: max(ceil(H / P), ceil(W / Q)) does for boxes in the image. A
        larger bin has its most_samples positions spread over all of it.
      aligned: shifts by half a pixel, so that whole coordinates are the edges of pixels; without
        it boxes are at least one pixel wide and high.

    Raises:
      ValueError: shapes, dtypes or arguments that don't fit each other.
    """
    x, boxes, box_indices = jnp.asarray(x), jnp.asarray(boxes), comparable(jnp.asarray(box_indices))
    output = check_boxes("roi_align", x, boxes, box_indices, output_size)
    if sampling_ratio == -1:
        raise ValueError(
            "roi_align: sampling_ratio must be at least 0; got -1: what torchvision means by it is "
            "sampling_ratio=0 with most_samples=max(ceil(H / P), ceil(W / Q))"
        )
    ratio = whole(sampling_ratio, "sampling_ratio", "roi_align", least=0)
    if (ratio == 0) == (most_samples is None):
        raise ValueError(
            "roi_align: give most_samples with sampling_ratio=0, and only then; got "
            f"sampling_ratio={sampling_ratio}, most_samples={most_samples}"
        )
    most = ratio or whole(most_samples or 0, "most_samples", "roi_align")
    wide = at_least_float32(x.dtype)
    boxes = boxes.astype(wider(at_least_float32(boxes.dtype), jnp.finfo(wide).dtype))
    boxes = boxes * spatial_scale - (0.5 if aligned else 0.0)
    taps = []
    for axis, (bins, size) in enumerate(zip(output, x.shape[1:3], strict=True)):
        start, length = boxes[:, 1 - axis], boxes[:, 3 - axis] - boxes[:, 1 - axis]
        if not aligned:
            length = jnp.where(length < 1, jnp.ones((), length.dtype), length)
        step = length / bins
        count = None if ratio else _clip(jnp.ceil(step), 0, most)
        at, weight = _positions(start, step, bins, count, most, size)
        taps.append([(pixel, share * weight) for pixel, share in sample.shares(at, size)])
    out = PartitionSpec(jax.typeof(boxes).sharding.spec[0])
    return automatic(_mean, out, x.astype(wide), box_indices, *taps).astype(x.dtype)


def _positions(start, step, bins, count, most, size):
    """Positions K P G along an axis of `size` pixels, G = most, and the weight of each in the mean.

    Args:
      step: the size of a bin, K.
      count: how many of the G positions of each bin count, K; None: all.
    """
    start, step = start[:, None, None], step[:, None, None]
    bin, i = jnp.arange(bins, dtype=start.dtype)[:, None], jnp.arange(most, dtype=start.dtype)
    count = jnp.full((1, 1, 1), most, start.dtype) if count is None else count[:, None, None]
    divisor = _clip(count, 1, most)
    # In torchvision's order: what is exact in it, such as the last position that counts, stays so.
    at = start + bin * step + (i + 0.5) * step / divisor
    valid = (at >= -1) & (at <= size) & (i < count)
    at = _clip(jnp.where(valid, at, jnp.zeros((), at.dtype)), 0, size - 1)
    return at, valid.astype(at.dtype) / divisor


def _mean(x, example, rows, columns):
    """The sum over the samples of each bin of their weight times what they read, K P Q C."""
    k, p, g = rows[0][0].shape
    shape = (k, p, g, *columns[0][0].shape[1:])
    example = example[:, None, None, None, None]
    total = jnp.zeros((), x.dtype)
    for (h, in_h), (w, in_w) in itertools.product(rows, columns):
        position = (example, h[..., None, None], w[:, None, None])
        flat = tuple(jnp.broadcast_to(each, shape).reshape(1, -1, 1) for each in position)
        pixel = sample.pixels(x[None, ..., None, :], flat).reshape(*shape, x.shape[-1])
        weight = in_h[..., None, None] * in_w[:, None, None]
        total += pixel * weight[..., None].astype(x.dtype)
    return total.sum((2, 4))


def _clip(value, least, most):
    """With no derivative at the ends and beyond: what PyTorch takes at a border."""
    least, most = jnp.full((), least, value.dtype), jnp.full((), most, value.dtype)
    return jnp.where(value > least, jnp.where(value < most, value, most), least)


def check_boxes(op, x, boxes, box_indices, output_size):
    """(P, Q), where the arguments fit each other.

    Raises:
      ValueError: they don't.
    """
    if x.ndim != 4 or 0 in x.shape[1:3] or not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(
            f"{op}: x must be floating point (N, H, W, C), H and W not 0; got x {x.shape} of "
            f"{x.dtype}"
        )
    if boxes.ndim != 2 or boxes.shape[1] != 4 or not jnp.issubdtype(boxes.dtype, jnp.floating):
        raise ValueError(
            f"{op}: boxes must be floating point (K, 4), each x1, y1, x2, y2; got boxes "
            f"{boxes.shape} of {boxes.dtype}"
        )
    if box_indices.shape != boxes.shape[:1] or not jnp.issubdtype(box_indices.dtype, jnp.integer):
        raise ValueError(
            f"{op}: box_indices must be integers (K,) = ({boxes.shape[0]},); got box_indices "
            f"{box_indices.shape} of {box_indices.dtype}"
        )
    check_positions(op, x.shape[:3], "the images N, H, W together")
    return per_axis(output_size, 2, "output_size", op)
