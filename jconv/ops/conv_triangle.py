"""Convolution and its two gradients: three primitives that are one another's transposes.

Drop the spatial axes and convolution is a matrix product, so it is bilinear, and each argument's
transpose is a product with the other argument transposed. The three operations close under
transposition; that triangle is the whole theory of derivatives of convolution, to any order and in
both modes:

    conv               y  = x w     [N C] [C K] -> [N K]
    conv_input_grad    dx = dy w'   [N K] [K C] -> [N C]   filter flipped, dy dilated by the stride
    conv_filter_grad   dw = x' dy   [C N] [N K] -> [C K]   dy, dilated by the stride, is the filter

Shapes: x N H W C, w R S C/G K, y and dy N P Q K. `dtype` is the result's. float16 and bfloat16 are
summed in float32.
"""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
from jax import lax

from jconv.core import Operation, bilinear, one_body
from jconv.ops.dtypes import wider

# The three bodies on XLA. Operands of one product may differ in dtype where preferred_element_type
# made the output wider.


def _forward_xla(x, w, *, window, dtype, precision):
    x, w = _same_dtype(x, w)
    return _conv_xla(
        x, w, window.stride, window.pads, window.input_dilation, window.dilation,
        out=(x.shape[0], *window.output, w.shape[-1]), dtype=dtype, precision=precision,
        feature_group_count=window.groups,
    )  # fmt: skip


def _input_grad_xla(dy, w, *, window, dtype, precision):
    dy, w = _same_dtype(dy, w)
    return _conv_xla(
        dy, _swap(w, window.groups), window.input_dilation, window.input_grad_pads, window.stride,
        window.dilation, out=(dy.shape[0], *window.input, w.shape[-2] * window.groups), dtype=dtype,
        precision=precision, feature_group_count=window.groups,
    )  # fmt: skip


def _filter_grad_xla(x, dy, *, window, dtype, precision):
    x, dy = _same_dtype(x, dy)
    dw = _conv_xla(
        jnp.swapaxes(x, 0, -1), jnp.moveaxis(dy, 0, -2), window.dilation, window.filter_grad_pads,
        window.input_dilation, window.stride, out=(x.shape[-1] // window.groups, *window.size,
        dy.shape[-1]), dtype=dtype, precision=precision, batch_group_count=window.groups,
    )  # fmt: skip
    return jnp.moveaxis(dw, 0, -2)


def _conv_xla(x, w, stride, pads, input_dilation, dilation, *, out, dtype, precision, **groups):
    if 0 in (*x.shape, *w.shape, *out):
        return jnp.zeros(out, dtype)
    if _aborts_xla(x, w, stride, pads, input_dilation):
        x = _padded(x, pads, input_dilation)
        pads = ((0, 0),) * len(pads)
        input_dilation = (1,) * len(pads)
    spatial = tuple(range(1, x.ndim - 1))
    image = (0, x.ndim - 1, *spatial)
    filter = (x.ndim - 1, x.ndim - 2, *(axis - 1 for axis in spatial))
    # XLA sums in no narrower dtype than its operands': a narrower gradient is rounded afterwards.
    y = lax.conv_general_dilated(
        x, w, stride, pads, input_dilation, dilation, precision=precision,
        preferred_element_type=wider(dtype, x.dtype),
        dimension_numbers=lax.ConvDimensionNumbers(image, filter, image), **groups,
    )  # fmt: skip
    return y.astype(dtype)


def _aborts_xla(x, w, stride, pads, input_dilation):
    """Whether XLA's CPU compiler would end the process, as jaxlib 0.12.0.1 does: one axis whose
    pixels are spread out by just the filter's size, unpadded, and another shorter than its filter.

    The check that fails is "Window dimensions do not match RHS shape" in its algebraic simplifier.
    """
    axes = list(zip(x.shape[1:-1], w.shape[:-2], stride, pads, input_dilation, strict=True))
    spread = [d == r > 1 and s == 1 and tuple(pad) == (0, 0) for _, r, s, pad, d in axes]
    short = [n < r for n, r, *_ in axes]
    return any(spread) and any(a and not b for a, b in zip(short, spread, strict=True))


def _padded(x, pads, input_dilation):
    """x with its zeros written out; the barrier keeps XLA from folding them back in."""
    config = ((lo, hi, d - 1) for (lo, hi), d in zip(pads, input_dilation, strict=True))
    return lax.optimization_barrier(
        lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *config, (0, 0, 0)])
    )


def _same_dtype(a, b):
    dtype = wider(a.dtype, b.dtype)
    return a.astype(dtype), b.astype(dtype)


def _swap(w, groups):
    """R S C/G K -> R S K/G C, both channel axes group-major, flipped in space."""
    *size, c, k = w.shape
    w = jnp.flip(w, range(len(size))).reshape(*size, c, groups, k // groups)
    return jnp.moveaxis(w, -1, -3).swapaxes(-1, -2).reshape(*size, k // groups, groups * c)


FORWARD = one_body(_forward_xla)
INPUT_GRAD = one_body(_input_grad_xla)
FILTER_GRAD = one_body(_filter_grad_xla)

# vmap. A mapped axis of length B goes into an axis that the operands don't share, so that nothing
# is repeated:
#
#     conv               x mapped    [BN C] [C K] -> [BN K]    w mapped    [N C] [C BK] -> [N BK]
#     conv_input_grad    dy mapped   [BN K] [K C] -> [BN C]    w mapped    [N K] [K BC] -> [N BC]
#     conv_filter_grad   x mapped    [BC N] [N K] -> [BC K]    dy mapped   [C N] [N BK] -> [C BK]
#
# Where both are mapped each example is a group of its own.


def _fold(op, axes, size, args, mapped, *, window, **static):
    """`op` with the mapped axis folded away.

    Args:
      axes: for each operand, the axis that takes B when it alone is mapped, and the result's axis
        that gives it back.
    """
    args = list(args)
    if all(mapped):
        args = [_merge(arg, -1, 1) for arg in args]
        out = op(*args, window=dataclasses.replace(window, groups=size * window.groups), **static)
        return _split(out, -1, size, 1)
    position = mapped.index(True)
    into, back = axes[position]
    args[position] = _merge(args[position], into, _groups_of(into, window))
    return _split(op(*args, window=window, **static), back, size, _groups_of(back, window))


def _groups_of(axis, window):
    """The last axis of every array holds its channels group by group; no other axis does."""
    return window.groups if axis == -1 else 1


def _merge(array, axis, groups):
    """B ... G*m ... -> ... G*B*m ..."""
    batch, *shape = array.shape
    axis %= len(shape)
    array = array.reshape(batch, *shape[:axis], groups, shape[axis] // groups, *shape[axis + 1 :])
    return jnp.moveaxis(array, 0, axis + 1).reshape(
        *shape[:axis], batch * shape[axis], *shape[axis + 1 :]
    )


def _split(array, axis, batch, groups):
    """... G*B*m ... -> B ... G*m ..."""
    axis %= array.ndim
    before, length, after = array.shape[:axis], array.shape[axis], array.shape[axis + 1 :]
    array = array.reshape(*before, groups, batch, length // (groups * batch), *after)
    return jnp.moveaxis(array, axis + 1, 0).reshape(batch, *before, length // batch, *after)


forward = Operation(
    "conv", FORWARD, fold=lambda *a, **k: _fold(forward, ((0, 0), (-1, -1)), *a, **k)
)
input_grad = Operation(
    "conv_input_grad",
    INPUT_GRAD,
    fold=lambda *a, **k: _fold(input_grad, ((0, 0), (-2, -1)), *a, **k),
)
filter_grad = Operation(
    "conv_filter_grad",
    FILTER_GRAD,
    fold=lambda *a, **k: _fold(filter_grad, ((-1, -2), (-1, -1)), *a, **k),
)

# The triangle: the transpose in the first operand, and in the second. A gradient inherits a named
# implementation.
#
#     conv                dx = input_grad(dy, w)     dw = filter_grad(x, dy)
#     conv_input_grad     ddy = conv(dx, w)          dw = filter_grad(dx, dy)
#     conv_filter_grad    dx = input_grad(dy, dw)    ddy = conv(x, dw)


def _to(op, cotangent_first):
    def rule(cotangent, other, *, implementation, **static):
        args = (cotangent, other) if cotangent_first else (other, cotangent)
        return op(*args, implementation=op.offers(implementation), **static)

    return rule


bilinear(forward, _to(input_grad, True), _to(filter_grad, False))
bilinear(input_grad, _to(forward, True), _to(filter_grad, True))
bilinear(filter_grad, _to(input_grad, False), _to(forward, False))
