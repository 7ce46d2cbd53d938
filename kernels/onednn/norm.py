"""Standardisation with its affine map, with the signatures of `jconv.ops.standardize`.

Loops of our own on XLA's threads, behind batch, layer, instance and group norm alike: the array is
seen as V A R1 B R2, normalised over R1 and R2, with a scale for each of V, of V B, of V R2 or of
V B R2. The variance is two-pass within blocks that fit the cache, and merged; x is read twice, once
where what is normalised together fits the cache. The gradient reads x and dz so, and gives dx,
dscale and dbias. The tangent map is the same symmetric map with the affine one after it, by XLA.
"""

from __future__ import annotations

import functools
import itertools
import math
from typing import Any

import jax
import numpy as np

from .. import tangent  # noqa: TID252, the package is imported as jconv_kernels
from . import limits
from .library import target

type Bounds = tuple[float, float] | None  # between which z is held


def standardize(
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    *,
    axes: tuple[int, ...],
    epsilon: float,
    centre: bool,
    bounds: Bounds,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(z, mean, variance) of x over `axes`, which the statistics, in float32, keep with size 1."""
    kept = jax.ShapeDtypeStruct(_kept(x.shape, axes), np.float32)
    return _call("standardize", (_like(x), kept, kept), x, scale, bias,
                 **_attributes(x, scale, axes, epsilon, centre, bounds))  # fmt: skip


def standardize_grad(
    dz: jax.Array,
    dmean: jax.Array,
    dvariance: jax.Array,
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    mean: jax.Array,
    variance: jax.Array,
    *,
    axes: tuple[int, ...],
    epsilon: float,
    centre: bool,
    bounds: Bounds,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(dx, dscale, dbias): the transpose of the tangent map at x, scale, bias."""
    results = (_like(x), _like(scale), _like(scale))
    return _call("standardize_grad", results, dz, dmean, dvariance, x, scale, bias, mean, variance,
                 **_attributes(x, scale, axes, epsilon, centre, bounds))  # fmt: skip


standardize_tangent = functools.partial(tangent.standardize_tangent, standardize_grad)


def standardize_unsupported(
    x: Any, scale: Any, bias: Any, *,
    axes: tuple[int, ...], epsilon: float, centre: bool, bounds: Bounds,
) -> str | None:  # fmt: skip
    """Why the call can't be computed here, in words, or None if it can."""
    return _unsupported(x, scale, axes)


def standardize_grad_unsupported(
    dz: Any, dmean: Any, dvariance: Any, x: Any, scale: Any, bias: Any, mean: Any, variance: Any, *,
    axes: tuple[int, ...], epsilon: float, centre: bool, bounds: Bounds,
) -> str | None:  # fmt: skip
    """Why the call can't be computed here, in words, or None if it can."""
    return _unsupported(x, scale, axes)


standardize_tangent_unsupported = standardize_grad_unsupported


def _unsupported(x, scale, axes):
    if reason := limits.unsupported(x, dtypes=("float32", "bfloat16")):
        return reason
    if _view(x.shape, scale.shape, axes) is None:
        return (
            "only axes that lie in at most two groups beside each other, and a scale of their "
            f"last or of what lies between, got axes {axes}, scale {scale.shape}"
        )
    return None


def _view(shape, scaled, axes):
    """V, A, R1, B, R2 of an array that is normalised over `axes`, and how much of B and of R2 has
    a scale of its own, with scales of shape `scaled`; None if it takes more.

    Neighbouring axes are one where both say the same of them. From the last: R2 is normalised, B is
    not, R1 is, with the same scale throughout, A is not; V is not, with scales of its own.
    """
    kinds = [
        (kind, math.prod(shape[axis] for axis in group))
        for kind, group in itertools.groupby(
            (axis for axis, n in enumerate(shape) if n > 1),
            key=lambda axis: (axis in axes, scaled[axis] > 1),
        )
    ]
    taken = []
    for wanted in (
        {(True, True), (True, False)}, {(False, True), (False, False)},
        {(True, False)}, {(False, False)}, {(False, True)},
    ):  # fmt: skip
        kind, size = kinds.pop() if kinds and kinds[-1][0] in wanted else ((True, False), 1)
        taken.append((size, size if kind[1] else 1))
    (r2, pr), (b, pb), (r1, _), (a, _), (v, _) = taken
    if kinds or (r1 == 1 and pb > 1):  # lines that lie together share their scale
        return None
    return np.array((v, a, r1, b, r2, pb, pr), np.int64)


def _attributes(x, scale, axes, epsilon, centre, bounds):
    low, high = map(np.float64, (-np.inf, np.inf) if bounds is None else bounds)
    view = _view(x.shape, scale.shape, axes)
    return {"view": view, "epsilon": np.float64(epsilon), "centre": bool(centre), "low": low,
            "high": high}  # fmt: skip


def _kept(shape, axes):
    return tuple(1 if axis in axes else n for axis, n in enumerate(shape))


def _like(array):
    return jax.ShapeDtypeStruct(array.shape, array.dtype)


def _call(name, results, *operands, **attributes):
    call = jax.ffi.ffi_call(target(name), results, vmap_method="sequential")
    return call(*operands, **attributes)
