"""Locally connected layers: a convolution whose filter differs from one output to the next.

    y[n, p, q, k] = b[p, q, k] + sum over r, s, c of
                    x[n, p*stride + r*dilation - lo, q*stride + s*dilation - lo, c]
                    * w[p, q, r, s, c, k]

Shapes (any number of spatial axes; written for two):
    x  N H W C    input        w  P Q R S C/G K  filters, G = groups
    b  P Q K      bias         y  N P Q K        output

One matrix product for every output pixel, [N RSC] [RSC K] -> [N K], over the windows that `unfold`
lays out. Bilinear, as its parts are. float16 and bfloat16 are summed in float32.

Reference: LeCun 1989, "Generalization and network design strategies".
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from jconv.ops.dtypes import at_least_float32
from jconv.ops.filters import check_channels
from jconv.ops.pad import pad
from jconv.ops.unfold import unfold, unfold_window
from jconv.window import Padding, PerAxis, Window, whole


def conv_local(
    x: jax.Array,
    w: jax.Array,
    b: jax.Array | None = None,
    *,
    stride: PerAxis = 1,
    padding: Padding = "SAME",
    dilation: PerAxis = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
    precision: lax.PrecisionLike = None,
) -> jax.Array:
    """x (N, *spatial, C) with filters w (*output, *window, C/groups, K): y (N, *output, K).

    Args:
      b: (*output, K), or (K,) for one bias per channel.
      stride, padding, dilation, groups, padding_mode: as in `conv`. They must give as many windows
        as w has filters.
      precision: as in jax.lax.

    Raises:
      ValueError: shapes, dtypes or arguments that don't fit each other.
    """
    x, w, b = jnp.asarray(x), jnp.asarray(w), None if b is None else jnp.asarray(b)
    groups = whole(groups, "groups", "conv_local")
    axes = x.ndim - 2
    _check(x, w, groups)
    window = Window.of(
        x.shape[1:-1], w.shape[axes : 2 * axes], stride=stride, padding=padding,
        dilation=dilation, op="conv_local",
    )  # fmt: skip
    _check_output(x, w, b, window)
    if padding_mode == "zeros":
        patches = unfold_window(x, window)
    else:
        x = pad(x, window.pads, padding_mode, op="conv_local")
        patches = unfold(x, window.size, stride=window.stride, dilation=window.dilation)
    c, k = w.shape[-2:]
    patches = patches.reshape(*patches.shape[:-1], groups, c)
    filters = w.reshape(*w.shape[:-1], groups, k // groups)
    taps = "rstuvwxyz"[:axes]
    y = jnp.einsum(
        f"n...{taps}gc,...{taps}cgk->n...gk", patches, filters, precision=precision,
        preferred_element_type=at_least_float32(x.dtype),
    )  # fmt: skip
    y = y.astype(x.dtype).reshape(*y.shape[:-2], k)
    return y if b is None else y + b


def _check(x, w, groups):
    if x.ndim < 3 or w.ndim != 2 * x.ndim - 2:
        raise ValueError(
            "conv_local: x must be (N, *spatial, C) and w (*output, *window, C/groups, K) with the "
            f"same one or more spatial axes; got x {x.shape} and w {w.shape}"
        )
    shapes = f"got x {x.shape}, (N, *spatial, C), w {w.shape}, (*output, *window, C/groups, K)"
    check_channels("conv_local", x, w, groups, shapes)
    if x.dtype != w.dtype:
        raise ValueError(
            f"conv_local: x is {x.dtype} but w is {w.dtype}; cast one to the other; {shapes}"
        )


def _check_output(x, w, b, window):
    output, k = window.output, w.shape[-1]
    if w.shape[: len(output)] != output:
        raise ValueError(
            f"conv_local: x has {output} windows but w has {w.shape[: len(output)]} filters; got x "
            f"{x.shape}, (N, *spatial, C), w {w.shape}, (*output, *window, C/groups, K)"
        )
    if b is not None and (b.shape not in ((*output, k), (k,)) or b.dtype != x.dtype):
        raise ValueError(
            f"conv_local: b must be (*output, K) = {(*output, k)} or (K,) = {(k,)} of {x.dtype}; "
            f"got b {b.shape} of {b.dtype}"
        )
