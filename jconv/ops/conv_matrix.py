"""The matrix of a convolution: what it does to an image, written out as one linear map.

    conv(x, w)[n] flattened = M @ x[n] flattened

    M[(p, q, k), (h, w, c)] = sum of w[r, s, c, k] over the taps r, s through which output p, q
                              reads pixel h, w

Shapes (any number of spatial axes; written for two): w R S C/G K, M PQK HWC, both flattened
row-major with channels last, so that row (p*Q + q)*K + k belongs to y[p, q, k] and column
(h*W + w)*C + c to x[h, w, c]. Zero padding makes M doubly blocked Toeplitz, circular padding at
stride 1 doubly block-circulant. M is linear in w and differentiable.

The adjoint, M.T, is `conv_transpose` with the same w, stride, padding and dilation (and an
output_padding where pixels are left unread: (H + lo + hi - extent) % stride).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from jconv.core import automatic
from jconv.ops.pad import MODES
from jconv.window import Padding, PerAxis, Window, per_axis, whole


def conv_matrix(
    w: jax.Array,
    spatial: int | Sequence[int],
    *,
    stride: PerAxis = 1,
    padding: Padding = "SAME",
    dilation: PerAxis = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
) -> jax.Array:
    """The matrix (prod(output) * K, prod(spatial) * C) of `conv` with w (*window, C/groups, K).

    Args:
      spatial: extent of the images, pixels.
      stride, padding, dilation, groups, padding_mode: as in `conv`.

    Raises:
      ValueError: arguments that don't fit each other.
    """
    w = jnp.asarray(w)
    groups = check_filter("conv_matrix", w, groups)
    if padding_mode not in MODES:
        raise ValueError(
            f"conv_matrix: padding_mode must be one of {', '.join(MODES)}; got {padding_mode!r}"
        )
    axes = w.ndim - 2
    window = Window.of(
        per_axis(spatial, axes, "spatial", "conv_matrix"), w.shape[:-2], stride=stride,
        padding=padding, dilation=dilation, groups=groups, op="conv_matrix",
    )  # fmt: skip
    matrix = functools.partial(_matrix, window=window, mode=padding_mode)
    return automatic(matrix, PartitionSpec(), w)


def _matrix(w, *, window, mode):
    m = _dense(w, window.groups)  # R S C K
    for axis in range(len(window.size)):
        reads = jnp.asarray(_reads(axis, window, mode), w.dtype)
        m = jnp.tensordot(m, reads, (0, 1), precision="highest")
    # C K P H Q W -> P Q K H W C
    order = (*range(2, m.ndim, 2), 1, *range(3, m.ndim, 2), 0)
    rows, columns = math.prod(window.output), math.prod(window.input)
    return m.transpose(order).reshape(rows * m.shape[1], columns * m.shape[0])


def _reads(axis, window, mode):
    """Which pixel each tap of each output reads: ones and zeros, P R H."""
    n, pads = window.input[axis], window.pads[axis]
    numpy_mode: Any = MODES[mode]
    pixel = np.pad(np.arange(1, n + 1), pads, numpy_mode) - 1  # -1: a zero
    starts = np.arange(window.output[axis])[:, None] * window.stride[axis]
    taps = np.arange(window.size[axis]) * window.dilation[axis]
    return pixel[starts + taps][..., None] == np.arange(n)


def _dense(w, groups):
    """The filter of one group that does the same: R S C/G K -> R S C K, zero between groups."""
    *size, c, k = w.shape
    w = w.reshape(*size, 1, c, groups, k // groups)
    own = jnp.eye(groups, dtype=bool)[:, None, :, None]
    return jnp.where(own, w, jnp.zeros((), w.dtype)).reshape(*size, groups * c, k)


def check_filter(op, w, groups):
    """The number of groups, once w is found to be a filter of so many.

    Raises:
      ValueError: it is not.
    """
    groups = whole(groups, "groups", op)
    if w.ndim < 3 or not jnp.issubdtype(w.dtype, jnp.inexact):
        raise ValueError(
            f"{op}: w must be floating point or complex (*window, C/groups, K) with one or more "
            f"axes of window; got w {w.shape} of {w.dtype}"
        )
    if w.shape[-1] % groups:
        raise ValueError(
            f"{op}: w's K={w.shape[-1]} does not divide into groups={groups}; got w {w.shape}, "
            "(*window, C/groups, K)"
        )
    return groups
