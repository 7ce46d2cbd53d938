"""Losses on a field: a network is trained towards one that is as wide, or of a shape, as wanted.

    radius_loss  = log(radius(field) / target)^2
    shape_loss   = sum of (p - q)^2 / sum of q^2         p, q: field and target, each with sum 1

Both are 0 where the wish is met, have no unit, and don't change when the field is multiplied by a
number: no network meets them by smaller weights. The field is made of first derivatives, so that
its gradient is made of second ones: `gradient_maps(..., magnitude="square")` is smooth where the
network is; "abs" has a kink wherever a gradient is 0. ReLU networks have second derivatives of 0
almost everywhere, but for those through the weights, which is all that training needs.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jconv.ops.dtypes import at_least_float32
from jconv.receptive_field.measures import radius


def radius_loss(
    field: jax.Array,
    target: jax.Array | float,
    *,
    centre: jax.Array | Sequence[float] | None = None,
) -> jax.Array:
    """log(radius / target)^2 of field (*spatial): 0.0004 is 2 % off.

    Args:
      target: pixels.
      centre: as of `radius`. Where the unit's own position is given, a field that leaves it counts
        as wide.

    Raises:
      ValueError: as `radius`.
    """
    wide = radius(field, centre=centre)
    return jnp.log(wide / jnp.asarray(target, wide.dtype)) ** 2


def shape_loss(field: jax.Array, target: jax.Array) -> jax.Array:
    """The squared distance of two fields (*spatial) as densities, in units of the target's own.

    The target is any field, such as a `gaussian_field`; it is divided by its sum.

    Raises:
      ValueError: fields of different shapes.
    """
    field, target = jnp.asarray(field), jnp.asarray(target)
    if field.shape != target.shape:
        raise ValueError(
            "shape_loss: field and target must have one shape (*spatial); got field "
            f"{field.shape}, target {target.shape}"
        )
    dtype = at_least_float32(field.dtype)
    p, q = (a.astype(dtype) / a.astype(dtype).sum() for a in (field, target))
    return ((p - q) ** 2).sum() / (q**2).sum()
