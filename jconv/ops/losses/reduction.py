"""What all losses share: the arrays at the door and the reduction."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jconv.ops.dtypes import at_least_float32, wider

REDUCTIONS = ("mean", "sum", "none")


def floating(op: str, name: str, value: jax.Array) -> jax.Array:
    """`value` in float32 or wider.

    Raises:
      ValueError: it is not floating point.
    """
    value = jnp.asarray(value)
    if not jnp.issubdtype(value.dtype, jnp.floating):
        raise ValueError(
            f"{op}: {name} must be floating point; got {name} {value.shape} of {value.dtype}"
        )
    return value.astype(at_least_float32(value.dtype))


def pair(op: str, first: str, x: jax.Array, second: str, y: jax.Array):
    """x and y, of one shape and in one dtype, float32 or wider; y may hold booleans or integers.

    Raises:
      ValueError: x is not floating point, y holds no real numbers, or their shapes differ.
    """
    x, y = floating(op, first, x), jnp.asarray(y)
    if x.shape != y.shape:
        raise ValueError(
            f"{op}: {first} and {second} must have one shape; got {first} {x.shape}, {second} "
            f"{y.shape}"
        )
    if jnp.iscomplexobj(y):
        raise ValueError(f"{op}: {second} must hold real numbers; got {second} of {y.dtype}")
    dtype = wider(x.dtype, y.dtype) if jnp.issubdtype(y.dtype, jnp.floating) else x.dtype
    return x.astype(dtype), y.astype(dtype)


def only(counted: jax.Array | None, x: jax.Array) -> jax.Array:
    """x where it counts, else 0: what a position that does not count holds reaches nothing.

    Where x has one axis more than `counted`, that is its last.
    """
    if counted is None:
        return x
    return jnp.where(counted[..., None] if counted.ndim < x.ndim else counted, x, 0)


def reduced(
    losses: jax.Array,
    counted: jax.Array | None,
    reduction: str,
    importance: jax.Array | None = None,
) -> jax.Array:
    """The losses that count, their sum, or their mean: the sum over that of `importance`.

    Args:
      importance: of the losses' shape; None is 1 for each.
    """
    losses = only(counted, losses)
    if reduction == "none":
        return losses
    if reduction == "sum":
        return jnp.sum(losses)
    if importance is not None:
        return jnp.sum(losses) / jnp.sum(only(counted, importance))
    if counted is None:
        return jnp.mean(losses)
    return jnp.sum(losses) / jnp.sum(counted, dtype=jnp.int32).astype(losses.dtype)


def check_reduction(op: str, reduction: str) -> None:
    """Raises a ValueError unless it is one of the three."""
    if reduction not in REDUCTIONS:
        raise ValueError(
            f'{op}: reduction must be "mean", "sum" or "none"; got reduction={reduction!r}'
        )
