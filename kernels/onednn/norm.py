"""Standardisation and its gradient, with the signatures of `jconv.ops.standardize`.

Loops of our own on XLA's threads, behind batch, layer, instance and group norm alike: the array is
seen as A R1 B R2, normalised over R1 and R2. The variance is two-pass within blocks that fit the
cache, and merged; x is read twice, once where a line fits the cache.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import jax
import numpy as np

from . import limits
from .library import target


def standardize(
    x: jax.Array, *, axes: tuple[int, ...], epsilon: float, centre: bool
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(y, mean, variance) of x over `axes`, kept with size 1, in float32."""
    y = jax.ShapeDtypeStruct(x.shape, np.float32)
    kept = jax.ShapeDtypeStruct(_kept(x.shape, axes), np.float32)
    return _call(
        "standardize", (y, kept, kept), x,
        view=_view(x.shape, axes), epsilon=np.float64(epsilon), centre=bool(centre),
    )  # fmt: skip


def standardize_grad(
    t: jax.Array, y: jax.Array, rstd: jax.Array, *, axes: tuple[int, ...], centre: bool
) -> jax.Array:
    """rstd * (t - mean(t) - y * mean(y * t)), means over `axes`; mean(t) only with `centre`."""
    dx = jax.ShapeDtypeStruct(t.shape, np.float32)
    return _call("standardize_grad", dx, t, y, rstd, view=_view(t.shape, axes), centre=bool(centre))


def standardize_unsupported(
    x: Any, *, axes: tuple[int, ...], epsilon: float, centre: bool
) -> str | None:
    """Why the call can't be computed here, in words, or None if it can."""
    return limits.unsupported(x, dtypes=("float32", "bfloat16")) or _no_view(x, axes)


def standardize_grad_unsupported(
    t: Any, y: Any, rstd: Any, *, axes: tuple[int, ...], centre: bool
) -> str | None:
    """Why the call can't be computed here, in words, or None if it can."""
    return limits.unsupported(t, y, rstd, dtypes=("float32",)) or _no_view(t, axes)


def _no_view(x, axes):
    if _view(x.shape, axes) is None:
        return f"only axes that lie in at most two groups beside each other, got {axes}"
    return None


def _view(shape, axes):
    """A, R1, B, R2 of an array that is normalised over `axes`; None if it takes more than four."""
    runs = [
        (normalised, math.prod(shape[axis] for axis in group))
        for normalised, group in itertools.groupby(
            (axis for axis, n in enumerate(shape) if n > 1), key=lambda axis: axis in axes
        )
    ]
    view = [1, 1, 1, 1]
    for place, wanted in zip((3, 2, 1, 0), (True, False, True, False), strict=True):
        if runs and runs[-1][0] is wanted:
            view[place] = runs.pop()[1]
    return None if runs else np.array(view, np.int64)


def _kept(shape, axes):
    return tuple(1 if axis in axes else n for axis, n in enumerate(shape))


def _call(name, results, *operands, **attributes):
    call = jax.ffi.ffi_call(target(name), results, vmap_method="sequential")
    return call(*operands, **attributes)
