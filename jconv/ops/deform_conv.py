"""Deformable convolution: each tap of each window reads where an offset moves it.

    y[n, p, q, k] = b[k] + sum over r, s, c of
                    w[r, s, c, k] * mask[n, p, q, g, r, s] * x[n, h, w, c]
    h, w          = (p, q) * stride - lo + (r, s) * dilation + offset[n, p, q, g, r, s]

x is linear between its pixels and 0 outside; g is the offset group of channel c. Shapes (any number
of spatial axes; written for two):
    x       N H W C           input        w       R S C/G K         filter, G = groups
    offset  N P Q g*R*S*2     in pixels    mask    N P Q g*R*S       version 2: a factor per tap
    b       K                 bias         y       N P Q K           output

The taps of all windows are gathered into columns (N, P*Q, R*S, C), which then meet the filter in
one matrix product. Linear in x, w, mask and b, and differentiable in offset. The gradient in x is a
scatter, on a GPU in no fixed order (see `sample.py`). float16 and bfloat16 are summed in float32.

References: Dai et al. 2017, "Deformable convolutional networks", arXiv:1703.06211; Zhu et al. 2019,
"Deformable ConvNets v2", arXiv:1811.11168; torchvision.ops.deform_conv2d.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jconv.ops import sample
from jconv.ops.dtypes import at_least_float32, wider
from jconv.ops.filters import check_bias
from jconv.ops.pooling import check_windows
from jconv.window import Padding, PerAxis, Window, whole


def deform_conv(
    x: jax.Array,
    offset: jax.Array,
    w: jax.Array,
    b: jax.Array | None = None,
    mask: jax.Array | None = None,
    *,
    stride: PerAxis = 1,
    padding: Padding = "SAME",
    dilation: PerAxis = 1,
    groups: int = 1,
    precision: lax.PrecisionLike = None,
) -> jax.Array:
    """Convolution of x (N, *spatial, C) with w (*window, C/groups, K) whose taps are moved.

    The result y is (N, *output, K). With offsets of 0 and no mask it is `conv`.

    Args:
      offset: (N, *output, offset_groups * taps * axes), in pixels: by group, tap (row-major) and
        axis (y before x), as in torchvision, but with the channels last. How many groups there are
        follows from its shape; C must divide by it. Its dtype may differ from x's.
      mask: (N, *output, offset_groups * taps), what each tap is multiplied by (version 2).
      stride, padding, dilation, groups, precision: as in `conv`.

    Raises:
      ValueError: shapes, dtypes or arguments that don't fit each other.
    """
    x, offset, w = jnp.asarray(x), jnp.asarray(offset), jnp.asarray(w)
    b, mask = None if b is None else jnp.asarray(b), None if mask is None else jnp.asarray(mask)
    groups = whole(groups, "groups", "deform_conv")
    _check(x, w, b, groups)
    window = Window.of(
        x.shape[1:-1], w.shape[:-2], stride=stride, padding=padding, dilation=dilation,
        groups=groups, op="deform_conv",
    )  # fmt: skip
    check_windows("deform_conv", window)
    offset_groups = _offset_groups(x, offset, mask, window)
    wide = at_least_float32(x.dtype)
    n, c, taps, places = x.shape[0], x.shape[-1], math.prod(window.size), math.prod(window.output)
    at = _positions(offset, window, offset_groups, wider(at_least_float32(offset.dtype), wide))
    image = x.astype(wide).reshape(*x.shape[:-1], offset_groups, c // offset_groups)
    columns = sample.linear(image, at)
    # Axes are merged or split one group at a time, or meshes with explicit axes refuse it.
    if mask is not None:
        mask = mask.astype(wide).reshape(n, places, offset_groups * taps)
        mask = mask.reshape(n, places, offset_groups, taps).swapaxes(2, 3)
        columns = columns * mask.reshape(n, places * taps, offset_groups)[..., None]
    columns = columns.reshape(n, places * taps, c).reshape(n, places, taps, c)
    columns = columns.reshape(n, places, taps, groups, c // groups)
    features = w.shape[-1]
    w = w.astype(wide).reshape(taps, c // groups, groups, features // groups)
    y = jnp.einsum("nptgc,tcgk->npgk", columns, w, precision=precision)
    y = y.reshape(n, places, features).reshape(n, *window.output, features).astype(x.dtype)
    return y if b is None else y + b


def _positions(offset, window, offset_groups, dtype):
    """Where the taps read, N, output * taps, offset groups, axes, in pixels."""
    axes, taps, places = len(window.size), math.prod(window.size), math.prod(window.output)
    start = [
        lax.broadcasted_iota(jnp.int32, window.output, axis) * s - lo
        for axis, (s, (lo, _)) in enumerate(zip(window.stride, window.pads, strict=True))
    ]
    start = jnp.stack(start, -1).reshape(places, 1, 1, axes).astype(dtype)
    tap = np.indices(window.size).reshape(axes, taps).T * window.dilation
    at = offset.astype(dtype).reshape(offset.shape[0], places, offset_groups * taps * axes)
    at = at.reshape(offset.shape[0], places, offset_groups, taps, axes)
    at = (at + (start + tap.astype(dtype))).swapaxes(2, 3)
    return at.reshape(offset.shape[0], places * taps, offset_groups, axes)


def _offset_groups(x, offset, mask, window):
    axes, taps = len(window.size), math.prod(window.size)
    expected = (x.shape[0], *window.output)
    named = (
        f"x {x.shape}, window {window.size}, offset {offset.shape} of {offset.dtype}"
        f"{'' if mask is None else f', mask {mask.shape} of {mask.dtype}'}"
    )
    if offset.ndim != x.ndim or offset.shape[:-1] != expected or offset.shape[-1] % (taps * axes):
        raise ValueError(
            f"deform_conv: offset must be (N, *output, offset_groups * taps * axes) = {expected} "
            f"with a multiple of {taps * axes} channels; got {named}"
        )
    groups = offset.shape[-1] // (taps * axes)
    if groups == 0 or x.shape[-1] % groups:
        raise ValueError(
            f"deform_conv: x's C={x.shape[-1]} does not divide into offset_groups={groups}; got "
            f"{named}"
        )
    if not jnp.issubdtype(offset.dtype, jnp.floating):
        raise ValueError(f"deform_conv: offset must be floating point; got {named}")
    if mask is not None and (
        mask.shape != (*expected, groups * taps) or not jnp.issubdtype(mask.dtype, jnp.floating)
    ):
        raise ValueError(
            "deform_conv: mask must be floating point (N, *output, offset_groups * taps) = "
            f"{(*expected, groups * taps)}; got {named}"
        )
    return groups


def _check(x, w, b, groups):
    if x.ndim < 3 or w.ndim != x.ndim or 0 in x.shape[1:-1]:
        raise ValueError(
            "deform_conv: x must be (N, *spatial, C), no spatial axis empty, and w (*window, "
            "C/groups, K) with the same one or more spatial axes; got x "
            f"{x.shape} and w {w.shape}"
        )
    if x.shape[-1] != w.shape[-2] * groups or w.shape[-1] % groups:
        raise ValueError(
            f"deform_conv: x has C={x.shape[-1]} but w takes C/groups={w.shape[-2]}, groups="
            f"{groups}, and K={w.shape[-1]} must divide by groups; got x {x.shape}, w {w.shape}"
        )
    if x.dtype != w.dtype or not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(
            f"deform_conv: x and w must be floating point of one dtype; got x of {x.dtype}, w of "
            f"{w.dtype}"
        )
    check_bias("deform_conv", b, x, w)
