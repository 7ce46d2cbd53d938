"""Every window of an image as numbers of its own (im2col), and the adjoint that adds them (col2im).

    unfold   u[n, p, q, r, s, c] = x[n, p*stride + r*dilation - lo, q*stride + s*dilation - lo, c]
    fold     x[n, h, w, c] = sum of u[n, p, q, r, s, c] over the taps p, r and q, s that read h, w

Shapes (any number of spatial axes; written for two): x N H W C, u N P Q R S C. The last three axes
are those of a filter, so convolution is a matrix product,

    conv(x, w) = tensordot(unfold(x, ...), w, 3)          [NPQ RSC] [RSC K] -> [NPQ K]

One axis is unfolded after the other: R + S strided slices, not R * S. Both directions are made of
lax.slice and lax.pad alone, which JAX transposes into one another, so there is no primitive here.
No pixel is multiplied (as in lax.conv_general_dilated_patches, a convolution with ones and zeros):
a NaN stays in the windows that hold it. The adjoint sums float16 and bfloat16 in float32.
"""

from __future__ import annotations

import functools
import operator

import jax
import jax.numpy as jnp
from jax import lax

from jconv.ops.dtypes import at_least_float32
from jconv.window import Padding, PerAxis, Window, per_axis


def unfold(
    x: jax.Array,
    window: PerAxis,
    *,
    stride: PerAxis = 1,
    padding: Padding = "VALID",
    dilation: PerAxis = 1,
) -> jax.Array:
    """The windows of x (N, *spatial, C): patches (N, *output, *window, C), of x's dtype.

    Args:
      stride, padding, dilation: as in `conv`; the padding is zeros.

    Raises:
      ValueError: arguments that don't fit each other.
    """
    x = jnp.asarray(x)
    if x.ndim < 3:
        raise ValueError(
            f"unfold: x must be (N, *spatial, C) with one or more spatial axes; got x {x.shape}"
        )
    win = Window.of(
        x.shape[1:-1], window, stride=stride, padding=padding, dilation=dilation, op="unfold"
    )
    return unfold_window(x, win)


def fold(
    patches: jax.Array,
    spatial: PerAxis,
    *,
    stride: PerAxis = 1,
    padding: Padding = "VALID",
    dilation: PerAxis = 1,
) -> jax.Array:
    """The adjoint of `unfold`: patches (N, *output, *window, C) added up into x (N, *spatial, C).

    Where windows overlap their values are summed, what lies in the padding is dropped, and pixels
    that no window reads are 0.

    Args:
      spatial: the extent of x, pixels.
      stride, padding, dilation: those of the `unfold` that this is the adjoint of.

    Raises:
      ValueError: arguments that don't fit each other, or a number of windows that x doesn't have.
    """
    patches = jnp.asarray(patches)
    axes = (patches.ndim - 2) // 2
    if patches.ndim < 4 or patches.ndim % 2:
        raise ValueError(
            "fold: patches must be (N, *output, *window, C) with as many axes of output as of "
            f"window; got patches {patches.shape}"
        )
    output, size = patches.shape[1 : 1 + axes], patches.shape[1 + axes : -1]
    win = Window.of(
        per_axis(spatial, axes, "spatial", "fold", least=0), size, stride=stride, padding=padding,
        dilation=dilation, op="fold",
    )  # fmt: skip
    if output != win.output:
        raise ValueError(
            f"fold: an x of {win.input} has {win.output} windows of {size} but patches has "
            f"{output}; got patches {patches.shape}, (N, *output, *window, C)"
        )
    if 0 in win.output:
        return jnp.zeros((patches.shape[0], *win.input, patches.shape[-1]), patches.dtype)
    x = patches.astype(at_least_float32(patches.dtype))
    for axis in reversed(range(axes)):
        x = _fold_axis(x, axis, win)
    return x.astype(patches.dtype)


def unfold_window(x, window):
    if 0 in window.output:
        return jnp.zeros((x.shape[0], *window.output, *window.size, x.shape[-1]), x.dtype)
    # There and back between dtypes changes no number, and has the transpose sum in the wider one.
    u = x.astype(at_least_float32(x.dtype))
    for axis in range(len(window.size)):
        u = _unfold_axis(u, axis, window)
    return u.astype(x.dtype)


def _unfold_axis(x, axis, window):
    """N ... H ... C -> N ... P ... R C: the taps become the last axis but one."""
    x = lax.pad(x, _zero(x), _along(axis, x.ndim, (*window.pads[axis], 0)))
    stride, reach = window.stride[axis], (window.output[axis] - 1) * window.stride[axis] + 1
    starts = range(0, window.extent[axis], window.dilation[axis])
    taps = [lax.slice_in_dim(x, start, start + reach, stride, axis + 1) for start in starts]
    return jnp.stack(taps, -2)


def _fold_axis(u, axis, window):
    """N ... P ... R C -> N ... H ... C: each tap's values at the pixels that it reads, added."""
    stride, reach = window.stride[axis], (window.output[axis] - 1) * window.stride[axis] + 1
    images = []
    for r in range(window.size[axis]):
        before = r * window.dilation[axis] - window.pads[axis][0]
        after = window.input[axis] - before - reach
        config = _along(axis, u.ndim - 1, (before, after, stride - 1))
        images.append(lax.pad(lax.index_in_dim(u, r, -2, keepdims=False), _zero(u), config))
    return functools.reduce(operator.add, images)


def _along(axis, ndim, config):
    """lax.pad's configuration that pads one spatial axis."""
    return [config if a == axis + 1 else (0, 0, 0) for a in range(ndim)]


def _zero(x):
    return jnp.zeros((), x.dtype)
