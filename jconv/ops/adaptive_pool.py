"""Adaptive and global pooling: the window follows from the output's size.

Along an axis of n pixels, output i of `size` pools the bin

    floor(i * n / size) <= k < ceil((i + 1) * n / size)

so bins overlap by a pixel where n does not divide, and repeat pixels where size > n (PyTorch).
Shapes (any number of spatial axes; written for two): x N H W C, y N P Q C.

Pixel k is in bin i exactly if i is in bin k when n and size change places: the condition is
i*n < (k + 1)*size and (i + 1)*n > k*size. So the sum over bins is its own transpose, and needs no
scatter:

    bin_sum     B(n, size)' = B(size, n)     [N HW C] -> [N PQ C]

The maximum is taken along one axis after the other, by argmax and gather: the first winner in
row-major order. The gather's transpose adds at most two numbers to a pixel along an axis where
size <= n, in either order the same. Sums of float16 and bfloat16 are taken in float32.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jconv.core import Operation, linear, one_body
from jconv.ops.dtypes import at_least_float32
from jconv.ops.pooling import check_image, check_not_empty, check_positions, fold, least
from jconv.window import entries, per_axis

type OutputSize = int | Sequence[int | None] | None


def adaptive_avg_pool(x: jax.Array, output_size: OutputSize) -> jax.Array:
    """The mean of each bin of x (N, *spatial, C): y (N, *output_size, C).

    Args:
      output_size: pixels, one int for all axes or one entry per axis; None keeps an axis.

    Raises:
      ValueError: arguments that don't fit each other, a spatial axis without a pixel, or an x that
        is not floating point or complex.
    """
    x = jnp.asarray(x)
    check_image("adaptive_avg_pool", x, "floating-point or complex numbers")
    input, output = x.shape[1:-1], _output("adaptive_avg_pool", x, output_size)
    dtype = at_least_float32(x.dtype)
    count = np.ones((), np.int64)
    for n, size in zip(input, output, strict=True):
        count = count[..., None] * _bins(n, size)[1]
    y = bin_sum(x, input=input, output=output, dtype=dtype)
    return (y / count[..., None].astype(dtype)).astype(x.dtype)


def adaptive_max_pool(
    x: jax.Array, output_size: OutputSize, *, return_indices: bool = False
) -> jax.Array | tuple[jax.Array, jax.Array]:
    """The largest pixel of each bin of x (N, *spatial, C): y (N, *output_size, C).

    A NaN in a bin is its maximum. The gradient goes to the first of equal pixels.

    Args:
      output_size: as in `adaptive_avg_pool`.
      return_indices: also returns int32 (N, *output_size, C), each winner's row-major position.

    Raises:
      ValueError: arguments that don't fit each other, a spatial axis without a pixel, or an x that
        does not hold real numbers.
    """
    x = jnp.asarray(x)
    check_image("adaptive_max_pool", x, "real numbers")
    y, position = _bin_max(x, _output("adaptive_max_pool", x, output_size), return_indices)
    return (y, position) if return_indices else y


def global_avg_pool(x: jax.Array, *, keepdims: bool = False) -> jax.Array:
    """The mean of each channel of x (N, *spatial, C): (N, C), or (N, 1, ..., C) with keepdims.

    Raises:
      ValueError: an x that is not (N, *spatial, C), floating point or complex, or without a pixel.
    """
    x = jnp.asarray(x)
    check_image("global_avg_pool", x, "floating-point or complex numbers")
    check_not_empty("global_avg_pool", x)
    axes = tuple(range(1, x.ndim - 1))
    return jnp.mean(x, axes, dtype=at_least_float32(x.dtype), keepdims=keepdims).astype(x.dtype)


def global_max_pool(x: jax.Array, *, keepdims: bool = False) -> jax.Array:
    """The largest pixel of each channel of x (N, *spatial, C): (N, C), or (N, 1, ..., C) with
    keepdims; NaN and ties as in `adaptive_max_pool`.

    Raises:
      ValueError: an x that is not (N, *spatial, C), of real numbers, or without a pixel.
    """
    x = jnp.asarray(x)
    check_image("global_max_pool", x, "real numbers")
    y, _ = _bin_max(x, _output("global_max_pool", x, 1), False)
    return y if keepdims else y.reshape(x.shape[0], x.shape[-1])


# The sum over bins


def _bin_sum_xla(x, *, input, output, dtype):
    x = x.astype(at_least_float32(x.dtype))
    for axis, (n, size) in enumerate(zip(input, output, strict=True), 1):
        x = x if n == size else jnp.sum(_binned(x, axis, size, 0), axis + 1)
    return x.astype(dtype)


def _bin_sum_transposed(dy, *, input, output, implementation, **static):
    return bin_sum(dy, input=output, output=input, implementation=implementation, **static)


bin_sum = Operation("bin_sum", one_body(_bin_sum_xla), fold=lambda *a, **k: fold(bin_sum, *a, **k))
linear(bin_sum, _bin_sum_transposed)


# The maximum over bins


def _bin_max(x, output, positions):
    """The maxima, and their row-major positions if wanted: of rows, then of the rows' maxima."""
    input, position = x.shape[1:-1], jnp.zeros((), jnp.int32)
    for axis in reversed(range(1, x.ndim - 1)):
        n, size = input[axis - 1], output[axis - 1]
        if n == size:  # Every bin is one pixel.
            winner = lax.broadcasted_iota(jnp.int32, x.shape, axis)
        else:
            winner = _first_largest(lax.stop_gradient(x), axis, size)
            x = _at(x, winner, axis)
            position = _at(position, winner, axis) if position.ndim else position
        if positions:
            position = winner * math.prod(input[axis:]) + position
    return x, position


def _first_largest(x, axis, size):
    """Where along the axis each bin's largest pixel stands."""
    start, _ = _bins(x.shape[axis], size)
    place = lax.argmax(_binned(x, axis, size, least(x.dtype)), axis + 1, jnp.int32)
    return place + _along(start.astype(np.int32), axis, x.ndim)


def _at(x, winner, axis):
    return jnp.take_along_axis(x, winner, axis, mode="promise_in_bounds")


# Bins


def _bins(n, size):
    """The first pixel of every bin, and its number of pixels."""
    i = np.arange(size)
    start = i * n // size
    return start, -(-(i + 1) * n // size) - start


def _binned(x, axis, size, fill):
    """x with the pixels of a bin on an axis of their own, after `axis`; `fill` after the last."""
    start, length = _bins(x.shape[axis], size)
    longest = max(length, default=1)
    shape = (*x.shape[:axis], size, longest, *x.shape[axis + 1 :])
    if size * longest == x.shape[axis]:
        return x.reshape(shape)
    pixel = np.minimum(start[:, None] + np.arange(longest), x.shape[axis] - 1).astype(np.int32)
    parts = jnp.take(x, pixel.ravel(), axis, mode="clip").reshape(shape)
    inside = np.arange(longest) < length[:, None]
    return jnp.where(_along(inside, axis, x.ndim + 1), parts, jnp.asarray(fill, x.dtype))


def _along(values, axis, ndim):
    """An array whose axes are those of the result from `axis` on, to broadcast."""
    return values.reshape((1,) * axis + values.shape + (1,) * (ndim - axis - values.ndim))


def _output(op, x, output_size):
    check_not_empty(op, x)
    check_positions(op, x.shape[1:-1])
    input = x.shape[1:-1]
    many = entries(output_size)
    sizes = [output_size] * len(input) if many is None else list(many)
    if len(sizes) == len(input):
        sizes = [n if size is None else size for n, size in zip(input, sizes, strict=True)]
    return per_axis(sizes, len(input), "output_size", op)
