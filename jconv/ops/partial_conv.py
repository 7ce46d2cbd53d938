"""Partial convolution: pixels that are missing are left out, and each window is scaled up for them.

    y[n, p, q, k] = b[k] + (taps / held) * sum over r, s, c of (x * m)[...] * w[r, s, c, k]
    y[n, p, q, k] = 0 and m'[n, p, q] = 0      where a window holds no pixel: held = 0
    m'[n, p, q] = 1                            elsewhere

with `held` the sum of the mask m over a window and `taps` the same for a mask of ones; padding
counts as missing, so borders are scaled up too. Shapes as in `conv`, m N H W 1 or N H W C. Missing
pixels are replaced by 0, not multiplied by it: they may be NaN, and their gradient is 0.

References: Liu et al. 2018, "Image inpainting for irregular holes using partial convolutions",
arXiv:1804.07723; the same 2018, "Partial convolution based padding", arXiv:1811.11718.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax import lax

from jconv.ops.avg_pool import window_sum
from jconv.ops.conv import conv
from jconv.ops.dtypes import at_least_float32
from jconv.ops.filters import check_bias
from jconv.window import Padding, PerAxis, Window, whole


def partial_conv(
    x: jax.Array,
    mask: jax.Array,
    w: jax.Array,
    b: jax.Array | None = None,
    *,
    stride: PerAxis = 1,
    padding: Padding = "SAME",
    dilation: PerAxis = 1,
    groups: int = 1,
    precision: lax.PrecisionLike = None,
    implementation: str | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Convolution of the pixels of x (N, *spatial, C) where mask is not 0: (y, updated mask).

    Args:
      mask: (N, *spatial, 1), or (N, *spatial, C) with a mask for each channel; booleans or numbers,
        of which only 0 means missing. N may be 1. It has no gradient.
      stride, padding, dilation, groups, precision, implementation: as in `conv`.

    Returns:
      y (N, *output, K), and the updated mask of mask's dtype: (N, *output, 1), or (N, *output, K)
      from a mask for each channel, so that it fits y.

    Raises:
      ValueError: a mask of another shape, or as `conv`.
    """
    x, mask, w = jnp.asarray(x), jnp.asarray(mask), jnp.asarray(w)
    b = None if b is None else jnp.asarray(b)
    _check(x, mask)
    groups = whole(groups, "groups", "partial_conv")
    present, dtype = mask.astype(bool), at_least_float32(x.dtype)
    y = conv(
        jnp.where(present, x, jnp.zeros((), x.dtype)), w, stride=stride, padding=padding,
        dilation=dilation, groups=groups, precision=precision, preferred_element_type=dtype,
        implementation=implementation,
    )  # fmt: skip
    window = Window.of(
        x.shape[1:-1], w.shape[:-2], stride=stride, padding=padding, dilation=dilation,
        op="partial_conv",
    )  # fmt: skip
    taps, held = math.prod(window.size), present.astype(jnp.float32)
    if mask.shape[-1] != 1:
        taps *= w.shape[-2]
        held = held.reshape(*held.shape[:-1], groups, w.shape[-2]).sum(-1)
        held = jnp.repeat(held, w.shape[-1] // groups, -1)
    held = window_sum(held, window=window, dtype=jnp.dtype(jnp.float32))
    seen = held > 0
    y = y * (taps / jnp.maximum(held, 1).astype(dtype))
    check_bias("partial_conv", b, x, w)
    y = y.astype(x.dtype) if b is None else (y + b.astype(dtype)).astype(x.dtype)
    return jnp.where(seen, y, jnp.zeros((), y.dtype)), seen.astype(mask.dtype)


def _check(x, mask):
    if not jnp.issubdtype(x.dtype, jnp.inexact):
        raise ValueError(
            f"partial_conv: x must be floating point or complex; got x {x.shape} of {x.dtype}"
        )
    fits = mask.ndim == x.ndim >= 3 and mask.shape[1:-1] == x.shape[1:-1]
    if not fits or mask.shape[0] not in (1, x.shape[0]) or mask.shape[-1] not in (1, x.shape[-1]):
        raise ValueError(
            "partial_conv: mask must be (N, *spatial, 1) or (N, *spatial, C) for x (N, *spatial, "
            f"C); got mask {mask.shape}, x {x.shape}"
        )
