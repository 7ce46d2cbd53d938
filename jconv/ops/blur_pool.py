"""Blur pooling: a binomial low-pass filter before every stride, so that shifts survive it.

    y[n, p, q, c] = sum over r, s of x[n, p*stride + r - lo, q*stride + s - lo, c] * f[r] * f[s]
    f = (1 1) * (1 1) * ... / 2^(R - 1)      [1], [1 1]/2, [1 2 1]/4, [1 3 3 1]/8, ...

Shapes (any number of spatial axes; written for two): x N H W C, y N P Q C with P = ceil(H /
stride), taps R S. The padding is half the filter on each side: lo = (R - 1) // 2, hi = R // 2. One
axis is filtered after the other, as a sum of strided slices: linear, in lax operations alone.
float16 and bfloat16 are summed in float32.

Reference: Zhang 2019, "Making convolutional networks shift-invariant again", arXiv:1904.11486.
"""

from __future__ import annotations

import functools
import math
import operator

import jax
import jax.numpy as jnp
from jax import lax

from jconv.ops.dtypes import at_least_float32
from jconv.ops.pad import pad
from jconv.window import PerAxis, Window, centred, per_axis


def blur_pool(
    x: jax.Array,
    window: PerAxis = 3,
    *,
    stride: PerAxis = 2,
    padding_mode: str = "reflect",
) -> jax.Array:
    """x (N, *spatial, C), blurred by a binomial filter and strided: y (N, *output, C).

    Args:
      window: taps of the filter, per axis.
      padding_mode: "zeros" | "reflect" | "replicate" | "circular", as in `conv`.

    Raises:
      ValueError: an x that is not floating point or complex, or arguments that don't fit it.
    """
    x = jnp.asarray(x)
    if x.ndim < 3 or not jnp.issubdtype(x.dtype, jnp.inexact):
        raise ValueError(
            "blur_pool: x must be floating point or complex (N, *spatial, C) with one or more "
            f"spatial axes; got x {x.shape} of {x.dtype}"
        )
    axes = x.ndim - 2
    size = per_axis(window, axes, "window", "blur_pool")
    padded = pad(x, centred(size, (1,) * axes), padding_mode, op="blur_pool")
    win = Window.of(padded.shape[1:-1], size, stride=stride, op="blur_pool")
    y = padded.astype(at_least_float32(x.dtype))
    for axis in range(axes):
        y = _blur_axis(y, axis, win)
    return y.astype(x.dtype)


def _blur_axis(x, axis, window):
    taps, stride = window.size[axis], window.stride[axis]
    stop = max((window.output[axis] - 1) * stride + 1, 0)
    terms = [
        lax.slice_in_dim(x, r, r + stop, stride, axis + 1)
        * jnp.asarray(math.comb(taps - 1, r) / 2 ** (taps - 1), x.dtype)
        for r in range(taps)
    ]
    return functools.reduce(operator.add, terms)
