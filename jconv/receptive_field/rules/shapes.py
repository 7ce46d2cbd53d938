"""Operations that move elements without reading their values."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from jconv.receptive_field.rules.call import Call, is_dep
from jconv.receptive_field.taps import Taps, matrix


def broadcast_in_dim(domain: Any, call: Call) -> Any:
    """[C] -> [N C]"""
    (given, *_), (shape,) = call.shapes, call.outs
    source: list[int | None] = [None] * len(shape)
    for k, d in enumerate(call.params["broadcast_dimensions"]):
        source[d] = k if given[k] == shape[d] else None
    return domain.place(call.ins[0], source, shape)


def transpose(domain: Any, call: Call) -> Any:
    """[N H C] -> [C N H]"""
    return domain.place(call.ins[0], call.params["permutation"], call.outs[0])


def squeeze(domain: Any, call: Call) -> Any:
    """[N 1 C] -> [N C]"""
    gone = call.params["dimensions"]
    kept = [d for d in range(len(call.shapes[0])) if d not in gone]
    return domain.place(call.ins[0], kept, call.outs[0])


def reshape(domain: Any, call: Call) -> Any:
    """Row-major; the dimensions that a merge makes keep their digits."""
    return domain.reshape(call.ins[0], call.shapes[0], call.outs[0])


def reverse(domain: Any, call: Call) -> Any:
    """x[::-1]"""
    return domain.flip(call.ins[0], call.params["dimensions"])


def slice_(domain: Any, call: Call) -> Any:
    """x[a:b:s]: a window of one pixel."""
    strides = call.params["strides"] or (1,) * len(call.shapes[0])
    taps = [
        Taps(1, s, -start) for start, s in zip(call.params["start_indices"], strides, strict=True)
    ]
    return windows(domain, call.ins[0], call.shapes[0], call.outs[0], taps)


def windows(domain: Any, dep: Any, shape: Any, out: Any, taps: Any) -> Any:
    """Each dimension through its window; None leaves one as it is."""
    for d, (n, size, window) in enumerate(zip(shape, out, taps, strict=True)):
        if window is not None:
            dep = domain.window(dep, d, n, size, window)
    return dep


def pad(domain: Any, call: Call) -> Any:
    """Zeros, or what a scalar reads, around and between the elements."""
    (x, fill), (given, _), (shape,) = call.ins, call.shapes, call.outs
    taps = [Taps(1, 1, lo, 1, between + 1) for lo, _, between in call.params["padding_config"]]
    x = windows(domain, x, given, shape, taps) if is_dep(x) else None
    if not is_dep(fill):
        return x
    rows = [matrix(t, n, m).any(1) for t, n, m in zip(taps, given, shape, strict=True)]
    inside = functools.reduce(np.logical_and.outer, rows, np.array(True))
    fill = domain.place(fill, [None] * len(shape), shape)
    return domain.choose((~inside).astype(int), [x, fill], shape)


def concatenate(domain: Any, call: Call) -> Any:
    """Branches side by side: channels mostly, whose branches should be aligned."""
    parts = [x if is_dep(x) else None for x in call.ins]
    dim = call.params["dimension"]
    sizes = [shape[dim] for shape in call.shapes]
    return domain.concatenate(parts, dim, sizes, call.outs[0], call.at)


def split(domain: Any, call: Call) -> Any:
    """The pieces of one dimension."""
    dim, start, outs = call.params["axis"], 0, []
    for shape in call.outs:
        taps = Taps(1, 1, -start)
        outs.append(domain.window(call.ins[0], dim, call.shapes[0][dim], shape[dim], taps))
        start += shape[dim]
    return outs


def stack(domain: Any, call: Call) -> Any:
    """Side by side along a new dimension."""
    dim, (shape,) = call.params["axis"], call.outs
    source = [None if d == dim else d - (d > dim) for d in range(len(shape))]
    one = tuple(1 if d == dim else n for d, n in enumerate(shape))
    parts = [domain.place(x, source, one) if is_dep(x) else None for x in call.ins]
    return domain.concatenate(parts, dim, [1] * len(parts), shape, None)


def unstack(domain: Any, call: Call) -> Any:
    """The slices along a dimension."""
    return [domain.index(call.ins[0], call.params["axis"], k) for k in range(len(call.outs))]


def tile(domain: Any, call: Call) -> Any:
    """Copies side by side: an outer digit that nothing depends on."""
    (given,), (shape,), reps = call.shapes, call.outs, call.params["reps"]
    source = [k for d in range(len(given)) for k in (None, d)]
    apart = tuple(n for pair in zip(reps, given, strict=True) for n in pair)
    return domain.reshape(domain.place(call.ins[0], source, apart), apart, shape)


RULES = {
    "stack": stack,
    "unstack": unstack,
    "tile": tile,
    "broadcast_in_dim": broadcast_in_dim,
    "transpose": transpose,
    "squeeze": squeeze,
    "reshape": reshape,
    "rev": reverse,
    "slice": slice_,
    "pad": pad,
    "concatenate": concatenate,
    "split": split,
}
