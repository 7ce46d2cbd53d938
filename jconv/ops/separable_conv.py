"""Depthwise convolution, and the depthwise-separable one: a filter per channel, then a mixture.

    depthwise    y[n, p, q, c*M + m] = sum over r, s of x[n, p*stride + r*dilation - lo, ..., c]
                                       * w[r, s, 0, c*M + m]
    separable    the same, then a convolution with a filter of one tap

Shapes (any number of spatial axes; written for two): x N H W C, w R S 1 CM with M filters per
channel, the filter of one tap 1 1 CM K. Both are `conv`: the first has one group for each channel.
A separable 3x3 from 256 to 256 channels takes 9 * 256 + 256 * 256 = 67,840 multiply-adds for each
position; the full one 9 * 256 * 256 = 589,824.

References: Chollet 2017, "Xception", arXiv:1610.02357; Howard et al. 2017, "MobileNets",
arXiv:1704.04861.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from jconv.ops.conv import conv
from jconv.window import Padding, PerAxis


def depthwise_conv(
    x: jax.Array,
    w: jax.Array,
    b: jax.Array | None = None,
    *,
    stride: PerAxis = 1,
    padding: Padding = "SAME",
    dilation: PerAxis = 1,
    padding_mode: str = "zeros",
    precision: lax.PrecisionLike = None,
    implementation: str | None = None,
) -> jax.Array:
    """Each channel of x (N, *spatial, C) with filters w (*window, 1, C*M) of its own, plus b (C*M).

    The result is (N, *output, C*M); channels c*M to c*M + M - 1 come from channel c. Arguments and
    errors are those of `conv`.

    Raises:
      ValueError: also a w whose last axis is no multiple of C.
    """
    x, w = jnp.asarray(x), jnp.asarray(w)
    if x.ndim < 3 or w.ndim != x.ndim or w.shape[-2] != 1 or w.shape[-1] % max(x.shape[-1], 1):
        raise ValueError(
            "depthwise_conv: x must be (N, *spatial, C) and w (*window, 1, C*M) with the same one "
            f"or more spatial axes; got x {x.shape} and w {w.shape}"
        )
    return conv(
        x, w, b, stride=stride, padding=padding, dilation=dilation, groups=x.shape[-1],
        padding_mode=padding_mode, precision=precision, implementation=implementation,
    )  # fmt: skip


def separable_conv(
    x: jax.Array,
    depthwise: jax.Array,
    pointwise: jax.Array,
    b: jax.Array | None = None,
    *,
    stride: PerAxis = 1,
    padding: Padding = "SAME",
    dilation: PerAxis = 1,
    padding_mode: str = "zeros",
    precision: lax.PrecisionLike = None,
    implementation: str | None = None,
) -> jax.Array:
    """`depthwise_conv` of x (N, *spatial, C), then its channels mixed: y (N, *output, K).

    Args:
      depthwise: (*window, 1, C*M).
      pointwise: (1, ..., 1, C*M, K): a filter of one tap.
      b: (K,), added at the end.
      stride, padding, dilation, padding_mode: of the depthwise convolution, as in `conv`.

    Raises:
      ValueError: as `conv` and `depthwise_conv`, or a pointwise filter of several taps.
    """
    pointwise = jnp.asarray(pointwise)
    if any(r != 1 for r in pointwise.shape[:-2]):
        raise ValueError(
            "separable_conv: pointwise must have one tap, (1, ..., 1, C*M, K); got pointwise "
            f"{pointwise.shape}"
        )
    y = depthwise_conv(
        x, depthwise, stride=stride, padding=padding, dilation=dilation, padding_mode=padding_mode,
        precision=precision, implementation=implementation,
    )  # fmt: skip
    return conv(y, pointwise, b, precision=precision, implementation=implementation)
