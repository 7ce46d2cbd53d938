"""Convolution over three axes as one over two: what the first axis' taps read becomes channels.

    planes[n*P0 + p][h, w, t, c] = x[n, p*stride + t*dilation - lo, h, w, c]
    y[n, p] = conv(planes[n*P0 + p], w'),    w'[r, s, t, c, k] = w[t, r, s, c, k]

Shapes: x N D H W C, w T R S C K, y N O P Q K; planes (N*O) H W T*C, with the same sums in another
order. XLA's CPU compiler has a fast convolution over two axes, which leaves it for three: 1/4 of
the time forward and 1/4 in both gradients (conv3d 80 ms to 19, 146 to 35, 124 to 31). The more
channels, the less there is to gain.

Beside operands and result: the planes, T times x at stride 1, and x once more where it is padded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jconv.algorithms import rows
from jconv.algorithms.chunks import pad, pixels
from jconv.window import Pair


def conv(
    convolve: Callable[..., jax.Array],
    x: jax.Array,
    w: jax.Array,
    stride: Sequence[int],
    pads: Sequence[Pair],
    input_dilation: Sequence[int],
    dilation: Sequence[int],
    *,
    output: Sequence[int],
    **options: Any,
) -> jax.Array:
    """y (N, *output, K) from x (N, *spatial, C) and w (*window, C, K), without groups.

    Args:
      convolve: the convolution over one axis less, with the parameters of this function.
      options: passed on to it.
    """
    planes = _planes(x, stride, pads, input_dilation, dilation, w.shape[0], output[0])
    t, *window, c, k = w.shape
    w = jnp.moveaxis(w, 0, -3).reshape(*window, t * c, k)
    y = convolve(
        planes, w, stride[1:], pads[1:], input_dilation[1:], dilation[1:], output=output[1:],
        **options,
    )  # fmt: skip
    return y.reshape(x.shape[0], *output, k)


def filter_grad(
    x: jax.Array,
    dy: jax.Array,
    stride: Sequence[int],
    pads: Sequence[Pair],
    input_dilation: Sequence[int],
    dilation: Sequence[int],
    *,
    size: Sequence[int],
    groups: int,
    dtype: Any,
    sum_dtype: Any,
    precision: lax.PrecisionLike = None,
) -> jax.Array:
    """dw (*size, C, K) of `dtype` from x (N, *spatial, C) and dy (N, *output, K): `rows` on the
    planes.
    """
    n, first, *output, k = dy.shape
    planes = _planes(x, stride, pads, input_dilation, dilation, size[0], first)
    dw = rows.filter_grad(
        planes, dy.reshape(n * first, *output, k), stride[1:], pads[1:], input_dilation[1:],
        dilation[1:], size=size[1:], groups=groups, dtype=dtype, sum_dtype=sum_dtype,
        precision=precision,
    )  # fmt: skip
    return jnp.moveaxis(dw.reshape(*size[1:], size[0], x.shape[-1], k), -3, 0)


def _planes(x, stride, pads, input_dilation, dilation, taps, count):
    x = pad(x, pads[:1], input_dilation[:1])
    parts = [pixels(x, (tap * dilation[0],), stride[:1], (count,)) for tap in range(taps)]
    x = jnp.concatenate(parts, -1)
    return x.reshape(-1, *x.shape[2:])
