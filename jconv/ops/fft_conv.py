"""Convolution by the fast Fourier transform, whose cost hardly depends on the size of the filter.

    y = irfft(rfft(x) * conj(rfft(w))), read at p*stride - lo        per axis, modulo its length F

Shapes as in `conv`: x N H W C, w R S C/G K, y N P Q K. Lengths, products and memory are those of
`jconv.algorithms.spectral`. A composition of JAX's transforms, differentiable to any order in both
modes. float16 and bfloat16 are transformed in float32. Rounding errors are relative to the largest
output of an image, where those of a sum are relative to its own terms; a NaN or infinity reaches
the whole image.

Reference: Mathieu, Henaff & LeCun 2014, "Fast training of convolutional networks through FFTs",
arXiv:1312.5851.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax import lax

from jconv.algorithms import spectral
from jconv.ops.dtypes import MOST_INT32, at_least_float32
from jconv.ops.filters import check_bias, check_channels
from jconv.window import Padding, PerAxis, Window, whole


def fft_conv(
    x: jax.Array,
    w: jax.Array,
    b: jax.Array | None = None,
    *,
    stride: PerAxis = 1,
    padding: Padding = "SAME",
    dilation: PerAxis = 1,
    groups: int = 1,
    precision: lax.PrecisionLike = "highest",
) -> jax.Array:
    """`conv` of x (N, *spatial, C) with w (*window, C/groups, K), plus b (K): y (N, *output, K).

    Real or complex. From which filter on it is faster than `conv` depends on the machine.

    Args:
      stride: y is computed at stride 1 and then thinned out.
      padding, dilation, groups: as in `conv`; the padding is zeros.
      precision: of the product for each frequency, as in jax.lax.

    Raises:
      ValueError: shapes, dtypes or arguments that don't fit each other.
    """
    x, w, b = jnp.asarray(x), jnp.asarray(w), None if b is None else jnp.asarray(b)
    groups = whole(groups, "groups", "fft_conv")
    _check(x, w, b, groups)
    window = Window.of(
        x.shape[1:-1], w.shape[:-2], stride=stride, padding=padding, dilation=dilation,
        groups=groups, op="fft_conv",
    )  # fmt: skip
    y = _correlate(x, w, window, precision)
    return y if b is None else y + b


def _correlate(x, w, window, precision):
    dtype = at_least_float32(x.dtype)
    if 0 in (*x.shape, *w.shape, *window.output):
        return jnp.zeros((x.shape[0], *window.output, w.shape[-1]), x.dtype)
    if not all(isinstance(n, int) for n in window.input):
        raise ValueError(
            "fft_conv: spatial axes must be known when it is traced, for the lengths of the "
            f"transforms; got spatial axes {window.input}"
        )
    lengths = spectral.transform_lengths(window.input, window.extent, window.pads)
    if math.prod(lengths) > MOST_INT32:
        raise ValueError(
            "fft_conv: a transform must have fewer than 2**31 points, which JAX counts in int32; "
            f"got spatial axes {window.input}, window {window.size}, padding {window.pads}, a "
            f"transform of {lengths}"
        )
    return spectral.conv(
        x, w, window.stride, window.pads, window.input_dilation, window.dilation,
        output=window.output, groups=window.groups, dtype=x.dtype, sum_dtype=dtype,
        precision=precision,
    )  # fmt: skip


def _check(x, w, b, groups):
    if x.ndim < 3 or w.ndim != x.ndim:
        raise ValueError(
            "fft_conv: x must be (N, *spatial, C) and w (*window, C/groups, K) with the same one "
            f"or more spatial axes; got x {x.shape} and w {w.shape}"
        )
    shapes = f"got x {x.shape}, (N, *spatial, C), w {w.shape}, (*window, C/groups, K)"
    check_channels("fft_conv", x, w, groups, shapes)
    if x.dtype != w.dtype or not jnp.issubdtype(x.dtype, jnp.inexact):
        raise ValueError(
            f"fft_conv: x and w must be floating point or complex of one dtype; got x of {x.dtype} "
            f"and w of {w.dtype}"
        )
    check_bias("fft_conv", b, x, w)
