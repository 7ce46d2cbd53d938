"""Padding an image with something other than zeros, and the adjoint of periodic padding."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jconv.window import Pair

MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def pad(x: jax.Array, pads: Sequence[Pair], mode: str = "zeros", *, op: str = "pad") -> jax.Array:
    """x (N, *spatial, C) with `pads`, (lo, hi) pixels per spatial axis, around it.

    Args:
      mode: "zeros" | "reflect" (mirrored, the border pixel not repeated) | "replicate" (the border
        pixel) | "circular".
      op: the operation that asks, for the error messages.

    Raises:
      ValueError: an unknown mode, or more padding than the image can fill: a reflection has at most
        size - 1 pixels, a circular image at most size.
    """
    if mode not in MODES:
        raise ValueError(f"{op}: padding_mode must be one of {', '.join(MODES)}; got {mode!r}")
    spatial = x.shape[1:-1]
    spare = {"reflect": 1, "circular": 0}.get(mode)
    if spare is not None and any(max(p) > n - spare for p, n in zip(pads, spatial, strict=True)):
        raise ValueError(
            f'{op}: padding_mode="{mode}" can fill at most {tuple(n - spare for n in spatial)} '
            f"pixels on each side of an image of {tuple(spatial)}; got padding {tuple(pads)}"
        )
    return jnp.pad(x, [(0, 0), *pads, (0, 0)], mode=MODES[mode])


def wrap(
    y: jax.Array, b: jax.Array | None = None, *, period: Sequence[int], start: Sequence[int]
) -> jax.Array:
    """The periodic image (N, *period, C) on which y (N, *spatial, C) lies in rounds, plus b (C).

    Pixel i of y is added to pixel (start + i) % period: the adjoint of circular padding.
    """
    for axis, (n, first) in enumerate(zip(period, start, strict=True), 1):
        before = first % n
        after = -(before + y.shape[axis]) % n
        y = jnp.pad(y, [(before, after) if a == axis else (0, 0) for a in range(y.ndim)])
        y = y.reshape(*y.shape[:axis], -1, n, *y.shape[axis + 1 :]).sum(axis)
    return y if b is None else y + b.reshape((1,) * (y.ndim - 1) + b.shape)
