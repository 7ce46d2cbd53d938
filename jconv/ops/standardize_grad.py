"""The gradient of standardisation on XLA: for every axis, and row by row.

    dx = J (scale * dz) + (1/n) dmean + (2/n) (x - mean) dvariance
    dscale = sum of y * dz              dbias = sum of dz, over what shares a scale

with the names of `standardize.py`. Memory beside operands and result: `direct` one array of x's
shape where a scale lies along the axes that are normalised, two or three for 16 bits, in float32;
`rows` some MiB.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jconv.algorithms import chunks
from jconv.core import explicit_sharding
from jconv.ops.standardize_across import counted

LEAST_BYTES = 2**23


def passed(dz, centred, factor, bias, bounds):
    """dz where z = centred * factor + bias is not held, else 0."""
    if bounds is None:
        return dz
    (low, high), z = bounds, centred * factor + bias
    inside = low < z if math.isinf(high) else (low < z) & (z < high)
    return jnp.where(inside, dz, 0)


def _sums(dz, x, scale, bias, mean, rstd, *, axes, bounds):
    """The sums of scale * dz and of scale * dz * (x - mean) over `axes`, dscale and dbias.

    First over what shares both its statistics and its scale: once for both.
    """
    wide = x.astype(scale.dtype)
    t = passed(dz.astype(scale.dtype), wide - mean, rstd * scale, bias, bounds)
    shared = tuple(axis for axis in range(x.ndim) if scale.shape[axis] == 1)
    both = tuple(axis for axis in axes if axis in shared)
    total = jnp.sum(t, both, keepdims=True)
    # x + (-mean), and above x - mean: what two share, XLA's CPU compiler writes to memory.
    product = jnp.sum(t * (wide + (-mean)), both, keepdims=True)
    return (
        _weighted(total, scale, axes),
        _weighted(product, scale, axes),
        _weighted(product, rstd, shared),
        jnp.sum(total, shared, keepdims=True),
    )


def direct(
    dz, dmean, dvariance, x, scale, bias, mean, variance, *, axes, epsilon, centre, bounds,
    sums_of=_sums,
):  # fmt: skip
    """(dx, dscale, dbias), for any axes and scales.

    Args:
      sums_of: what takes the sums, with the signature of `_sums`.
    """
    rstd = lax.rsqrt(variance + epsilon)
    n = jnp.asarray(counted(x, axes, None, None), scale.dtype)
    static = {"axes": axes, "bounds": bounds}
    of_t, of_ty, dscale, dbias = sums_of(dz, x, scale, bias, mean, rstd, **static)
    centred = x.astype(scale.dtype) - mean
    t = passed(dz.astype(scale.dtype), centred, rstd * scale, bias, bounds)
    dx = rstd * (scale * t - centred * (rstd * rstd * of_ty / n)) + centred * (2 * dvariance / n)
    if centre:
        dx += (dmean - rstd * of_t) / n
    return dx.astype(x.dtype), dscale, dbias


def _weighted(t, weights, axes):
    """The sum of weights * t over `axes`."""
    own = [axis for axis in range(t.ndim) if weights.shape[axis] != 1]
    within = own and set(own) <= set(axes)
    if not within or explicit_sharding(jax.typeof(t)) is not None:
        return jnp.sum(weights * t, axes, keepdims=True)
    # A product of matrices: t may be as large as x, and weights * t would be written to memory; the
    # vector stands on the side of the axes that it takes, or t would be transposed.
    vector, along = weights.reshape([weights.shape[axis] for axis in own]), list(range(len(own)))
    last = own[-1] == t.ndim - 1
    left, right = ((t, own), (vector, along)) if last else ((vector, along), (t, own))
    sums = lax.dot_general(
        left[0], right[0], ((left[1], right[1]), ((), ())), precision=lax.Precision.HIGHEST
    )
    others = [axis for axis in axes if axis not in own]
    return jnp.sum(jnp.expand_dims(sums, own), others, keepdims=True)


def rows(*operands, **static):
    """Where each row, of what is normalised together, lies in one piece: the sums by a loop over
    rows that stay in the cache.
    """
    return direct(*operands, **static, sums_of=_sums_in_chunks)


def _sums_in_chunks(dz, x, scale, bias, mean, rstd, *, axes, bounds):
    n = math.prod(x.shape[axis] for axis in axes)
    some = chunks.length(x.size // n, 2 * n * x.dtype.itemsize)
    split = (x.size // n // some, some)
    parts = *(a.reshape(*split, n) for a in (dz, x)), *(a.reshape(*split, 1) for a in (mean, rstd))
    scale_row, bias_row = scale.reshape(1, n), bias.reshape(1, n)

    def chunk(totals, part):
        dz, x, mean, rstd = part
        of_t, of_ty, *more = _sums(dz, x, scale_row, bias_row, mean, rstd, axes=(1,), bounds=bounds)
        return tuple(a + b for a, b in zip(totals, more, strict=True)), (of_t, of_ty)

    start = lax.full_like(x, 0, scale.dtype, (1, n))  # varies over the mesh axes that x does
    totals, of_rows = lax.scan(chunk, (start, start), parts)
    return (
        *(a.reshape(mean.shape) for a in of_rows),
        *(a.reshape(scale.shape) for a in totals),
    )


def rows_unsupported(
    dz: Any, dmean: Any, dvariance: Any, x: Any, scale: Any, *_: Any,
    axes: tuple[int, ...], **static: Any,
) -> str | None:  # fmt: skip
    """Why `rows` can't compute a call, in words, or None if it can."""
    first = x.ndim - len(axes)
    if axes != tuple(range(first, x.ndim)):
        return f"only for the last axes, got axes {axes}"
    if scale.shape != (1,) * first + x.shape[first:]:
        return f"only for a scale of each number of a row, got scale {scale.shape}"
    if not all(isinstance(n, int) and n for n in x.shape):
        return "only for sizes that are known when it is compiled, and something to compute"
    sharding = explicit_sharding(x)
    split = sharding is not None and any(sharding.spec)
    return "not on operands that explicit axes split" if split else None


def rows_slower(dz: Any, dmean: Any, dvariance: Any, x: Any, *_: Any, **static: Any) -> str | None:
    """Where `rows` was measured to lose."""
    # rows / direct: layernorm 0.67; 16x56x56x64 0.81, 16x28x28x192 0.77, 8x56x56x96 0.73,
    # 64x197x768 0.59; but 16x24x24x192 0.94, 16x24x24x96 1.22, 256x4096 1.14.
    if x.size * x.dtype.itemsize < LEAST_BYTES:
        return f"slower below {LEAST_BYTES} bytes, which stay in the cache anyway"
    return None
