"""Convolution and its two gradients on oneDNN, with the signatures of the tables in `jconv.ops`.

Shapes (one to three spatial axes; written for two): x N H W C, w R S C/G K, y and dy N P Q K. The
operands are read and written where XLA holds them; the filter is re-ordered in every call, in
scratch memory that is a second result of the call, so that XLA plans it with everything else.

float16 and bfloat16 are summed in float32. What oneDNN has only slow reference code for is refused.
"""

from __future__ import annotations

import ctypes
import functools
from typing import Any

import jax
import numpy as np

from . import limits
from .library import library, target

FORWARD, INPUT_GRAD, FILTER_GRAD = range(3)  # ConvKind, in conv.h
DTYPES = {"float16": 1, "bfloat16": 2, "float32": 3}  # dnnl_data_type_t


def conv_forward(
    x: jax.Array,
    w: jax.Array,
    *,
    window: Any,
    dtype: Any = None,
    precision: Any = None,
    out_sharding: Any = None,
    bias: jax.Array | None = None,
    residual: jax.Array | None = None,
    relu: bool = False,
) -> jax.Array:
    """y (N, *output, K) = conv(x, w) + bias (K) + residual (N, *output, K), then ReLU.

    Args:
      window: its stride, pads, dilation, groups, input and output are read.
      dtype: y's; None means x's.
      precision, out_sharding: as the tables pass them; see `conv_forward_unsupported`.
      bias, residual, relu: computed in the same pass over y. None and False leave one out.
    """
    x, w = _same_dtype(x, w)
    y = jax.ShapeDtypeStruct((x.shape[0], *window.output, w.shape[-1]), dtype or x.dtype)
    extra = [a for a in (bias, residual) if a is not None]
    scratch, _ = _ask(FORWARD, x, w, y, window, bias=bias, residual=residual is not None, relu=relu)
    return _call(
        "conv", (y, scratch), x, w, *extra, window=window,
        aliases={} if residual is None else {1 + len(extra): 0},
        bias=bias is not None, residual=residual is not None, relu=relu,
    )  # fmt: skip


def conv_input_grad(
    dy: jax.Array,
    w: jax.Array,
    *,
    window: Any,
    dtype: Any = None,
    precision: Any = None,
    out_sharding: Any = None,
) -> jax.Array:
    """dx (N, *input, C) from dy (N, *output, K): the transposed convolution."""
    dy, w = _same_dtype(dy, w)
    c = w.shape[-2] * window.groups
    dx = jax.ShapeDtypeStruct((dy.shape[0], *window.input, c), dtype or dy.dtype)
    scratch, _ = _ask(INPUT_GRAD, dx, w, dy, window)
    return _call("conv_input_grad", (dx, scratch), dy, w, window=window)


def conv_filter_grad(
    x: jax.Array,
    dy: jax.Array,
    *,
    window: Any,
    dtype: Any = None,
    precision: Any = None,
    out_sharding: Any = None,
) -> jax.Array:
    """dw (*window, C/G, K) from x (N, *input, C) and dy (N, *output, K)."""
    x, dy = _same_dtype(x, dy)
    c = x.shape[-1] // window.groups
    dw = jax.ShapeDtypeStruct((*window.size, c, dy.shape[-1]), dtype or x.dtype)
    scratch, _ = _ask(FILTER_GRAD, x, dw, dy, window)
    return _call("conv_filter_grad", (dw, scratch), x, dy, window=window)


def conv_forward_unsupported(x, w, *, window, dtype=None, precision=None, out_sharding=None):
    """Why oneDNN can't compute the call, in words, or None if it can."""
    y = jax.ShapeDtypeStruct((x.shape[0], *window.output, w.shape[-1]), dtype or x.dtype)
    return _unsupported(FORWARD, x, w, y, window, precision, out_sharding)


def conv_input_grad_unsupported(dy, w, *, window, dtype=None, precision=None, out_sharding=None):
    """Why oneDNN can't compute the call, in words, or None if it can."""
    c = w.shape[-2] * window.groups
    dx = jax.ShapeDtypeStruct((dy.shape[0], *window.input, c), dtype or dy.dtype)
    return _unsupported(INPUT_GRAD, dx, w, dy, window, precision, out_sharding)


def conv_filter_grad_unsupported(x, dy, *, window, dtype=None, precision=None, out_sharding=None):
    """Why oneDNN can't compute the call, in words, or None if it can."""
    c = x.shape[-1] // window.groups
    dw = jax.ShapeDtypeStruct((*window.size, c, dy.shape[-1]), dtype or x.dtype)
    return _unsupported(FILTER_GRAD, x, dw, dy, window, precision, out_sharding)


def _unsupported(kind, x, w, y, window, precision, out_sharding):
    reason = limits.unsupported(x, w, y, dtypes=tuple(DTYPES)) or limits.unsupported_window(window)
    if reason:
        return reason
    if any(side < 0 for pad in window.pads for side in pad):
        return f"not with negative padding, got {window.pads}"
    if isinstance(precision, jax.lax.DotAlgorithm | jax.lax.DotAlgorithmPreset):
        return f"the sums' algorithm can't be chosen, got precision={precision}"
    operands = {FORWARD: (x, w), INPUT_GRAD: (y, w), FILTER_GRAD: (x, y)}[kind]
    wide = _wider(*(a.dtype for a in operands))
    x, w, y = (
        jax.ShapeDtypeStruct(a.shape, wide) if any(a is o for o in operands) else a
        for a in (x, w, y)
    )
    try:
        _, implementation = _ask(kind, x, w, y, window)
    except NotImplementedError as error:
        return str(error)
    if implementation.startswith("ref"):
        return f"oneDNN has only its slow reference code ({implementation})"
    return None


def _ask(kind, x, w, y, window, *, bias=None, residual=False, relu=False):
    """The call's scratch buffer, and oneDNN's name for the code that will run."""
    return _query(
        kind, len(x.shape), *(DTYPES[a.dtype.name] for a in (x, w, y)),
        0 if bias is None else DTYPES[bias.dtype.name], window.groups, relu, residual, 0,
        *x.shape, *w.shape, *y.shape, *window.stride, *window.dilation,
        *(side for pad in window.pads for side in pad),
    )  # fmt: skip


@functools.lru_cache(maxsize=4096)
def _query(*integers):
    text = ctypes.create_string_buffer(256)
    packed = (ctypes.c_int64 * len(integers))(*integers)
    size = library().jconv_onednn_conv_query(packed, ctypes.c_int64(len(integers)), text, 256)
    if size < 0:
        raise NotImplementedError(text.value.decode())
    # With room to align it, and never empty.
    return jax.ShapeDtypeStruct((size + 64,), np.uint8), text.value.decode()


def _call(name, results, *operands, window, aliases=None, **attributes):
    result, _ = jax.ffi.ffi_call(
        target(name), results, vmap_method="sequential", input_output_aliases=aliases or {}
    )(
        *operands,
        stride=np.array(window.stride, np.int64),
        pads=np.array(window.pads, np.int64).reshape(-1),
        dilation=np.array(window.dilation, np.int64),
        groups=np.int64(window.groups),
        **attributes,
    )
    return result


def _same_dtype(a, b):
    """Operands may differ where the output was made wider."""
    dtype = _wider(a.dtype, b.dtype)
    return a.astype(dtype), b.astype(dtype)


def _wider(a, b):
    """The dtype that holds both: of different ones among DTYPES, float32."""
    return a if a == b else np.dtype(np.float32)
