"""Soft Dice loss, of the overlap of a predicted and a true region, for each class.

    1 - (2 sum of p g + smooth) / (sum of p^2 + sum of g^2 + smooth)

Shapes: probabilities p and targets g (N, *spatial, C), the sums over the pixels. A class with few
pixels weighs as much as one with many. Without the squares (`squared=False`) g is as good as
before, being 0 or 1, and p is taken as a measure: the Sorensen-Dice coefficient of fuzzy sets.
Summed, and returned, in float32 or wider.

Reference: Milletari, Navab & Ahmadi 2016, arXiv:1606.04797.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jconv.ops.losses.reduction import check_reduction, reduced
from jconv.ops.losses.targets import targets_of


def dice(
    probabilities: jax.Array,
    labels: jax.Array,
    *,
    smooth: float = 1e-5,
    squared: bool = True,
    over_batch: bool = False,
    ignore_index: int | None = None,
    mask: jax.Array | None = None,
    reduction: str = "mean",
) -> jax.Array:
    """The Dice loss of probabilities (N, *spatial, C): a number, or one for each example and class.

    Args:
      probabilities: after the softmax or the sigmoid.
      labels: integers (N, *spatial) in [0, C), or targets of the probabilities' shape in floating
        point: for one class against the background, C = 1, and for classes that overlap.
      smooth: added above and below, so that a class that is neither there nor predicted has loss 0;
        with 0 it is NaN.
      squared: sums squares below, as the paper does; else the values themselves.
      over_batch: one region over all examples: the losses are (C,) instead of (N, C).
      ignore_index, mask: as in `softmax_cross_entropy`; what doesn't count is in neither region.

    Raises:
      ValueError: shapes, dtypes or arguments that don't fit each other.
    """
    check_reduction("dice", reduction)
    p, g, _ = targets_of("dice", "probabilities", probabilities, labels, ignore_index, mask)
    if p.ndim < 3:
        raise ValueError(
            "dice: probabilities must be (N, *spatial, C) with one or more spatial axes; got "
            f"probabilities {p.shape}"
        )
    axes = tuple(range(0 if over_batch else 1, p.ndim - 1))
    size = jnp.square if squared else lambda region: region
    below = jnp.sum(size(p), axes) + jnp.sum(size(g), axes) + smooth
    return reduced(1 - (2 * jnp.sum(p * g, axes) + smooth) / below, None, reduction)
