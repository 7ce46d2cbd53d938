"""Padding an image with zeros or with its own pixels, and the adjoint, which adds them up.

    pad      y = P x     [N HW C] -> [N (lo + H + hi) (lo + W + hi) C]
    unpad    x = P' y

Each row of P has at most a single 1: at the pixel that it copies.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from jconv.window import Padding, Pair, resolve_padding

MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def pad(
    x: jax.Array, padding: Padding, padding_mode: str = "zeros", *, op: str = "pad"
) -> jax.Array:
    """x (N, *spatial, C) with pixels around it.

    Args:
      padding: int | one entry per axis, each int or (lo, hi), in pixels.
      padding_mode: what they hold: "zeros" | "reflect" (mirrored, the border pixel not repeated) |
        "replicate" (the border pixel) | "circular".
      op: the operation that asks, for the error messages.

    Raises:
      ValueError: an x without spatial axes, an unknown mode, a padding that does not fit, or more
        than the image can fill: a reflection has at most size - 1 pixels, a circular image at most
        size, and an axis without a pixel has none to copy.
    """
    x = jnp.asarray(x)
    if x.ndim < 3:
        raise ValueError(
            f"{op}: x must be (N, *spatial, C) with one or more spatial axes; got x {x.shape}"
        )
    pads = _pads(padding, x.shape[1:-1], padding_mode, op)
    return jnp.pad(x, [(0, 0), *pads, (0, 0)], mode=MODES[padding_mode])


def unpad(y: jax.Array, pads: Sequence[Pair], padding_mode: str, *, op: str = "unpad") -> jax.Array:
    """The adjoint of `pad`: each padding pixel of y is added to the pixel of which it is a copy.

    y (N, *padded, C) gives x (N, *spatial, C), where padded is spatial + lo + hi.

    Raises:
      ValueError: as `pad`.
    """
    padded = y.shape[1:-1]
    spatial = tuple(n - lo - hi for n, (lo, hi) in zip(padded, pads, strict=True))
    for axis, (n, (lo, hi)) in enumerate(
        zip(spatial, _pads(pads, spatial, padding_mode, op), strict=True), 1
    ):
        before, x, after = jnp.split(y, [lo, lo + n], axis)
        # Where the first pixel of each part belongs.
        if padding_mode == "reflect":
            parts = ((jnp.flip(before, axis), 1), (jnp.flip(after, axis), n - 1 - hi))
        elif padding_mode == "replicate":
            sides = (jnp.sum(part, axis, keepdims=True, dtype=y.dtype) for part in (before, after))
            parts = zip(sides, (0, n - 1), strict=True)
        else:
            parts = ((before, n - lo), (after, 0)) if padding_mode == "circular" else ()
        for part, start in parts:
            config = [(0, 0, 0)] * y.ndim
            config[axis] = (start, n - start - part.shape[axis], 0)
            x = x + lax.pad(part, jnp.zeros((), y.dtype), config)
        y = x
    return y


def _pads(padding, spatial, mode, op):
    """(lo, hi) per axis, if the image can fill them."""
    if not isinstance(mode, str) or mode not in MODES:
        raise ValueError(f"{op}: padding_mode must be one of {', '.join(MODES)}; got {mode!r}")
    if isinstance(padding, str):
        raise ValueError(
            f"{op}: padding must be an int, or one int or (lo, hi) pair per axis; got {padding!r}"
        )
    pads = resolve_padding(padding, spatial, spatial, spatial, op)
    most = tuple(_most(mode, n) for n in spatial)
    if any(max(p) > n for p, n in zip(pads, most, strict=True)):
        raise ValueError(
            f'{op}: padding_mode="{mode}" can fill at most {most} pixels on each side of an image '
            f"of {tuple(spatial)}; got padding {pads}"
        )
    return pads


def _most(mode, n):
    """How many pixels an axis of n can fill on each side."""
    if mode == "zeros" or (mode == "replicate" and n != 0):
        return math.inf
    return 0 if n == 0 else {"reflect": n - 1, "circular": n}[mode]


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
