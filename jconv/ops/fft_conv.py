"""Convolution by the fast Fourier transform, whose cost hardly depends on the size of the filter.

    y = irfft(rfft(x) * conj(rfft(w))), read at p*stride - lo        per axis, modulo its length F

Shapes as in `conv`: x N H W C, w R S C/G K, y N P Q K; the product is one of matrices for each
frequency, [N C] [C K] -> [N K]. Each axis of H pixels takes a transform of the next length F
without a prime factor above 7, from

    H + max(lo, hi)        what is read before the image wraps round into zeros, as what is read
                           behind it does
    extent                 the filter fits
    H + lo + hi - extent + 1   outputs at stride 1 fit

so the padding is never stored twice. A composition of JAX's transforms, differentiable to any order
in both modes. float16 and bfloat16 are transformed in float32. Rounding errors are relative to the
largest output of an image, where those of a sum are relative to its own terms; a NaN or infinity
reaches the whole image.

Reference: Mathieu, Henaff & LeCun 2014, "Fast training of convolutional networks through FFTs",
arXiv:1312.5851.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax import lax

from jconv.ops.dtypes import MOST_INT32, at_least_float32
from jconv.ops.filters import check_bias, check_channels
from jconv.window import Padding, PerAxis, Window, whole

FACTORS = (2, 3, 5, 7)


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
    y = _correlate(x, w, window, precision).astype(x.dtype)
    return y if b is None else y + b


def fast_length(n: int) -> int:
    """The smallest length, n or more, that has no prime factor above 7."""
    while True:
        rest = n
        for factor in FACTORS:
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return n
        n += 1


def _correlate(x, w, window, precision):
    *size, c, k = w.shape
    axes, groups, dtype = len(size), window.groups, at_least_float32(x.dtype)
    if 0 in (*x.shape, *w.shape, *window.output):
        return jnp.zeros((x.shape[0], *window.output, k), dtype)
    taps = [(0, 0, d - 1) for d in window.dilation]
    w = lax.pad(w.astype(dtype), jnp.zeros((), dtype), [*taps, (0, 0, 0), (0, 0, 0)])
    x = x.astype(dtype).reshape(*x.shape[:-1], groups, c)
    w = w.reshape(*w.shape[:-1], groups, k // groups)
    if not all(isinstance(n, int) for n in window.input):
        raise ValueError(
            "fft_conv: spatial axes must be known when it is traced, for the lengths of the "
            f"transforms; got spatial axes {window.input}"
        )
    lengths = tuple(map(_length, window.input, window.extent, window.pads))
    if math.prod(lengths) > MOST_INT32:
        raise ValueError(
            "fft_conv: a transform must have fewer than 2**31 points, which JAX counts in int32; "
            f"got spatial axes {window.input}, window {window.size}, padding {window.pads}, a "
            f"transform of {lengths}"
        )
    real = not jnp.iscomplexobj(x)
    forth, back = (jnp.fft.rfftn, jnp.fft.irfftn) if real else (jnp.fft.fftn, jnp.fft.ifftn)
    image, filter = tuple(range(1, axes + 1)), tuple(range(axes))
    x_hat = forth(x, lengths, image)
    w_hat = jnp.conj(forth(jnp.conj(w), lengths, filter))
    y_hat = jnp.einsum("n...gc,...cgk->n...gk", x_hat, w_hat, precision=precision)
    y = back(y_hat, lengths, image).reshape(x.shape[0], *lengths, k)
    y = jnp.roll(y, [lo for lo, _ in window.pads], image)
    stop = [(p - 1) * s + 1 for p, s in zip(window.output, window.stride, strict=True)]
    return lax.slice(y, (0,) * y.ndim, (x.shape[0], *stop, k), (1, *window.stride, 1))


def _length(n, extent, pads):
    return fast_length(max(n + max(pads), extent, n + sum(pads) - extent + 1))


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
