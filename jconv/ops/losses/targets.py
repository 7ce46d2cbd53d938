"""Labels of classes as probabilities, from integers or as they are, and what counts of them."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jconv.ops.dtypes import MOST_INT32, wider
from jconv.ops.losses.reduction import floating, only
from jconv.ops.mask import check_countable, mask_of


def targets_of(
    op: str,
    name: str,
    x: jax.Array,
    labels: jax.Array,
    ignore_index: int | None,
    mask: jax.Array | None,
) -> tuple[jax.Array, jax.Array, jax.Array | None]:
    """x, targets (..., C) in one dtype, both 0 where they don't count, and what counts (...).

    Args:
      name: what `op` calls x, (..., C): floating point.
      labels: integers (...), or probabilities (..., C). An integer that is no class makes its
        target NaN: a loss that is wrong must not look right.

    Raises:
      ValueError: shapes or dtypes that don't fit each other, or an `ignore_index` for
        probabilities.
    """
    x, labels = floating(op, name, x), jnp.asarray(labels)
    if not x.ndim or not x.shape[-1]:
        raise ValueError(f"{op}: the last axis of {name} must be classes; got {name} {x.shape}")
    whole = jnp.issubdtype(labels.dtype, jnp.integer)
    if whole and isinstance(x.shape[-1], int) and x.shape[-1] > MOST_INT32:
        raise ValueError(
            f"{op}: integer labels must be of fewer than 2**31 classes; got {name} {x.shape}"
        )
    if not whole and not jnp.issubdtype(labels.dtype, jnp.floating):
        raise ValueError(
            f"{op}: labels must be integers, or probabilities in floating point; got labels of "
            f"{labels.dtype}"
        )
    if labels.shape != (x.shape[:-1] if whole else x.shape):
        kind, shape = ("integer", ", without its last axis") if whole else ("floating-point", "")
        raise ValueError(
            f"{op}: {kind} labels must have the shape of {name}{shape}; got labels "
            f"{labels.shape}, {name} {x.shape}"
        )
    counted = mask_of(op, mask, x.shape[:-1])
    if not whole:
        if ignore_index is not None:
            raise ValueError(
                f"{op}: ignore_index is for integer labels; got labels of {labels.dtype}"
            )
        dtype = wider(x.dtype, labels.dtype)
        return only(counted, x.astype(dtype)), only(counted, labels.astype(dtype)), counted
    labels = labels if labels.dtype == jnp.int64 else labels.astype(jnp.int32)
    if ignore_index is not None:
        check_countable(op, labels.shape)
        named = labels != ignore_index
        counted = named if counted is None else counted & named
    classes = jnp.arange(x.shape[-1], dtype=labels.dtype)
    target = (labels[..., None] == classes).astype(x.dtype)
    is_class = (labels >= 0) & (labels < x.shape[-1])
    target = jnp.where(is_class[..., None], target, jnp.nan)
    return only(counted, x), only(counted, target), counted


def weight_of(op: str, weight: jax.Array | None, x: jax.Array) -> jax.Array | None:
    """The weights of the classes (C,), in the dtype of x.

    Raises:
      ValueError: there is not one for each class.
    """
    if weight is None:
        return None
    weight = floating(op, "weight", weight)
    if weight.shape != x.shape[-1:]:
        raise ValueError(
            f"{op}: weight must be one number for each of C={x.shape[-1]} classes; got weight "
            f"{weight.shape}"
        )
    return weight.astype(x.dtype)
