"""Reductions over dimensions and windows, sums along a dimension, and pooling's gradients."""

from __future__ import annotations

from typing import Any

from jconv.receptive_field.rules.call import Call, is_dep, joined
from jconv.receptive_field.rules.shapes import windows
from jconv.receptive_field.taps import Taps


def reduce(domain: Any, call: Call) -> Any:
    """All of some dimensions, which go; the initial values of a general one count too."""
    axes = call.params.get("axes", call.params.get("dimensions"))
    (shape, *_) = call.outs
    parts = []
    for x, given in call.deps:
        if given == ():
            parts.append(domain.place(x, [None] * len(shape), shape))
            continue
        kept = [d for d in range(len(given)) if d not in axes]
        parts.append(domain.place(domain.collapse(x, axes), kept, shape))
    return joined(domain, parts, shape, call.at)


def reduce_window(domain: Any, call: Call) -> Any:
    """A window in each dimension."""
    params, (shape, *_) = call.params, call.outs
    taps = _taps(params, len(shape))
    parts = [
        windows(domain, x, given, shape, taps)
        if given
        else domain.place(x, [None] * len(shape), shape)
        for x, given in call.deps
    ]
    return joined(domain, parts, shape, None)


def _taps(params, rank):
    ones = (1,) * rank
    return [
        Taps(size, stride, lo, dilation, between)
        for size, stride, (lo, _), dilation, between in zip(
            params["window_dimensions"], params["window_strides"], params["padding"],
            params.get("window_dilation") or ones, params.get("base_dilation") or ones,
            strict=True,
        )
    ]  # fmt: skip


def select_and_scatter_add(domain: Any, call: Call) -> Any:
    """dx of a max pooling: of the windows that hold a pixel, all pixels and the gradient."""
    (dy, x), (dy_shape, x_shape), (shape,) = call.ins, call.shapes, call.outs
    taps, parts = _taps(call.params, len(shape)), []
    if is_dep(dy):
        parts.append(dy)
    if is_dep(x):
        parts.append(windows(domain, x, x_shape, dy_shape, taps))
    at_windows = joined(domain, parts, dy_shape, None)
    return windows(domain, at_windows, dy_shape, shape, [t.adjoint for t in taps])


def select_and_gather_add(domain: Any, call: Call) -> Any:
    """The tangent of a max pooling: of both operands the whole window."""
    taps = _taps(call.params, len(call.outs[0]))
    parts = [windows(domain, x, given, call.outs[0], taps) for x, given in call.deps]
    return joined(domain, parts, call.outs[0], None)


def cumulative(domain: Any, call: Call) -> Any:
    """All up to its own position along one dimension."""
    return domain.prefix(call.ins[0], call.params["axis"], call.params["reverse"])


def sort(domain: Any, call: Call) -> Any:
    """Any of the operands, anywhere along one dimension."""
    return _mixed(domain, call, call.params["dimension"])


def top_k(domain: Any, call: Call) -> Any:
    """The last dimension, unless told otherwise."""
    return _mixed(domain, call, call.params.get("axis", -1) % len(call.shapes[0]))


def _mixed(domain, call, dim):
    shape = call.outs[0]
    kept = [None if d == dim else d for d in range(len(shape))]
    parts = [domain.place(domain.collapse(x, [dim]), kept, shape) for x, _ in call.deps]
    return joined(domain, parts, shape, None)


# jconv's linear operations at the winners of windows: their definition gathers at positions that
# the input decides, but never outside the window. Of each operand: its window, the windows that
# hold a pixel, or the same place.
WINDOWED = {
    "pool_take": ("window", "place"),
    "pool_put": ("holders", "holders"),
    "pool_take_equal": ("window", "window", "place"),
    "pool_put_equal": ("holders", "place", "holders"),
}


def winner(domain: Any, call: Call) -> Any:
    """What reads the winners of windows: x N H W C, y N P Q C."""
    window, (shape,) = call.params["window"], call.outs
    inner = [
        Taps(size, stride, lo, dilation)
        for size, stride, (lo, _), dilation in zip(
            window.size, window.stride, window.pads, window.dilation, strict=True
        )
    ]
    taps = {
        "window": [None, *inner, None],
        "holders": [None, *(t.adjoint for t in inner), None],
        "place": [None] * len(shape),
    }
    parts = [
        windows(domain, x, given, shape, taps[kind])
        for x, given, kind in zip(call.ins, call.shapes, WINDOWED[call.name], strict=True)
        if is_dep(x)
    ]
    return joined(domain, parts, shape, None)


RULES = {
    **{f"reduce_{kind}": reduce for kind in ("sum", "max", "min", "prod", "and", "or", "xor")},
    "reduce": reduce,
    "argmax": reduce,
    "argmin": reduce,
    **{f"reduce_window{kind}": reduce_window for kind in ("", "_max", "_min", "_sum")},
    "select_and_scatter_add": select_and_scatter_add,
    "select_and_gather_add": select_and_gather_add,
    **{f"cum{kind}": cumulative for kind in ("sum", "prod", "max", "min", "logsumexp")},
    "sort": sort,
    "top_k": top_k,
    **dict.fromkeys(WINDOWED, winner),
}
