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

from jconv.core import Operation, bilinear
from jconv.ops.conv_fold import fold
from jconv.ops.conv_rows import FILTER_GRAD, FORWARD, INPUT_GRAD

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
