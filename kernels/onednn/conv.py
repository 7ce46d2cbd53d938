"""Convolution and its two gradients on oneDNN, with the signatures of the tables in `jconv.ops`.

Shapes (one to three spatial axes; written for two): x N H W C, w R S C/G K, y and dy N P Q K. The
operands are read and written where XLA holds them; the filter is re-ordered in every call, in
scratch memory that is a second result of the call, so that XLA plans it with everything else.

float16 and bfloat16 are summed in float32; where oneDNN has no code for them on the CPU at hand the
operands are widened first. int8 or uint8 x with an int8 filter gives int32, exactly, or is refused.
So is what oneDNN has only slow reference code for.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import shapes  # noqa: TID252, the package is imported as jconv_kernels
from . import limits
from .library import ask, target

FORWARD, INPUT_GRAD, FILTER_GRAD = range(3)  # ConvKind, in conv.h
FLOATS = {"float16": 1, "bfloat16": 2, "float32": 3}  # dnnl_data_type_t
DTYPES = {**FLOATS, "int32": 4, "int8": 5, "uint8": 6}
MOST_EXACT = 2**24  # the largest sum of products that float32 holds with all below it


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
    y = shapes.output(x, w, window, dtype)
    if _quantised(x, w, y) and (bias is not None or residual is not None or relu):
        raise NotImplementedError("bias, residual and relu are for floats")
    if _quantised(x, w, y) and x.dtype == np.int8 and not _exact(x, w, y, window):
        return _by_unsigned(x, w, y, window)
    x, w, result = _as_computed(FORWARD, x, w, y, window)
    extra = [a for a in (bias, _cast(residual, result.dtype)) if a is not None]
    scratch, _ = _ask(
        FORWARD, x, w, result, window, bias=bias, residual=residual is not None, relu=relu
    )
    return _call(
        "conv", (result, scratch), x, w, *extra, window=window,
        aliases={} if residual is None else {1 + len(extra): 0},
        bias=bias is not None, residual=residual is not None, relu=relu,
    ).astype(y.dtype)  # fmt: skip


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
    dx = shapes.input_grad(dy, w, window, dtype)
    result, w, dy = _as_computed(INPUT_GRAD, dx, w, dy, window)
    scratch, _ = _ask(INPUT_GRAD, result, w, dy, window)
    return _call("conv_input_grad", (result, scratch), dy, w, window=window).astype(dx.dtype)


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
    dw = shapes.filter_grad(x, dy, window, dtype)
    x, result, dy = _as_computed(FILTER_GRAD, x, dw, dy, window)
    scratch, _ = _ask(FILTER_GRAD, x, result, dy, window)
    return _call("conv_filter_grad", (result, scratch), x, dy, window=window).astype(dw.dtype)


def conv_forward_unsupported(x, w, *, window, dtype=None, precision=None, out_sharding=None):
    """Why oneDNN can't compute the call, in words, or None if it can."""
    y = shapes.output(x, w, window, dtype)
    return _unsupported(FORWARD, x, w, y, window, precision, out_sharding)


def conv_input_grad_unsupported(dy, w, *, window, dtype=None, precision=None, out_sharding=None):
    """Why oneDNN can't compute the call, in words, or None if it can."""
    dx = shapes.input_grad(dy, w, window, dtype)
    return _unsupported(INPUT_GRAD, dx, w, dy, window, precision, out_sharding)


def conv_filter_grad_unsupported(x, dy, *, window, dtype=None, precision=None, out_sharding=None):
    """Why oneDNN can't compute the call, in words, or None if it can."""
    dw = shapes.filter_grad(x, dy, window, dtype)
    return _unsupported(FILTER_GRAD, x, dw, dy, window, precision, out_sharding)


def _unsupported(kind, x, w, y, window, precision, out_sharding):
    takes = DTYPES if _quantised(x, w, y) else FLOATS
    if reason := limits.unsupported_conv(x, w, y, window, precision, dtypes=tuple(takes)):
        return reason
    try:
        _, implementation = _ask(kind, *_as_computed(kind, x, w, y, window), window)
    except NotImplementedError as error:
        return str(error)
    if implementation.startswith("ref"):
        return f"oneDNN has only its slow reference code ({implementation})"
    if not _quantised(x, w, y) or _exact(x, w, y, window):
        return None
    if x.dtype == np.int8:
        padded, around = _padded(x, window)
        unsigned = jax.ShapeDtypeStruct(padded, np.uint8)
        return _unsupported(FORWARD, unsigned, w, y, around, precision, out_sharding)
    return f"sums of 8-bit products beyond 2**24 would be rounded ({implementation})"


def _quantised(x, w, y):
    """Whether the dtypes are those of quantised inference."""
    return (x.dtype, w.dtype, y.dtype) in (
        (np.int8, np.int8, np.int32),
        (np.uint8, np.int8, np.int32),
    )


def _exact(x, w, y, window):
    """Whether no sum passes through float32 and is too large for it. BRGEMM's code keeps integers,
    but for int8, computed as x + 128, whose excess is taken off in float32.
    """
    implementation = _ask(FORWARD, x, w, y, window)[1]
    whole = x.dtype == np.uint8 and implementation.startswith(("brgconv", "brdgmm"))
    return whole or math.prod(w.shape[:-1]) * 255 * 128 <= MOST_EXACT


def _by_unsigned(x, w, y, window):
    """y for int8 x as that of the uint8 x + 128, less 128 times the sum of the filter: exactly."""
    _, around = _padded(x, window)
    unsigned = jax.lax.bitcast_convert_type(x ^ jnp.int8(-128), np.uint8)
    pads = [(0, 0, 0), *((lo, hi, 0) for lo, hi in window.pads), (0, 0, 0)]
    padded = jax.lax.pad(unsigned, jnp.uint8(128), pads)
    sums = conv_forward(padded, w, window=around, dtype=y.dtype)
    return sums - 128 * w.sum(tuple(range(w.ndim - 1)), dtype=y.dtype)


def _padded(x, window):
    """The shape of x with its padding written out, and the window on it."""
    input = tuple(n + lo + hi for n, (lo, hi) in zip(window.input, window.pads, strict=True))
    around = dataclasses.replace(window, input=input, pads=((0, 0),) * len(input))
    return (x.shape[0], *input, x.shape[-1]), around


def _as_computed(kind: int, x: Any, w: Any, y: Any, window: Any) -> tuple[Any, Any, Any]:
    """The three in the dtypes that oneDNN is called with; one of them is the result, its shape and
    dtype alone. Operands are made alike: they may differ where the output was made wider.
    """
    if _quantised(x, w, y):
        return x, w, y
    result = {FORWARD: y, INPUT_GRAD: x, FILTER_GRAD: w}[kind]
    a, b = (operand for operand in (x, w, y) if operand is not result)
    wide = a.dtype if a.dtype == b.dtype else np.dtype(np.float32)
    x, w, y = (a if a is result else _cast(a, wide) for a in (x, w, y))
    if any(a.dtype.itemsize == 2 for a in (x, w, y)) and not _computed(kind, x, w, y, window):
        x, w, y = (_cast(a, np.dtype(np.float32)) for a in (x, w, y))
    return x, w, y


def _computed(kind, x, w, y, window):
    """Whether oneDNN has code of its own for these dtypes."""
    try:
        return not _ask(kind, x, w, y, window)[1].startswith("ref")
    except NotImplementedError:
        return False


def _cast(a: Any, dtype: Any) -> Any:
    """An array, or its shape and dtype alone, in another dtype; None stays None."""
    if a is None or a.dtype == dtype:
        return a
    return a.astype(dtype) if isinstance(a, jax.Array) else jax.ShapeDtypeStruct(a.shape, dtype)


def _ask(kind, x, w, y, window, *, bias=None, residual=False, relu=False):
    """The call's scratch buffer, and oneDNN's name for the code that will run."""
    return ask(
        "conv", kind, len(x.shape), *(DTYPES[a.dtype.name] for a in (x, w, y)),
        0 if bias is None else DTYPES[bias.dtype.name], window.groups, relu, residual, 0,
        *x.shape, *w.shape, *y.shape, *window.stride, *window.dilation,
        *(side for pad in window.pads for side in pad),
    )  # fmt: skip


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
