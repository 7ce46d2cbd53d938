"""Normalisation: y = (x - mean) * rstd, with the statistics of some axes.

rstd = (variance + epsilon)^(-1/2). Written for the n numbers that are normalised together, the
Jacobian is a symmetric matrix,

    dy/dx = rstd * (I - (1/n) 1 1' - (1/n) y y')

so one linear rule, `_project`, is the tangent map and the gradient of every normalisation; which
one it is (batch, layer, instance, group) is a matter of the axes. Here the batch norm of x N ... C,
over all axes but the last.

The variance is that of the n numbers themselves (biased) and is taken in two passes, corrected.
Statistics and y are kept in float32 or wider, whatever the dtype of x.

References: Ioffe & Szegedy 2015, arXiv:1502.03167; Wu & He 2018, arXiv:1803.08494.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.interpreters import ad

from jconv.core import Operation, one_body
from jconv.ops.dtypes import at_least_float32


def batch_norm(
    x: jax.Array,
    scale: jax.Array | None = None,
    bias: jax.Array | None = None,
    *,
    epsilon: float = 1e-5,
    axis_name: str | tuple[str, ...] | None = None,
    mask: jax.Array | None = None,
    implementation: str | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Normalises each channel of x (N, ..., C) over all other axes: (y, mean, variance).

    Args:
      scale, bias: (C,), applied to the normalised x; None leaves it out.
      epsilon: added to the variance.
      axis_name: statistics are those of the examples on all devices along the named axes, however
        many each holds.
      mask: booleans that broadcast to x: only pixels where it is true count in the statistics; all
        are normalised. At least one must, or the statistics are 0.
      implementation: None takes the table's choice (see `jconv.explain_choice`); a name runs that
        one or raises. With `axis_name` or `mask` there is only the definition.

    Returns:
      y of x's shape and dtype, and the mean and the biased variance, (C,), float32 or wider.

    Raises:
      ValueError: shapes or dtypes that don't fit each other, or a negative epsilon.
      NotImplementedError: the implementation that was asked for can't compute this call.
    """
    x, scale, bias = jnp.asarray(x), _array(scale), _array(bias)
    _check("batch_norm", x, epsilon, scale=scale, bias=bias)
    axes = tuple(range(x.ndim - 1))
    if axis_name is None and mask is None:
        y, mean, variance = standardize(
            x, axes=axes, epsilon=float(epsilon), implementation=implementation
        )
    else:
        if implementation not in (None, "direct"):
            raise NotImplementedError(
                f"batch_norm: implementation {implementation!r} can't compute this call: neither "
                f"axis_name nor mask; got axis_name={axis_name!r}, "
                f"mask={None if mask is None else jnp.shape(mask)}"
            )
        y, mean, variance = _standardize_across(
            x, _mask_of(mask, x), axes, float(epsilon), axis_name
        )
    return _affine(y, scale, bias).astype(x.dtype), mean.reshape(-1), variance.reshape(-1)


def normalize(
    x: jax.Array,
    mean: jax.Array,
    variance: jax.Array,
    scale: jax.Array | None = None,
    bias: jax.Array | None = None,
    *,
    epsilon: float = 1e-5,
) -> jax.Array:
    """x (..., C) normalised by given statistics (C,), as batch norm does at inference.

    y = (x - mean) / sqrt(variance + epsilon) * scale + bias, of x's dtype.

    Raises:
      ValueError: shapes or dtypes that don't fit each other, or a negative epsilon.
    """
    x, scale, bias = jnp.asarray(x), _array(scale), _array(bias)
    mean, variance = jnp.asarray(mean), jnp.asarray(variance)
    _check("normalize", x, epsilon, mean=mean, variance=variance, scale=scale, bias=bias)
    wide = at_least_float32(x.dtype)
    rstd = lax.rsqrt(variance.astype(wide) + epsilon)
    factor = rstd if scale is None else rstd * scale.astype(wide)
    return _affine((x.astype(wide) - mean.astype(wide)) * factor, None, bias).astype(x.dtype)


def running_average(old: jax.Array, new: jax.Array, momentum: float) -> jax.Array:
    """momentum * old + (1 - momentum) * new, in the dtype of `old` and without a gradient."""
    return lax.stop_gradient(momentum * old + (1 - momentum) * new.astype(old.dtype))


# The mathematics, for any mean


def _standardize(x, mean_of, epsilon):
    """Two passes, corrected for the rounding of the mean (Chan, Golub & LeVeque 1983)."""
    x = x.astype(at_least_float32(x.dtype))
    mean = mean_of(x)
    centred = x - mean
    rest = mean_of(centred)
    variance = jnp.maximum(mean_of(lax.square(centred)) - lax.square(rest), 0)
    return (centred - rest) * lax.rsqrt(variance + epsilon), mean + rest, variance


def _project(t, y, rstd, mean_of):
    """rstd * (I - (1/n) 1 1' - (1/n) y y') t."""
    return rstd * (t - mean_of(t) - y * mean_of(y * t))


def _tangents(t, y, rstd, mean_of):
    """Tangents of the mean and of the variance, mean((x - mean)^2)."""
    return mean_of(t), 2 * mean_of(y * t) / rstd


# One device, or automatic sharding: two primitives


def _mean_over(axes):
    return functools.partial(jnp.mean, axis=axes, keepdims=True)


def _standardize_xla(x, *, axes, epsilon):
    return _standardize(x, _mean_over(axes), epsilon)


def _project_xla(t, y, rstd, *, axes):
    return _project(t, y, rstd, _mean_over(axes))


def _fold(op, size, args, mapped, *, axes, **static):
    args = [
        a if m else jnp.broadcast_to(a, (size, *a.shape)) for a, m in zip(args, mapped, strict=True)
    ]
    return op(*args, axes=tuple(axis + 1 for axis in axes), **static)


standardize = Operation(
    "standardize",
    one_body(_standardize_xla),
    multiple_results=True,
    fold=lambda *a, **k: _fold(standardize, *a, **k),
)
project = Operation(
    "standardize_grad", one_body(_project_xla), fold=lambda *a, **k: _fold(project, *a, **k)
)


def _standardize_jvp(primals, tangents, *, axes, epsilon, implementation):
    (x,), (dx,) = primals, tangents
    y, mean, variance = standardize(x, axes=axes, epsilon=epsilon, implementation=implementation)
    t, rstd = ad.instantiate_zeros(dx).astype(y.dtype), lax.rsqrt(variance + epsilon)
    dy = project(t, y, rstd, axes=axes, implementation=project.offers(implementation))
    return (y, mean, variance), (dy, *_tangents(t, y, rstd, _mean_over(axes)))


def _project_jvp(primals, tangents, *, axes, implementation):
    """Linear in t; in y and rstd, which matter from the second derivative on, as it is written."""
    t, y, rstd = primals
    dt, *rest = tangents
    out = project(t, y, rstd, axes=axes, implementation=implementation)
    terms = []
    if not isinstance(dt, ad.Zero):
        terms.append(project(dt, y, rstd, axes=axes, implementation=implementation))
    if not all(isinstance(d, ad.Zero) for d in rest):
        body = functools.partial(_project_xla, t, axes=axes)
        terms.append(jax.jvp(body, (y, rstd), tuple(map(ad.instantiate_zeros, rest)))[1])
    return out, functools.reduce(ad.add_tangents, terms)


def _project_transpose(cotangent, t, y, rstd, *, axes, implementation):
    return [project(cotangent, y, rstd, axes=axes, implementation=implementation), None, None]


ad.primitive_jvps[standardize.primitive] = _standardize_jvp
ad.deflinear2(project.primitive, _project_transpose)
ad.primitive_jvps[project.primitive] = _project_jvp

# Across named axes, or where a mask says which pixels count: the same rule with another mean


def _weighted_mean(mask, axes, axis_name):
    count = _total(mask, axes, axis_name)

    def mean_of(t):
        return _total(t * mask, axes, axis_name) / jnp.maximum(count, 1).astype(t.dtype)

    return mean_of


def _total(t, axes, axis_name):
    total = jnp.sum(t, axes, keepdims=True)
    return total if axis_name is None else lax.psum(total, axis_name)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3, 4))
def _standardize_across(x, mask, axes, epsilon, axis_name):
    return _standardize(x, _weighted_mean(mask, axes, axis_name), epsilon)


@_standardize_across.defjvp
def _standardize_across_jvp(axes, epsilon, axis_name, primals, tangents):
    (x, mask), (dx, _) = primals, tangents
    y, mean, variance = _standardize_across(x, mask, axes, epsilon, axis_name)
    t, rstd, mean_of = (
        dx.astype(y.dtype),
        lax.rsqrt(variance + epsilon),
        _weighted_mean(mask, axes, axis_name),
    )
    return (y, mean, variance), (_project(t, y, rstd, mean_of), *_tangents(t, y, rstd, mean_of))


def _mask_of(mask, x):
    """The mask as numbers of x's shape: 1 where a pixel counts."""
    mask = np.ones((), bool) if mask is None else jnp.asarray(mask)
    if mask.dtype != bool:
        raise ValueError(
            f"batch_norm: mask must be booleans; got mask {mask.shape} of {mask.dtype}"
        )
    try:
        return jnp.broadcast_to(mask, x.shape).astype(at_least_float32(x.dtype))
    except ValueError:
        raise ValueError(
            f"batch_norm: mask {mask.shape} does not broadcast to x {x.shape}, (N, ..., C)"
        ) from None


def _array(value):
    return None if value is None else jnp.asarray(value)


def _affine(y, scale, bias):
    y = y if scale is None else y * scale.astype(y.dtype)
    return y if bias is None else y + bias.astype(y.dtype)


def _check(op, x, epsilon, **per_channel):
    if x.ndim < 2 or not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(
            f"{op}: x must be floating point (N, ..., C); got x {x.shape} of {x.dtype}"
        )
    for name, value in per_channel.items():
        if value is not None and value.shape != x.shape[-1:]:
            raise ValueError(
                f"{op}: {name} must be (C,) = ({x.shape[-1]},); got {name} {value.shape}, x "
                f"{x.shape}"
            )
    if not epsilon >= 0:
        raise ValueError(f"{op}: epsilon must not be negative; got epsilon={epsilon}")
