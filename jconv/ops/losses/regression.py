"""Losses of numbers: of the deviation d = x - target, of x's shape.

    mse      d^2
    mae      |d|                                      derivative 0 at 0
    huber    d^2 / 2 up to |d| = delta, then delta (|d| - delta / 2)

Computed, and returned, in float32 or wider.

Reference: Huber 1964, "Robust estimation of a location parameter".
"""

from __future__ import annotations

import numbers

import jax
import jax.numpy as jnp

from jconv.ops.losses.reduction import check_reduction, only, pair, reduced
from jconv.ops.mask import mask_of


def mse(
    x: jax.Array, target: jax.Array, *, mask: jax.Array | None = None, reduction: str = "mean"
) -> jax.Array:
    """The squared deviation of x from a target of its shape: a number, or one for each.

    Args:
      mask: booleans that broadcast to x: only where it is true do numbers count.

    Raises:
      ValueError: shapes (they don't broadcast), dtypes or arguments that don't fit each other.
    """
    deviation, counted = _deviation("mse", x, target, mask, reduction)
    return reduced(jnp.square(deviation), counted, reduction)


def mae(
    x: jax.Array, target: jax.Array, *, mask: jax.Array | None = None, reduction: str = "mean"
) -> jax.Array:
    """The absolute deviation of x from a target of its shape: a number, or one for each.

    Args and errors are those of `mse`.
    """
    deviation, counted = _deviation("mae", x, target, mask, reduction)
    # Not jnp.abs, whose derivative at 0 is 1.
    return reduced(jnp.sign(deviation) * deviation, counted, reduction)


def huber(
    x: jax.Array,
    target: jax.Array,
    *,
    delta: float = 1.0,
    mask: jax.Array | None = None,
    reduction: str = "mean",
) -> jax.Array:
    """The Huber loss of x for a target of its shape: a number, or one for each.

    Args:
      delta: positive: where the parabola becomes a line. huber / delta is PyTorch's smooth_l1_loss
        with beta=delta.
      mask, reduction: as in `mse`.

    Raises:
      ValueError: as `mse`, or a delta that is not positive.
    """
    if isinstance(delta, numbers.Real) and not delta > 0:
        raise ValueError(f"huber: delta must be positive; got delta={delta}")
    deviation, counted = _deviation("huber", x, target, mask, reduction)
    size = jnp.abs(deviation)
    # Zero in place of a far deviation: its square, not chosen, may be infinite.
    near = jnp.where(size <= delta, deviation, 0)
    line = delta * (size - delta / 2)
    return reduced(jnp.where(size <= delta, near * near / 2, line), counted, reduction)


def _deviation(op, x, target, mask, reduction):
    check_reduction(op, reduction)
    x, target = pair(op, "x", x, "target", target)
    counted = mask_of(op, mask, x.shape)
    return only(counted, x) - only(counted, target), counted
