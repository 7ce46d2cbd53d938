"""Channels to pixels and back: a permutation of numbers, no arithmetic.

Each pixel of x has a block of channels that becomes a block of pixels, one factor per axis. Written
for two axes, with factor (r, s):

    depth_to_space   y[n, h*r + i, w*s + j, c] = x[n, h, w, channel(i, j, c)]
    space_to_depth   the inverse

    order "CRD"   channel = (c*r + i)*s + j      PyTorch's pixel_shuffle
    order "DCR"   channel = (i*s + j)*C + c      TensorFlow's depth_to_space, ONNX's default

Shapes (any number of spatial axes): x (N, *spatial, C * prod(factor)), y (N, *spatial * factor, C).
The transpose of each is the other, so derivatives of any order are permutations too.

Reference: Shi et al. 2016, "Real-time single image and video super-resolution using an efficient
sub-pixel convolutional neural network", arXiv:1609.05158.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from jconv.window import PerAxis, per_axis

ORDERS = ("DCR", "CRD")


def pixel_shuffle(x: jax.Array, factor: PerAxis) -> jax.Array:
    """x (N, *spatial, C * prod(factor)) as (N, *spatial * factor, C), in PyTorch's order.

    Raises:
      ValueError: channels that don't divide into blocks, or a factor that is no int of 1 or more.
    """
    return _to_space("pixel_shuffle", x, factor, "CRD")


def pixel_unshuffle(x: jax.Array, factor: PerAxis) -> jax.Array:
    """x (N, *spatial * factor, C) as (N, *spatial, C * prod(factor)), in PyTorch's order.

    Raises:
      ValueError: pixels that don't divide into blocks, or a factor that is no int of 1 or more.
    """
    return _to_depth("pixel_unshuffle", x, factor, "CRD")


def depth_to_space(x: jax.Array, factor: PerAxis, *, order: str = "DCR") -> jax.Array:
    """x (N, *spatial, C * prod(factor)) as (N, *spatial * factor, C).

    Args:
      order: of the channels of x, in ONNX's words: "DCR" has the block's position before the
        channel (TensorFlow), "CRD" the channel before the position (PyTorch).

    Raises:
      ValueError: as `pixel_shuffle`, or an unknown order.
    """
    return _to_space("depth_to_space", x, factor, order)


def space_to_depth(x: jax.Array, factor: PerAxis, *, order: str = "DCR") -> jax.Array:
    """x (N, *spatial * factor, C) as (N, *spatial, C * prod(factor)): undoes `depth_to_space`.

    Raises:
      ValueError: as `pixel_unshuffle`, or an unknown order.
    """
    return _to_depth("space_to_depth", x, factor, order)


def _to_space(op, x, factor, order):
    x, factor = _checked(op, x, factor, order)
    n, *spatial, channels = x.shape
    if channels % math.prod(factor):
        raise ValueError(
            f"{op}: x's C={channels} does not divide into blocks of {factor} pixels; got x "
            f"{x.shape}, (N, *spatial, C)"
        )
    c, axes = channels // math.prod(factor), len(factor)
    x = x.reshape(n, *spatial, *((*factor, c) if order == "DCR" else (c, *factor)))
    first = axes + 1 if order == "DCR" else axes + 2  # the block's first axis
    pairs = [axis for i in range(axes) for axis in (i + 1, first + i)]
    x = x.transpose(0, *pairs, 2 * axes + 1 if order == "DCR" else axes + 1)
    for axis in range(axes):  # one at a time, or meshes with explicit axes refuse it
        x = x.reshape(*x.shape[: axis + 1], x.shape[axis + 1] * factor[axis], *x.shape[axis + 3 :])
    return x


def _to_depth(op, x, factor, order):
    x, factor = _checked(op, x, factor, order)
    n, *spatial, c = x.shape
    if any(size % r for size, r in zip(spatial, factor, strict=True)):
        raise ValueError(
            f"{op}: x's {tuple(spatial)} pixels do not divide into blocks of {factor}; got x "
            f"{x.shape}, (N, *spatial, C)"
        )
    axes = len(factor)
    blocks = [size // r for size, r in zip(spatial, factor, strict=True)]
    for axis in reversed(range(axes)):  # one at a time, or meshes with explicit axes refuse it
        x = x.reshape(*x.shape[: axis + 1], blocks[axis], factor[axis], *x.shape[axis + 2 :])
    outer, inner, channel = range(1, 2 * axes, 2), range(2, 2 * axes + 1, 2), 2 * axes + 1
    last = (*inner, channel) if order == "DCR" else (channel, *inner)
    return x.transpose(0, *outer, *last).reshape(n, *blocks, c * math.prod(factor))


def _checked(op, x, factor, order):
    x = jnp.asarray(x)
    if x.ndim < 3:
        raise ValueError(
            f"{op}: x must be (N, *spatial, C) with one or more spatial axes; got x {x.shape}"
        )
    if order not in ORDERS:
        raise ValueError(f"{op}: order must be one of {', '.join(ORDERS)}; got {order!r}")
    return x, per_axis(factor, x.ndim - 2, "factor", op)
