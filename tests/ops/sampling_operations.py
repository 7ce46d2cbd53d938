"""One small case of every sampling operation beside its plain formulation (see `operations.py`)."""

from __future__ import annotations

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np

from jconv.ops.deform_conv import deform_conv
from jconv.ops.grid_sample import affine_grid, grid_sample
from jconv.ops.pixel_shuffle import (
    depth_to_space,
    pixel_shuffle,
    pixel_unshuffle,
    space_to_depth,
)
from jconv.ops.resize import resize
from jconv.ops.roi_align import roi_align
from jconv.ops.roi_pool import roi_pool
from tests.ops.operations import Op

BOXES = np.array([[0.3, 0.2, 2.6, 2.9], [1.1, -0.7, 2.2, 3.4]])
WHOLE_BOXES = np.array([[0, 0, 2, 3], [1, 1, 2, 2]], np.float32)
BOX_INDICES = np.array([1, 0], np.int32)


def hat(at, size):
    """The share of each of `size` pixels in what is read at a position, linear between pixels."""
    return jnp.maximum(1 - jnp.abs(at[..., None] - jnp.arange(size, dtype=at.dtype)), 0)


def sampled(x, grid):
    """Bilinear, zeros outside, without align_corners."""
    at = [((g + 1) * n - 1) / 2 for g, n in zip((grid[..., 1], grid[..., 0]), x.shape[1:3])]  # noqa: B905
    return jnp.einsum("pqh,pqw,nhwc->npqc", hat(at[0], x.shape[1]), hat(at[1], x.shape[2]), x)


def deformed(x, offset, w, mask):
    """Stride 1, padding 1, two offset groups: what each tap reads, by shares of all pixels."""
    (height, width), (r, s) = x.shape[1:3], w.shape[:2]
    p, q = offset.shape[:2]
    offset, mask = offset.reshape(p, q, 2, r, s, 2), mask.reshape(p, q, 2, r, s)
    start = np.indices((p, q, r, s)).astype(offset.dtype) - 1
    rows = offset[..., 0] + (start[0] + start[2] + 1)[:, :, None]
    columns = offset[..., 1] + (start[1] + start[3] + 1)[:, :, None]
    x = x.reshape(*x.shape[:3], 2, x.shape[3] // 2)
    read = jnp.einsum("pqgrsh,pqgrsw,nhwgc->npqgrsc", hat(rows, height), hat(columns, width), x)
    w = w.reshape(r, s, 2, w.shape[2] // 2, w.shape[-1])
    return jnp.einsum("npqgrsc,pqgrs,rsgck->npqk", read, mask, w)


def aligned(x, boxes):
    """Two by three bins, two by two samples; a box of no image is 0."""
    weights = []
    for axis, bins, size in ((1, 2, x.shape[1]), (0, 3, x.shape[2])):
        start, length = boxes[:, axis, None, None] - 0.5, boxes[:, axis + 2] - boxes[:, axis]
        step = (length / bins)[:, None, None]
        sample = (np.arange(bins)[:, None] + (np.arange(2) + 0.5) / 2).astype(boxes.dtype)
        at = start + sample * step
        inside = (at >= -1) & (at <= size)
        weights.append(
            (hat(jnp.clip(at, 0, size - 1), size) * inside[..., None].astype(at.dtype)).mean(2)
        )
    example = jax.nn.one_hot(BOX_INDICES, x.shape[0], dtype=x.dtype)
    return jnp.einsum("kn,kph,kqw,nhwc->kpqc", example, *weights, x)


def pooled(x):
    """`WHOLE_BOXES` in two by two bins, which overlap in the first box; one of no image is 0."""
    rows, columns = (((0, 2), (2, 4)), ((1, 2), (2, 3))), (((0, 2), (1, 3)), ((1, 2), (2, 3)))
    zero = jnp.zeros((2, 2, x.shape[-1]), x.dtype)

    def one(k, n):
        bins = itertools.product(rows[k], columns[k])
        found = [x[n, slice(*h), slice(*w)].max((0, 1)) for h, w in bins]
        return jnp.stack(found).reshape(zero.shape)

    return jnp.stack([one(k, n) if n < x.shape[0] else zero for k, n in enumerate((1, 0))])


def broadcast(a, x):
    return jnp.broadcast_to(a, (x.shape[0], *a.shape))


OPS = {
    "resize_linear": Op(
        functools.partial(resize, size=(5, 2), method="linear"),
        lambda x: jax.image.resize(
            x, (x.shape[0], 5, 2, x.shape[3]), "linear", antialias=False,
            precision=jax.lax.Precision.HIGHEST,
        ), ((2, 3, 3, 2),), (0,),
    ),
    "resize_cubic": Op(
        functools.partial(resize, size=(2, 5), method="cubic", antialias=True),
        lambda x: jax.image.resize(
            x, (x.shape[0], 2, 5, x.shape[3]), "cubic", precision=jax.lax.Precision.HIGHEST,
        ), ((2, 5, 3, 2),), (0,),
    ),
    "resize_nearest": Op(
        functools.partial(resize, size=6),
        lambda x: jnp.repeat(jnp.repeat(x, 2, 1), 3, 2), ((2, 3, 2, 2),), (0,),
    ),
    "pixel_shuffle": Op(
        functools.partial(pixel_shuffle, factor=2),
        lambda x: jnp.stack(
            [jnp.stack([x[..., i * 2 + j :: 4] for j in range(2)], 3) for i in range(2)], 2
        ).reshape(x.shape[0], 4, 2, 2), ((2, 2, 1, 8),), (0,),
    ),
    "pixel_unshuffle": Op(
        functools.partial(pixel_unshuffle, factor=2),
        lambda x: jnp.stack(
            [x[:, i::2, j::2] for i in range(2) for j in range(2)], -1
        ).reshape(x.shape[0], 2, 1, 8), ((2, 4, 2, 2),), (0,),
    ),
    "depth_to_space": Op(
        functools.partial(depth_to_space, factor=2),
        lambda x: jnp.stack(
            [jnp.stack(jnp.split(half, 2, -1), 3) for half in jnp.split(x, 2, -1)], 2
        ).reshape(x.shape[0], 4, 2, 2), ((2, 2, 1, 8),), (0,),
    ),
    "space_to_depth": Op(
        functools.partial(space_to_depth, factor=2),
        lambda x: jnp.concatenate(
            [x[:, i::2, j::2] for i in range(2) for j in range(2)], -1
        ), ((2, 4, 2, 2),), (0,),
    ),
    "grid_sample": Op(
        lambda x, grid: grid_sample(x, broadcast(grid * 0.7 + 0.013, x)),
        lambda x, grid: sampled(x, grid * 0.7 + 0.013), ((2, 3, 4, 2), (2, 3, 2)), (0,),
    ),
    "affine_grid": Op(
        functools.partial(affine_grid, size=(2, 3)),
        lambda theta: jnp.einsum(
            "pqj,nij->npqi",
            jnp.stack([*jnp.meshgrid(jnp.array([-2, 0, 2]) / 3, jnp.array([-0.5, 0.5])),
                       jnp.ones((2, 3))], -1).astype(theta.dtype),
            theta,
        ), ((2, 2, 3),), (0,),
    ),
    "roi_align": Op(
        lambda x, boxes: roi_align(
            x, boxes * 0.1 + BOXES.astype(boxes.dtype), BOX_INDICES, output_size=(2, 3),
            sampling_ratio=2, aligned=True,
        ),
        lambda x, boxes: aligned(x, boxes * 0.1 + BOXES.astype(boxes.dtype)),
        ((2, 4, 3, 2), (2, 4)), (0,),
    ),
    "roi_pool": Op(
        lambda x: roi_pool(x, WHOLE_BOXES, BOX_INDICES, output_size=2),
        pooled, ((2, 4, 3, 2),), (),
    ),
    "deform_conv": Op(
        lambda x, offset, w, mask: deform_conv(
            x, broadcast(offset * 0.7 + 0.013, x), w, None, broadcast(mask, x), padding=1,
        ),
        lambda x, offset, w, mask: deformed(x, offset * 0.7 + 0.013, w, mask),
        ((2, 3, 2, 2), (3, 3, 2 * 6 * 2), (3, 2, 2, 2), (3, 3, 2 * 6)), (0, 2, 3),
    ),
}  # fmt: skip
