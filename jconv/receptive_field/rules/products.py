"""Matrix products, convolutions and Fourier transforms: sums over what they contract."""

from __future__ import annotations

from typing import Any

import numpy as np

from jconv.receptive_field.constants import Known
from jconv.receptive_field.rules.call import Call, is_dep, joined
from jconv.receptive_field.taps import Taps


def dot_general(domain: Any, call: Call) -> Any:
    """[B M K] [B K N] -> [B M N]"""
    contracted, batched = call.params["dimension_numbers"]
    free = [
        [d for d in range(len(shape)) if d not in (*contracted[side], *batched[side])]
        for side, shape in enumerate(call.shapes)
    ]
    (shape,) = call.outs
    parts = []
    for side, x in enumerate(call.ins):
        if not is_dep(x):
            continue
        source: list[int | None] = [None] * len(shape)
        source[: len(batched[side])] = batched[side]
        before = len(batched[0]) + (len(free[0]) if side else 0)
        source[before : before + len(free[side])] = free[side]
        moving = [d for d in contracted[side] if domain.varies(x, d)]
        sparse = _nonzero(call, 1 - side, moving, contracted[side], contracted, free)
        if sparse is not None:
            reads, other = sparse
            x = domain.table(x, moving[0], reads)
            at = len(batched[0]) + (0 if side else len(free[0])) + free[1 - side].index(other)
            source[at] = moving[0]
            x = domain.collapse(x, [d for d in contracted[side] if d != moving[0]])
        else:
            x = domain.collapse(x, contracted[side])
        parts.append(domain.place(x, source, shape))
    # A product of two values mixes positions by its nature: they need not be aligned.
    return joined(domain, parts, shape, None)


def _nonzero(call, side, moving, own, contracted, free):
    """Of a known matrix that contracts one dimension alone: (out, n) bool, which weights are not 0,
    and the dimension of the matrix that stays; None where there is no such matrix.

    So a resize, which is a product with a banded matrix, stays local.
    """
    matrix = call.ins[side]
    if not isinstance(matrix, Known) or len(moving) != 1:
        return None
    kept = [d for d in free[side] if call.shapes[side][d] > 1] or free[side][:1]
    if len(kept) != 1:
        return None
    d = contracted[side][list(own).index(moving[0])]
    rest = tuple(k for k in range(len(call.shapes[side])) if k not in (d, kept[0]))
    nonzero = (matrix.value != 0).any(rest)
    return (nonzero if kept[0] < d else nonzero.T), kept[0]


def conv_general_dilated(domain: Any, call: Call) -> Any:
    """The window in each spatial dimension, all channels of a group; the filter may read the input
    too.
    """
    params, (x_shape, w_shape), (shape,) = call.params, call.shapes, call.outs
    lhs, rhs, out = params["dimension_numbers"]
    parts = []
    if is_dep(call.ins[0]):
        x = _grouped(domain, call.ins[0], lhs[1], x_shape, shape[out[1]], params)
        x = _batch(domain, x, lhs[0], shape[out[0]], params)
        axes = zip(
            lhs[2:], rhs[2:], out[2:], params["window_strides"], params["padding"],
            params["rhs_dilation"], params["lhs_dilation"], strict=True,
        )  # fmt: skip
        for d, r, o, stride, (lo, _), dilation, between in axes:
            taps = Taps(w_shape[r], stride, lo, dilation, between)
            x = domain.window(x, d, x_shape[d], shape[o], taps)
        parts.append(_placed(domain, x, lhs, out, shape))
    if is_dep(call.ins[1]):
        w = domain.collapse(call.ins[1], rhs[1:])
        w = domain.place(w, [rhs[0] if d == out[1] else None for d in range(len(shape))], shape)
        parts.append(w)
    return joined(domain, parts, shape, call.at)


def _grouped(domain, x, d, x_shape, features, params):
    groups = params["feature_group_count"]
    if groups == 1 or not domain.varies(x, d):
        return domain.collapse(x, [d])
    own = np.arange(features) * groups // features
    return domain.table(x, d, own[:, None] == np.arange(x_shape[d]) * groups // x_shape[d])


def _batch(domain, x, d, n, params):
    """Of batch groups each is read by its own features, so by some for each example."""
    return domain.collapse(x, [d]) if params["batch_group_count"] > 1 else x


def _placed(domain, x, lhs, out, shape):
    source: list[int | None] = [None] * len(shape)
    for d, o in zip(lhs, out, strict=True):
        source[o] = d
    return domain.place(x, source, shape)


def fft(domain: Any, call: Call) -> Any:
    """Every frequency reads the whole of the transformed dimensions."""
    rank = len(call.shapes[0])
    last = range(rank - len(call.params["fft_lengths"]), rank)
    x = domain.collapse(call.ins[0], last)
    return domain.place(x, [None if d in last else d for d in range(rank)], call.outs[0])


RULES = {
    "dot_general": dot_general,
    "conv_general_dilated": conv_general_dilated,
    "fft": fft,
}
