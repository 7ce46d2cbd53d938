"""Pooling by chance: fractional max pooling and stochastic pooling.

Shapes (any number of spatial axes; written for two): x N H W C, y N P Q C, window R S.

Fractional max pooling takes the maximum of windows whose distances vary. Along an axis of n pixels
with `size` outputs of R pixels, for one u in [0, 1) of every example, channel and axis,

    start[i] = floor((i + u) * alpha) - floor(u * alpha),    alpha = (n - R) / (size - 1)
    start[size - 1] = n - R

(Graham's pseudorandom sequence, windows that overlap). Stochastic pooling takes from each window
one pixel by chance, a with probability a / sum(a); in evaluation the mean of that,
sum(a^2) / sum(a).

What is drawn, in float32 whatever the dtype of x, has no derivative. The pixels that were taken are
linear in x: a chain of selections among gathers with distinct positions, and the `take` of max
pooling, so gradients are the same in every run.

References: Graham 2014, "Fractional max-pooling", arXiv:1412.6071; Zeiler & Fergus 2013,
"Stochastic pooling for regularization of deep convolutional neural networks", arXiv:1301.3557.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec

from jconv.ops.avg_pool import window_sum
from jconv.ops.dropout import check_key
from jconv.ops.dtypes import at_least_float32
from jconv.ops.pooling import (
    check_image,
    check_positions,
    check_windows,
    first_largest,
    pixels,
    pooling_window,
    taps,
)
from jconv.ops.winner import take, tap_dtype
from jconv.window import Padding, PerAxis, entries, hashable, per_axis


def fractional_max_pool(
    key: jax.Array | None,
    x: jax.Array,
    window: PerAxis,
    *,
    output_size: PerAxis | None = None,
    output_ratio: float | Sequence[float] | None = None,
    samples: jax.Array | None = None,
    return_indices: bool = False,
) -> jax.Array | tuple[jax.Array, jax.Array]:
    """Maxima of windows at random distances in x (N, *spatial, C): y (N, *output, C).

    A NaN in a window is its maximum. The gradient goes to the first of equal pixels.

    Args:
      key: of the draw; None where `samples` are given.
      window: pixels per axis; 2 for distances of 1 or 2.
      output_size: pixels, one int for all axes or one per axis.
      output_ratio: instead: output_size is floor(spatial * output_ratio), the ratios in (0, 1).
      samples: u, (N, C, axes) in [0, 1), in the order of the spatial axes.
      return_indices: also returns int32 (N, *output, C), each winner's row-major position.

    Raises:
      ValueError: arguments that don't fit each other, no key and no samples, a key that is not one
        typed key, or not just one of output_size and output_ratio.
    """
    x = jnp.asarray(x)
    check_image("fractional_max_pool", x, "real numbers")
    n, *spatial, c = x.shape
    check_positions("fractional_max_pool", spatial)
    size = per_axis(window, len(spatial), "window", "fractional_max_pool")
    output = _fractional_output(spatial, size, output_size, output_ratio)
    samples = _samples(key, samples, x)
    starts = [
        _starts(samples[:, :, axis], *each)
        for axis, each in enumerate(zip(spatial, output, size, strict=True))
    ]
    flat, candidates = x.reshape(n, math.prod(spatial), c), []
    for tap in np.ndindex(*size):
        at = _positions(starts, tap, spatial, (n, *output, c))
        rows = at.reshape(n, math.prod(output), c)
        pixel = jnp.take_along_axis(flat, rows, 1, mode="promise_in_bounds").reshape(at.shape)
        candidates.append((pixel, at))
    y, position = first_largest(candidates)
    return (y, position) if return_indices else y


def stochastic_pool(
    key: jax.Array | None,
    x: jax.Array,
    window: PerAxis,
    *,
    stride: PerAxis | None = None,
    padding: Padding = "VALID",
    ceil_mode: bool = False,
    deterministic: bool = False,
) -> jax.Array:
    """One pixel of each window of x (N, *spatial, C), by chance: y (N, *output, C).

    Pixels are drawn in proportion to their values, those below 0 never. A window without a positive
    pixel is 0, with gradient 0; one whose sum is infinite or NaN is NaN.

    Args:
      key: of the draw; None with `deterministic`.
      window, stride, padding, ceil_mode: as in `max_pool`; padding is never drawn.
      deterministic: takes the mean of the draw instead of the draw.

    Raises:
      ValueError: arguments that don't fit each other, no key for a draw or one that is not one
        typed key, or an x that is not floating point.
    """
    x = jnp.asarray(x)
    win = pooling_window(
        "stochastic_pool", x, window, stride, padding, 1, ceil_mode, kind="floating-point numbers"
    )
    wide = at_least_float32(x.dtype)
    x = jnp.where(x <= 0, 0, x)
    if deterministic:
        a = x.astype(wide)
        squares, total = (window_sum(t, window=win, dtype=wide) for t in (lax.square(a), a))
        y = jnp.where(total == 0, 0, squares / jnp.where(total == 0, 1, total))
        return y.astype(x.dtype)
    if key is None:
        raise ValueError("stochastic_pool: a draw must have a key; got key=None")
    check_key("stochastic_pool", key)
    check_windows("stochastic_pool", win)
    tap, total = _draw(key, lax.stop_gradient(x).astype(wide), win)
    y = take(x, tap, window=win, dtype=x.dtype)
    return jnp.where(jnp.isfinite(total), y, jnp.nan)


# Fractional max pooling


def _fractional_output(spatial, size, output_size, output_ratio):
    op, axes = "fractional_max_pool", len(spatial)
    if (output_size is None) == (output_ratio is None):
        raise ValueError(
            f"{op}: either output_size or output_ratio must be given; got "
            f"output_size={output_size}, output_ratio={output_ratio}"
        )
    if output_ratio is not None:
        given = hashable(output_ratio)
        many = entries(given)
        ratios = (given,) * axes if many is None else many
        if len(ratios) != axes or not all(map(_is_ratio, ratios)):
            raise ValueError(
                f"{op}: output_ratio must be a number between 0 and 1, or one for each of {axes} "
                f"spatial axes; got {output_ratio}"
            )
        output_size = [int(n * ratio) for n, ratio in zip(spatial, ratios, strict=True)]
    output = per_axis(output_size, axes, "output_size", op)
    if any(r + p - 1 > n for n, p, r in zip(spatial, output, size, strict=True)):
        raise ValueError(
            f"{op}: window + output_size - 1 must not exceed the input; got spatial axes "
            f"{tuple(spatial)}, output_size={output}, window={size}"
        )
    return output


def _is_ratio(value):
    return isinstance(value, int | float) and 0 < value < 1


def _samples(key, samples, x):
    shape = (x.shape[0], x.shape[-1], x.ndim - 2)
    dtype = at_least_float32(x.dtype) if jnp.issubdtype(x.dtype, jnp.floating) else jnp.float32
    if samples is None:
        if key is None:
            raise ValueError(
                "fractional_max_pool: a key or samples must be given; got None for both"
            )
        check_key("fractional_max_pool", key)
        examples, *_, channels = jax.typeof(x).sharding.spec  # all None but on explicit axes
        like = NamedSharding(jax.typeof(x).sharding.mesh, PartitionSpec(examples, channels))
        return jax.random.uniform(key, shape, jnp.float32, out_sharding=like).astype(dtype)
    samples = jnp.asarray(samples)
    if samples.shape != shape or not jnp.issubdtype(samples.dtype, jnp.floating):
        raise ValueError(
            f"fractional_max_pool: samples must be floating point (N, C, axes) = {shape}; got "
            f"samples {samples.shape} of {samples.dtype}, x {x.shape}"
        )
    return lax.stop_gradient(samples).astype(dtype)


def _starts(u, n, size, window):
    """The first pixel of every window along an axis, N P C, from u, N C."""
    u = u[:, None, :]
    last = jnp.full_like(u, n - window, jnp.int32)
    if size == 1:
        return last
    alpha = np.asarray(n - window, u.dtype) / np.asarray(size - 1, u.dtype)
    i = np.arange(size - 1, dtype=u.dtype)[:, None]
    start = jnp.floor((i + u) * alpha) - jnp.floor(u * alpha)
    start = jnp.clip(start.astype(jnp.int32), 0, n - window)  # u outside [0, 1) stays in the image
    return jnp.concatenate([start, last], axis=1)


def _positions(starts, tap, spatial, shape):
    """The row-major position of the pixel that a tap reads in every window, N P Q C."""
    position = jnp.zeros((), jnp.int32)
    for axis, (start, r, n) in enumerate(zip(starts, tap, spatial, strict=True), 1):
        others = [a for a in range(1, len(shape) - 1) if a != axis]
        position = position * n + jnp.expand_dims(start + r, others)
    return jnp.broadcast_to(position, shape)


# Stochastic pooling


def _draw(key, a, window):
    """The tap that is drawn in each window, and the window's sum.

    u * sum, for u uniform in [0, 1), lies in the stretch of the tap that is drawn, when the pixels
    are laid end to end.
    """
    zero, parts = jnp.zeros((), a.dtype), list(taps(window))
    reach = [pixels(a, parts[0], window, zero)]
    for tap in parts[1:]:
        reach.append(reach[-1] + pixels(a, tap, window, zero))
    total = reach[-1]
    like = jax.typeof(total).sharding
    mark = jax.random.uniform(key, total.shape, jnp.float32, out_sharding=like)
    mark = mark.astype(a.dtype) * total
    passed = sum((end <= mark).astype(jnp.int32) for end in reach)
    last = len(parts) - 1  # Where the sum is 0 all are passed, and the last is 0 as they are.
    return jnp.minimum(passed, last).astype(tap_dtype(window)), total
