"""Masks: which positions of an array count, in norms and losses alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jconv.ops.dtypes import MOST_INT32


def mask_of(op: str, mask: Any, shape: Sequence[Any]) -> jax.Array | None:
    """The mask, broadcast to `shape`: true where a position counts; None stays None.

    Raises:
      ValueError: it is not of booleans, does not broadcast, or an int32 can't count what counts.
    """
    if mask is None:
        return None
    mask = jnp.asarray(mask)
    if mask.dtype != bool or not broadcasts(mask.shape, shape):
        raise ValueError(
            f"{op}: mask must hold booleans that broadcast to {tuple(shape)}; got mask "
            f"{mask.shape} of {mask.dtype}"
        )
    check_countable(op, shape)
    return jnp.broadcast_to(mask, shape)


def check_countable(op: str, shape: Sequence[Any]) -> None:
    """Raises a ValueError where an int32 can't count the positions that count."""
    if all(isinstance(n, int) for n in shape) and math.prod(shape) > MOST_INT32:
        raise ValueError(
            f"{op}: where some positions don't count there must be fewer than 2**31, whose number "
            f"is an int32; got positions {tuple(shape)}"
        )


def broadcasts(shape: Sequence[Any], to: Sequence[Any]) -> bool:
    """Whether an array of `shape` broadcasts to the shape `to` itself, symbolic or not."""
    ends = zip(reversed(shape), reversed(to), strict=False)
    return len(shape) <= len(to) and all(a == 1 or a == b for a, b in ends)
