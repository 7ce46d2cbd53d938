"""A case as programs: its operands, jconv's way to compute a pass, and stock JAX's.

    pass    operands of a convolution    of a pooling or norm          result
    fwd     x, w                         x, or x, scale, bias          y
    dx      dy, w                                                      dx
    dw      x, dy                                                      dw
    full                                 x, dy; x, scale, bias, dy     y, dx; y, dx, dscale, dbias

Stock means `jax.lax` for convolutions and pooling, and the layers of Flax NNX for norms.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

from jconv.bench.cases import CONVOLUTIONS, NORMS, POOLS, Case
from jconv.bench.reference import EPSILON
from jconv.core import explain_choice
from jconv.core.primitive import OPERATIONS
from jconv.ops import avg_pool, batch_norm, conv, conv_transpose, group_norm, layer_norm, max_pool
from jconv.ops.conv_triangle import filter_grad, forward, input_grad
from jconv.window import Window

type Program = Callable[..., Any]  # arrays to a tuple of arrays

STOCK = {
    "conv": "lax.conv_general_dilated", "conv_transpose": "lax.conv_transpose",
    "max_pool": "lax.reduce_window", "avg_pool": "lax.reduce_window",
    "batch_norm": "nnx.BatchNorm", "layer_norm": "nnx.LayerNorm", "group_norm": "nnx.GroupNorm",
}  # fmt: skip


def operands(case: Case, pass_: str) -> tuple[np.ndarray, ...]:
    """Standard normal float32 numbers, rounded to the case's dtype; the same at every call."""
    random = np.random.default_rng(zlib.crc32(f"{case} {pass_}".encode()))
    arrays = [random.standard_normal(shape, np.float32) for shape in shapes(case, pass_)]
    return tuple(a.astype(jnp.dtype(case.dtype)).astype(np.float32) for a in arrays)


def shapes(case: Case, pass_: str) -> list[tuple[int, ...]]:
    """The shapes of a pass's operands."""
    if case.op in CONVOLUTIONS:
        return {
            "fwd": [case.x, case.w], "dx": [case.output, case.w], "dw": [case.x, case.output]
        }[pass_]  # fmt: skip
    parameters = [case.x[-1:]] * 2 if case.op in NORMS else []
    return [case.x, *parameters, *([case.output] if pass_ == "full" else [])]


def ours(case: Case, pass_: str, implementation: str | None = None) -> Program:
    """jconv's computation, by the table's choice or by one implementation."""
    if case.op in CONVOLUTIONS:
        return lambda *args: (_ours_linear(case, pass_, implementation, *args),)
    static: dict[str, Any] = {"implementation": implementation}
    if case.op in POOLS:
        pool = max_pool if case.op == "max_pool" else avg_pool
        static |= {"stride": case.stride, "padding": case.padding}
        return _with_backward(lambda x: pool(x, case.window, **static), pass_)
    static["epsilon"] = EPSILON
    norms = {
        "batch_norm": lambda *args: batch_norm(*args, **static)[0],
        "layer_norm": lambda *args: layer_norm(*args, **static),
        "group_norm": lambda *args: group_norm(*args, groups=case.groups, **static),
    }
    return _with_backward(norms[case.op], pass_)


def stock(case: Case, pass_: str) -> Program:
    """The computation of JAX and Flax without jconv."""
    if case.op not in CONVOLUTIONS:
        return _with_backward(_stock_norm(case) if case.op in NORMS else _stock_pool(case), pass_)
    convolve = _stock_conv(case)
    if pass_ == "fwd":
        return lambda x, w: (convolve(x, w),)

    def input_gradient(dy, w):
        x = jax.ShapeDtypeStruct(case.x, dy.dtype)
        return jax.linear_transpose(lambda x: convolve(x, w), x)(dy)

    def filter_gradient(x, dy):
        w = jax.ShapeDtypeStruct(case.w, dy.dtype)
        return jax.linear_transpose(lambda w: convolve(x, w), w)(dy)

    return input_gradient if pass_ == "dx" else filter_gradient


def chosen(case: Case, pass_: str, implementation: str | None = None) -> tuple[str, ...]:
    """The implementation of each operation that runs, "conv_input_grad: direct".

    Raises:
      ValueError, NotImplementedError: `implementation` is none of the case's, or can't compute it.
    """
    choices = explain_choice(ours(case, pass_, implementation), *_types(case, pass_))
    return tuple(f"{choice.op}: {choice.implementation}" for choice in choices)


def alternatives(case: Case, pass_: str) -> dict[str, tuple[str, ...]]:
    """The implementations by name that compute a pass, with what each operation runs by; without
    those that would run just what another one or the table's choice does."""
    known = {chosen(case, pass_)}
    found = {}
    for name in _names(case, pass_):
        try:
            runs = chosen(case, pass_, name)
        except (ValueError, NotImplementedError):
            continue
        if runs not in known:
            known.add(runs)
            found[name] = runs
    return found


def _names(case, pass_):
    """Every name in the tables of the operations behind a pass; rows that only spell the body of
    another row as jax.lax's own operations ("lax") are left out."""
    operations = {choice.partition(":")[0] for choice in chosen(case, pass_)}
    tables = [op.table for op in OPERATIONS.values() if op.name in operations]
    rows = (row for table in tables for row in table if not row.inline)
    return dict.fromkeys(row.name for row in rows)


def _types(case, pass_):
    dtype = jnp.dtype(case.dtype)
    return [jax.ShapeDtypeStruct(shape, dtype) for shape in shapes(case, pass_)]


def _with_backward(f, pass_):
    if pass_ == "fwd":
        return lambda *args: (f(*args),)

    def full(*args):
        *args, dy = args
        y, vjp = jax.vjp(f, *args)
        return y, *vjp(dy)

    return full


def _ours_linear(case, pass_, implementation, a, b):
    """The gradients are the operations that JAX's derivatives of `conv` are made of."""
    static: dict[str, Any] = {
        "stride": case.stride, "padding": case.padding, "dilation": case.dilation,
        "groups": case.groups,
    }  # fmt: skip
    transposed = case.op == "conv_transpose"
    if pass_ == "fwd":
        op = conv_transpose if transposed else conv
        return op(a, b, **static, implementation=implementation)
    make = Window.transposed if transposed else Window.of
    window = make(case.x[1:-1], case.w[:-2], **static)
    if pass_ == "dw":
        op, (a, b) = filter_grad, (b, a) if transposed else (a, b)
    else:
        op = forward if transposed else input_grad
    return op(
        a, b, window=window, dtype=a.dtype, precision=None, out_sharding=None,
        implementation=implementation,
    )  # fmt: skip


def _stock_conv(case):
    spatial = "DHW"[-(len(case.x) - 2) :]
    layout = (f"N{spatial}C", f"{spatial}IO", f"N{spatial}C")
    strides = (case.stride,) * len(spatial)
    if case.op == "conv":
        return lambda x, w: lax.conv_general_dilated(
            x, w, strides, [(case.padding,) * 2] * len(spatial),
            rhs_dilation=(case.dilation,) * len(spatial), dimension_numbers=layout,
            feature_group_count=case.groups,
        )  # fmt: skip
    pads = [(r - 1 - case.padding,) * 2 for r in case.w[:-2]]
    return lambda y, w: lax.conv_transpose(
        y, w, strides, pads, dimension_numbers=layout, transpose_kernel=True
    )


def _stock_pool(case):
    axes = len(case.x) - 2
    size, stride = (1, *(case.window,) * axes, 1), (1, *(case.stride,) * axes, 1)
    pads = [(0, 0), *[(case.padding,) * 2] * axes, (0, 0)]

    def pool(x):
        if case.op == "max_pool":
            return lax.reduce_window(x, np.array(-np.inf, x.dtype), lax.max, size, stride, pads)
        total = lax.reduce_window(x, np.zeros((), x.dtype), lax.add, size, stride, pads)
        return total / np.array(case.window**axes, x.dtype)

    return pool


def _stock_norm(case):
    channels = case.x[-1]

    def norm(x, scale, bias):
        options: dict[str, Any] = {"epsilon": EPSILON, "dtype": x.dtype, "rngs": nnx.Rngs(0)}
        if case.op == "batch_norm":
            layer = nnx.BatchNorm(channels, use_running_average=False, **options)
        elif case.op == "layer_norm":
            layer = nnx.LayerNorm(channels, **options)
        else:
            layer = nnx.GroupNorm(channels, case.groups, **options)
        layer.scale, layer.bias = nnx.Param(scale), nnx.Param(bias)
        return layer(x)

    return norm
