"""DropBlock: dropout of blocks of neighbouring pixels of a channel.

    seeds    1 with probability gamma, one for each block that lies inside the image
    m        0 on the blocks of the seeds, 1 elsewhere
    y        x * m * (number of entries of m) / (number of ones in m)

Shapes (any number of spatial axes; written for two): x, m, y N H W C, blocks R S, seeds
N H-R+1 W-S+1 C. So many seeds that a share `rate` would be dropped if no blocks overlapped:

    gamma = rate * (H / (R (H - R + 1))) * (W / (S (W - S + 1)))

Blocks do overlap, so the share is somewhat smaller: at rate 0.1, blocks of 7x7 and images of 28x28
it is 0.09. The ones are counted over the whole of m, all examples together. The gradient is the
mask: dx = dy * m * (entries / ones).

Reference: Ghiasi, Lin & Le 2018, arXiv:1810.12890, algorithm 1.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax import lax

from jconv.ops.dropout import Rate, arguments, divided, drawn
from jconv.ops.dtypes import MOST_INT32
from jconv.window import PerAxis, per_axis


def drop_block(key: jax.Array, x: jax.Array, rate: Rate, block_size: PerAxis) -> jax.Array:
    """x (N, *spatial, C) with blocks of pixels set to 0, the others scaled up.

    At rate 0 y is x, at rate 1 it is 0, exactly.

    Args:
      rate: the share that is dropped, but for overlaps; may be an array, traced too.
      block_size: pixels per axis, odd or even; at most the image is dropped.

    Raises:
      ValueError: as `jconv.dropout`, an x without spatial axes, or no size of a block.
    """
    x, rate, _ = arguments("drop_block", key, x, rate, axes=3)
    n = x.shape[1:-1]
    size = per_axis(block_size, len(n), "block_size", "drop_block")
    if 0 in n:
        return x
    if not all(isinstance(pixels, int) for pixels in n):
        raise ValueError(
            "drop_block: spatial axes must be known when it is traced, for the share of seeds; got "
            f"x {x.shape}"
        )
    if (count := math.prod(x.shape[1:])) > MOST_INT32:
        raise ValueError(
            "drop_block: an example must have fewer than 2**31 numbers, which are counted in "
            f"int32; got x {x.shape}, {count} numbers each"
        )
    size = [min(r, pixels) for r, pixels in zip(size, n, strict=True)]
    places = [pixels - r + 1 for r, pixels in zip(size, n, strict=True)]
    gamma = rate * (math.prod(n) / (math.prod(size) * math.prod(places)))
    seeds = drawn(key, jnp.where(rate < 1, gamma, 1), x, dict(enumerate(places, 1)))
    mask = ~_blocks(seeds, size)
    return divided(x, mask, _share(mask, gamma.dtype))


def _blocks(seeds, size):
    """True where a seed is at most size - 1 entries back, along each axis."""
    for axis, r in enumerate(size, 1):
        window = [r if a == axis else 1 for a in range(seeds.ndim)]
        pads = [(r - 1, r - 1) if a == axis else (0, 0) for a in range(seeds.ndim)]
        seeds = lax.reduce_window(seeds, False, lax.bitwise_or, window, (1,) * seeds.ndim, pads)
    return seeds


def _share(mask, dtype):
    """The ones among the entries, 0 if there are none: counted in integers for each example."""
    ones = jnp.sum(mask, tuple(range(1, mask.ndim)), dtype=jnp.int32).astype(dtype)
    return jnp.mean(ones) / max(math.prod(mask.shape[1:]), 1)
