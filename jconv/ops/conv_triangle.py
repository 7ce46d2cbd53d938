"""Convolution and its two gradients: three primitives that are one another's transposes.

Drop the spatial axes and convolution is a matrix product, so it is bilinear, and each argument's
transpose is a product with the other argument transposed. The three operations close under
transposition; that triangle is the whole theory of derivatives of convolution, to any order and in
both modes:

    conv               y  = x w     [N C] [C K] -> [N K]
    conv_input_grad    dx = dy w'   [N K] [K C] -> [N C]   filter flipped, dy dilated by the stride
    conv_filter_grad   dw = x' dy   [C N] [N K] -> [C K]   dy, dilated by the stride, is the filter

Shapes: x N H W C, w R S C/G K, y and dy N P Q K. `dtype` is the result's. float16 and bfloat16 are
summed in float32. On a mesh with explicit axes `out_sharding` is the result's sharding, or None for
the one that follows from the operands'.
"""

from __future__ import annotations

import math
from numbers import Integral

import jax
import jax.numpy as jnp
from jax import lax
from jax.lax import conv_general_dilated  # under its own name: jconv.lax's may be put in its place
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from jconv.algorithms import shifted
from jconv.core import (
    Implementation,
    Operation,
    bilinear,
    explicit_sharding,
    one_body,
    onednn,
)
from jconv.ops.conv_fold import fold
from jconv.ops.dtypes import at_least_float32, wider

# The three bodies, each on a way to compute a convolution. Operands of one product may differ in
# dtype where preferred_element_type made the output wider.


def _forward(convolve):
    def body(x, w, *, window, dtype, precision, out_sharding):
        x, w = _same_dtype(x, w)
        return convolve(
            x, w, window.stride, window.pads, window.input_dilation, window.dilation,
            output=window.output, groups=window.groups, dtype=dtype, precision=precision,
            out_sharding=out_sharding,
        )  # fmt: skip

    return body


def _input_grad(convolve):
    def body(dy, w, *, window, dtype, precision, out_sharding):
        dy, w = _same_dtype(dy, w)
        return convolve(
            dy, _swap(w, window.groups), window.input_dilation, window.input_grad_pads,
            window.stride, window.dilation, output=window.input, groups=window.groups, dtype=dtype,
            precision=precision, out_sharding=out_sharding,
        )  # fmt: skip

    return body


def _filter_grad(x, dy, *, window, dtype, precision, out_sharding):
    x, dy = _same_dtype(x, dy)
    dw = _on_xla(
        jnp.swapaxes(x, 0, -1), jnp.moveaxis(dy, 0, -2), window.dilation, window.filter_grad_pads,
        window.input_dilation, window.stride, output=window.size, batch_groups=window.groups,
        dtype=dtype, precision=precision, out_sharding=_channels_in_first(out_sharding, x.ndim),
    )  # fmt: skip
    return jnp.moveaxis(dw, 0, -2)


def _channels_in_first(sharding, ndim):
    """The sharding of dw (C, *window, K), from that of dw (*window, C, K)."""
    if sharding is None:
        return None
    *window, c, k = (*sharding.spec, *[None] * (ndim - len(sharding.spec)))
    return NamedSharding(sharding.mesh, P(c, *window, k))


def _on_xla(
    x, w, stride, pads, input_dilation, dilation, *,
    output, dtype, precision, out_sharding, groups=1, batch_groups=1,
):  # fmt: skip
    out = (x.shape[0] // batch_groups, *output, w.shape[-1])
    if 0 in (*x.shape, *w.shape, *out):
        return lax.full(out, 0, dtype, sharding=out_sharding)
    if _symbolic(pads) or _aborts_xla(x, w, stride, pads, input_dilation):
        x = _padded(x, pads, input_dilation)
        pads = ((0, 0),) * len(pads)
        input_dilation = (1,) * len(pads)
    spatial = tuple(range(1, x.ndim - 1))
    image = (0, x.ndim - 1, *spatial)
    filter = (x.ndim - 1, x.ndim - 2, *(axis - 1 for axis in spatial))
    # XLA sums in no narrower dtype than its operands': a narrower gradient is rounded afterwards.
    narrower = dtype.itemsize < x.dtype.itemsize
    y = conv_general_dilated(
        x, w, stride, pads, input_dilation, dilation, precision=precision,
        preferred_element_type=x.dtype if narrower else dtype,
        dimension_numbers=lax.ConvDimensionNumbers(image, filter, image),
        feature_group_count=groups, batch_group_count=batch_groups, out_sharding=out_sharding,
    )  # fmt: skip
    return _cast(y, dtype)


def _symbolic(pads):
    """Whether some padding depends on a symbolic size of jax.export, which lax.pad alone takes."""
    return not all(isinstance(side, Integral) for pad in pads for side in pad)


def _aborts_xla(x, w, stride, pads, input_dilation):
    """Whether XLA's CPU compiler would end the process, as jaxlib 0.12.0.1 does: one axis whose
    pixels are spread out by just the filter's size, unpadded, and another shorter than its filter.

    The check that fails is "Window dimensions do not match RHS shape" in its algebraic simplifier.
    """
    axes = list(zip(x.shape[1:-1], w.shape[:-2], stride, pads, input_dilation, strict=True))
    spread = [d == r > 1 and s == 1 and tuple(pad) == (0, 0) for _, r, s, pad, d in axes]
    if not any(spread):  # asked first: the sizes of a shape-polymorphic image can't be compared
        return False
    return any(n < r and not b for (n, r, *_), b in zip(axes, spread, strict=True))


def _padded(x, pads, input_dilation):
    """x with its zeros written out; the barrier keeps XLA from folding them back in."""
    config = ((lo, hi, d - 1) for (lo, hi), d in zip(pads, input_dilation, strict=True))
    return lax.optimization_barrier(
        lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *config, (0, 0, 0)])
    )


def _same_dtype(a, b):
    dtype = wider(a.dtype, b.dtype)
    return _cast(a, dtype), _cast(b, dtype)


def _cast(a, dtype):
    """`a` as `dtype`; the weak type of a constant stays where it is that already."""
    return a if a.dtype == dtype else a.astype(dtype)


def _swap(w, groups):
    """R S C/G K -> R S K/G C, both channel axes group-major, flipped in space."""
    *size, c, k = w.shape
    w = jnp.flip(w, range(len(size)))
    if groups == 1:
        return w.swapaxes(-1, -2)
    w = w.reshape(*size, c, groups, k // groups)
    return jnp.moveaxis(w, -1, -3).swapaxes(-1, -2).reshape(*size, k // groups, groups * c)


# XLA's partitioner gathers the examples of a grouped convolution, unless each group has one channel
# (openxla/xla#47945): where it splits a program, grouped convolutions are matrix products.

MOST_TAPS = 128  # each is a matrix product of its own, to be compiled


def _shifted(x, w, *geometry, dtype, out_sharding, **options):
    sums = at_least_float32(wider(dtype, x.dtype))
    y = shifted.conv(x, w, *geometry, dtype=dtype, sum_dtype=sums, **options)
    return y if out_sharding is None else jax.sharding.reshard(y, out_sharding)


def _unsupported(channels):
    """Why `shifted` does not compute a call.

    Args:
      channels: `channels(w, groups)`: how many of a group's channels go into each sum.
    """

    def reason(image, w, *, window, dtype, out_sharding, **static):
        if window.groups == 1 or channels(w, window.groups) == 1:
            return "only grouped convolutions of more than one channel per group"
        if math.prod(window.size) > MOST_TAPS:
            return f"only for filters of at most {MOST_TAPS} taps"
        if 0 in (*image.shape, *w.shape, *window.input, *window.output):
            return "nothing to compute"
        if dtype == jnp.bool:
            return "not for bool"
        if not _splits_examples_or_groups(image, w, window.groups):
            return "only where explicit axes split examples, or groups in both operands"
        return None

    return reason


def _splits_examples_or_groups(image, w, groups):
    x, y = explicit_sharding(image), explicit_sharding(w)
    if x is None or y is None:
        return True
    (_, *pixels, c), (*taps, k) = x.spec, y.spec
    parts = math.prod(x.mesh.shape[name] for name in jax.tree.leaves(c))
    return set(pixels) | set(taps) <= {None} and c == k and groups % parts == 0


def _table(body, channels, outside):
    products = Implementation(
        "shifted", body(_shifted), unsupported=_unsupported(channels), split_only=True
    )
    return one_body(body(_on_xla), products, onednn(outside))


FORWARD = _table(_forward, lambda w, groups: w.shape[-2], "conv_forward")
INPUT_GRAD = _table(_input_grad, lambda w, groups: w.shape[-1] // groups, "conv_input_grad")
FILTER_GRAD = one_body(_filter_grad, onednn("conv_filter_grad"))

# vmap: for each operand that is mapped alone, the axis that takes the mapped one, and the result's
# axis that gives it back.

forward = Operation(
    "conv", FORWARD, fold=lambda *a, **k: fold(forward, ((0, 0), (-1, -1)), *a, **k)
)
input_grad = Operation(
    "conv_input_grad",
    INPUT_GRAD,
    fold=lambda *a, **k: fold(input_grad, ((0, 0), (-2, -1)), *a, **k),
)
filter_grad = Operation(
    "conv_filter_grad",
    FILTER_GRAD,
    fold=lambda *a, **k: fold(filter_grad, ((-1, -2), (-1, -1)), *a, **k),
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
