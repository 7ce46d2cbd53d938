"""Convolution by the fast Fourier transform, whose cost hardly depends on the size of the filter.

    y = irfft(rfft(x) * conj(rfft(w))), read at p*stride - lo        per axis, modulo its length F

Shapes: x N H W G*C, w R S C G*K, y N P Q G*K for G groups; the product is one of matrices for each
frequency and group, [N C] [C K] -> [N K]. Each axis of H pixels takes a transform of the next
length F without a prime factor above 7, from

    H + max(lo, hi)        what is read before the image wraps round into zeros, as what is read
                           behind it does
    extent                 the filter fits
    H + lo + hi - extent + 1   outputs at stride 1 fit

so the padding is never stored twice.

Memory beside x, w and y: at most three times that of x, w and y with F pixels on every axis. That
is a great deal for a small filter, and little beside one of the image's size.

Reference: Mathieu, Henaff & LeCun 2014, "Fast training of convolutional networks through FFTs",
arXiv:1312.5851.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jconv.window import Pair

FACTORS = (2, 3, 5, 7)


def conv(
    x: jax.Array,
    w: jax.Array,
    stride: Sequence[int],
    pads: Sequence[Pair],
    input_dilation: Sequence[int],
    dilation: Sequence[int],
    *,
    output: Sequence[int],
    groups: int,
    dtype: Any,
    sum_dtype: Any,
    precision: lax.PrecisionLike = "highest",
) -> jax.Array:
    """y (N, *output, G*K) of `dtype` from x (N, *spatial, G*C) and w (*window, C, G*K).

    Real or complex; y is computed at stride 1 and then thinned out.

    Args:
      pads: (lo, hi) zeros round the pixels of x, between which stand input_dilation - 1 zeros;
        negative ones crop.
      sum_dtype: of the transforms.
      precision: of the product for each frequency, as in jax.lax.
    """
    *window, c, k = w.shape
    axes, zero = len(window), jnp.zeros((), sum_dtype)
    x, w = x.astype(sum_dtype), w.astype(sum_dtype)
    w = lax.pad(w, zero, [*((0, 0, d - 1) for d in dilation), (0, 0, 0), (0, 0, 0)])
    inner = [
        (min(lo, 0), min(hi, 0), d - 1) for (lo, hi), d in zip(pads, input_dilation, strict=True)
    ]
    x = lax.pad(x, zero, [(0, 0, 0), *inner, (0, 0, 0)])
    pads = [(max(lo, 0), max(hi, 0)) for lo, hi in pads]
    lengths = transform_lengths(x.shape[1:-1], w.shape[:-2], pads)
    x = x.reshape(*x.shape[:-1], groups, c)
    w = w.reshape(*w.shape[:-1], groups, k // groups)
    real = not jnp.iscomplexobj(x)
    forth, back = (jnp.fft.rfftn, jnp.fft.irfftn) if real else (jnp.fft.fftn, jnp.fft.ifftn)
    image, filter = tuple(range(1, axes + 1)), tuple(range(axes))
    x_hat = forth(x, lengths, image)
    w_hat = jnp.conj(forth(jnp.conj(w), lengths, filter))
    y_hat = jnp.einsum("n...gc,...cgk->n...gk", x_hat, w_hat, precision=precision)
    y = back(y_hat, lengths, image).reshape(x.shape[0], *lengths, k)
    y = jnp.roll(y, [lo for lo, _ in pads], image)
    stop = [(p - 1) * s + 1 for p, s in zip(output, stride, strict=True)]
    y = lax.slice(y, (0,) * y.ndim, (x.shape[0], *stop, k), (1, *stride, 1))
    return y.astype(dtype)


def transform_lengths(
    spatial: Sequence[int], extent: Sequence[int], pads: Sequence[Pair]
) -> tuple[int, ...]:
    """F of each axis, for images of `spatial` pixels and a filter that spans `extent`."""
    return tuple(
        fast_length(max(n + max(pad), e, n + sum(pad) - e + 1))
        for n, e, pad in zip(spatial, extent, pads, strict=True)
    )


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
