"""Convolution and its two gradients: which kernels compute a call.

one channel into and one out of each of several groups    `depthwise_conv.py`
else                                                      `dense_conv.py`, on tensor cores
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import jax

from .. import shapes  # noqa: TID252, the package is imported as jconv_kernels
from . import dense_conv, depthwise_conv
from .geometry import unsupported

DTYPES = ("float32", "bfloat16", "float16")


def conv_forward(
    x: jax.Array, w: jax.Array, *, window: Any, dtype: Any = None, precision: Any = None,
    out_sharding: Any = None, across: Any = (),
) -> jax.Array:  # fmt: skip
    """y (N, *output, K) from x (N, *input, C) and w (*window, C/G, K)."""
    return _kernels(window, x, w).forward(
        x, w, window=window, dtype=dtype or x.dtype, precision=precision, across=across
    )


def conv_input_grad(
    dy: jax.Array, w: jax.Array, *, window: Any, dtype: Any = None, precision: Any = None,
    out_sharding: Any = None, across: Any = (),
) -> jax.Array:  # fmt: skip
    """dx (N, *input, C) from dy (N, *output, K) and w (*window, C/G, K)."""
    return _kernels(window, dy, w).input_grad(
        dy, w, window=window, dtype=dtype or dy.dtype, precision=precision, across=across
    )


def conv_filter_grad(
    x: jax.Array, dy: jax.Array, *, window: Any, dtype: Any = None, precision: Any = None,
    out_sharding: Any = None, across: Any = (),
) -> jax.Array:  # fmt: skip
    """dw (*window, C/G, K) from x (N, *input, C) and dy (N, *output, K)."""
    return _kernels(window, x, dy).filter_grad(
        x, dy, window=window, dtype=dtype or x.dtype, precision=precision, across=across
    )


def conv_forward_unsupported(
    x: Any, w: Any, *, window: Any, dtype: Any = None, precision: Any = None,
    out_sharding: Any = None,
) -> str | None:  # fmt: skip
    """Why the call can't be computed here, in words, or None if it can."""
    y = shapes.output(x, w, window, dtype)
    return _unsupported(window, x, w, y, precision)


def conv_input_grad_unsupported(
    dy: Any, w: Any, *, window: Any, dtype: Any = None, precision: Any = None,
    out_sharding: Any = None,
) -> str | None:  # fmt: skip
    """Why the call can't be computed here, in words, or None if it can."""
    dx = shapes.input_grad(dy, w, window, dtype)
    return _unsupported(window, dy, w, dx, precision)


def conv_filter_grad_unsupported(
    x: Any, dy: Any, *, window: Any, dtype: Any = None, precision: Any = None,
    out_sharding: Any = None,
) -> str | None:  # fmt: skip
    """Why the call can't be computed here, in words, or None if it can."""
    return _unsupported(window, x, dy, shapes.filter_grad(x, dy, window, dtype), precision)


def _kernels(window, first, second) -> ModuleType:
    """Of a part of a depthwise convolution there are fewer channels than groups."""
    depthwise = 1 < window.groups >= first.shape[-1] == second.shape[-1]
    return depthwise_conv if depthwise else dense_conv


def _unsupported(window, first, second, result, precision):
    if reason := unsupported(first, second, result, dtypes=DTYPES):
        return reason
    if first.dtype != second.dtype:
        return f"only operands of one dtype, got {first.dtype} and {second.dtype}"
    return _kernels(window, first, second).refused(window, first, precision)
