"""What the relatives of `conv` check of a filter and a bias."""

from __future__ import annotations

import jax


def check_channels(op: str, x: jax.Array, w: jax.Array, groups: int, shapes: str) -> None:
    """Refuses a filter w (..., C/groups, K) that does not fit x (..., C) or does not divide.

    Args:
      shapes: both, in words, for the error message.
    """
    if x.shape[-1] != w.shape[-2] * groups:
        raise ValueError(
            f"{op}: x has C={x.shape[-1]} but w takes C/groups={w.shape[-2]}, groups={groups}; "
            f"{shapes}"
        )
    if w.shape[-1] % groups:
        raise ValueError(
            f"{op}: w's K={w.shape[-1]} does not divide into groups={groups}; {shapes}"
        )


def check_bias(op: str, b: jax.Array | None, x: jax.Array, w: jax.Array) -> None:
    """Refuses a bias that is not (K,) for a filter w (..., K), or not of x's dtype."""
    if b is not None and (b.shape != w.shape[-1:] or b.dtype != x.dtype):
        raise ValueError(
            f"{op}: b must be (K,) = {w.shape[-1:]} of {x.dtype}; got b {b.shape} of {b.dtype}"
        )
