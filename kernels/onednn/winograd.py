"""Winograd's F(2x2, 3x3) for a convolution and its two gradients, with the tables' signatures.

Shapes: x N H W C, w 3 3 C K, y and dy N P Q K; float32, dense, stride and dilation 1.

There are 16 products for the 4 pixels of a tile of y and a pair of channels, where the direct form
has 36. They are oneDNN's matrix products, over tiles that are transformed while they are in the
cache. Rounding is that of the direct form, relative to the largest numbers of a tile and of the
filter. A pixel that is not finite makes NaN of all that its tile touches.

Reference: Lavin & Gray 2016, "Fast algorithms for convolutional neural networks", arXiv:1509.09308.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from .. import shapes  # noqa: TID252, the package is imported as jconv_kernels
from . import limits
from .library import ask, target

TAPS = (3, 3)


def winograd_forward(
    x: jax.Array,
    w: jax.Array,
    *,
    window: Any,
    dtype: Any = None,
    precision: Any = None,
    out_sharding: Any = None,
) -> jax.Array:
    """y (N, *output, K) = conv(x, w)."""
    y = shapes.output(x, w, window)
    return _correlate(x, w, y, window.pads, transposed=False)


def winograd_input_grad(
    dy: jax.Array,
    w: jax.Array,
    *,
    window: Any,
    dtype: Any = None,
    precision: Any = None,
    out_sharding: Any = None,
) -> jax.Array:
    """dx (N, *input, C) from dy (N, *output, K): the transposed convolution."""
    dx = shapes.input_grad(dy, w, window)
    return _correlate(dy, w, dx, window.input_grad_pads, transposed=True)


def winograd_filter_grad(
    x: jax.Array,
    dy: jax.Array,
    *,
    window: Any,
    dtype: Any = None,
    precision: Any = None,
    out_sharding: Any = None,
) -> jax.Array:
    """dw (3, 3, C, K) from x (N, *input, C) and dy (N, *output, K)."""
    dw = shapes.filter_grad(x, dy, window)
    scratch, _ = _ask(x, dw, dy, window.pads, filter_grad=True)
    call = _handler("winograd_filter_grad", dw, scratch)
    return call(x, dy, lo=_lo(window.pads))[0]


def winograd_forward_unsupported(x, w, *, window, dtype=None, precision=None, out_sharding=None):
    """Why the call can't be computed, in words, or None if it can."""
    y = shapes.output(x, w, window, dtype)
    return _unsupported(x, w, y, window, precision) or _other_code(x, w, y, window.pads)


def winograd_input_grad_unsupported(
    dy, w, *, window, dtype=None, precision=None, out_sharding=None
):
    """Why the call can't be computed, in words, or None if it can."""
    dx = shapes.input_grad(dy, w, window, dtype)
    return _unsupported(dx, w, dy, window, precision) or _other_code(
        dy, w, dx, window.input_grad_pads, transposed=True
    )


def winograd_filter_grad_unsupported(
    x, dy, *, window, dtype=None, precision=None, out_sharding=None
):
    """Why the call can't be computed, in words, or None if it can."""
    dw = shapes.filter_grad(x, dy, window, dtype)
    return _unsupported(x, dw, dy, window, precision) or _other_code(
        x, dw, dy, window.pads, filter_grad=True
    )


def _correlate(x, w, y, pads, *, transposed):
    scratch, _ = _ask(x, w, y, pads, transposed=transposed)
    call = _handler("winograd", y, scratch)
    return call(x, w, lo=_lo(pads), transposed=np.bool(transposed))[0]


def _handler(name, result, scratch):
    return jax.ffi.ffi_call(target(name), (result, scratch), vmap_method="sequential")


def _unsupported(x, w, y, window, precision):
    if reason := limits.unsupported_conv(x, w, y, window, precision, dtypes=("float32",)):
        return reason
    if window.size != TAPS:
        return f"only filters of 3x3 taps, got {window.size}"
    if {*window.stride, *window.dilation, window.groups} != {1}:
        return "only stride, dilation and groups of 1"
    return None


def _other_code(x, w, y, pads, **kind):
    """Why not, where oneDNN's matrix products are not those that it was measured with."""
    try:
        _, implementation = _ask(x, w, y, pads, **kind)
    except NotImplementedError as error:
        return str(error)
    if implementation.startswith("brg:avx512"):
        return None
    return f"only with oneDNN's matrix products for AVX-512, here are {implementation}"


def _lo(pads):
    return np.array([lo for lo, _ in pads], np.int64)


def _ask(x, w, y, pads, *, transposed=False, filter_grad=False):
    """The call's scratch buffer, and oneDNN's name for the code of its products."""
    lo = (lo for lo, _ in pads)
    return ask("winograd", filter_grad, transposed, 0, *x.shape, *w.shape, *y.shape, *lo)
