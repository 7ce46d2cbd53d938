"""The filter gradient of depthwise convolutions, one channel into and one out of each group.

A loop of our own on XLA's threads, with the signature of the tables in `jconv.ops`: oneDNN's own
code takes windows of three columns at most. Shapes (one spatial axis or two; written for two):
x N H W C, dy N P Q C, dw R S 1 C. Operands and result are float32 or bfloat16. Sums are float32,
those of parts are added in float64; they are split by the shape alone, so that the result is the
same in every run, with any number of threads. What dy holds where a tap meets padding is not read:
an infinite one makes no NaN there.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import numpy as np

from .. import shapes  # noqa: TID252, the package is imported as jconv_kernels
from . import limits
from .library import target

DTYPES = ("float32", "bfloat16")


def depthwise_filter_grad(
    x: jax.Array,
    dy: jax.Array,
    *,
    window: Any,
    dtype: Any = None,
    precision: Any = None,
    out_sharding: Any = None,
) -> jax.Array:
    """dw (*window, 1, C) from x (N, *input, C) and dy (N, *output, C)."""
    dw = shapes.filter_grad(x, dy, window, dtype)
    if x.dtype != dy.dtype:  # where the output was made wider
        x, dy = x.astype(np.float32), dy.astype(np.float32)
    return jax.ffi.ffi_call(target("depthwise_filter_grad"), dw, vmap_method="sequential")(
        x,
        dy,
        stride=np.array(window.stride, np.int64),
        pads=np.array(window.pads, np.int64).reshape(-1),
        dilation=np.array(window.dilation, np.int64),
        groups=np.int64(window.groups),
    )


def depthwise_filter_grad_unsupported(
    x, dy, *, window, dtype=None, precision=None, out_sharding=None
):
    """Why the call can't be computed here, in words, or None if it can."""
    dw = shapes.filter_grad(x, dy, window, dtype)
    if reason := limits.unsupported_conv(x, dw, dy, window, precision, dtypes=DTYPES):
        return reason
    if len(window.size) > 2:
        return f"only one or two spatial axes, got {len(window.size)}"
    if not window.groups == x.shape[-1] == dy.shape[-1]:
        return "only for one channel into and one out of each group"
    padded = (n + lo + hi for n, (lo, hi) in zip(window.input, window.pads, strict=True))
    if x.shape[0] * math.prod(padded) * x.shape[-1] > limits.MOST_ELEMENTS:
        return "only images of fewer than 2**31 elements, padding included"
    return None
