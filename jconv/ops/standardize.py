"""Standardisation: y = (x - mean) * rstd over some axes, and the linear rule behind every norm.

rstd = (variance + epsilon)^(-1/2). Written for the n numbers that are normalised together, the
Jacobian is a symmetric matrix,

    dy/dx = rstd * (I - (1/n) 1 1' - (1/n) y y')

so one linear rule, `_project`, is the tangent map and the gradient of every normalisation; which
one it is (batch, layer, instance, group) is a matter of the axes. Without `centre` nothing is
subtracted, the variance is the mean square, and the term 1 1' drops out (RMS and weight norm).

The variance is that of the n numbers themselves (biased) and is taken in two passes, corrected.
Statistics and y are kept in float32 or wider, whatever the dtype of x. Where epsilon is 0 and all n
numbers are equal (or 0, without `centre`), y is NaN.

References: Ioffe & Szegedy 2015, arXiv:1502.03167; Wu & He 2018, arXiv:1803.08494.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.interpreters import ad

from jconv.core import Operation, one_body, onednn
from jconv.ops.dtypes import MOST_INT32, at_least_float32
from jconv.window import entries, hashable, whole

type AxisName = str | tuple[str, ...] | None


def standardized(
    op: str,
    x: jax.Array,
    axes: tuple[int, ...],
    epsilon: float,
    *,
    centre: bool = True,
    mask: jax.Array | None = None,
    axis_name: AxisName = None,
    implementation: str | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(y, mean, variance) of x over `axes`, which are kept with size 1: float32 or wider.

    Args:
      op: the operation that asks, for the error messages.
      mask: from `mask_of`: only where it is true do numbers count in the statistics.
      axis_name: statistics are those of all devices along the named axes.

    Raises:
      NotImplementedError: an implementation by name with `axis_name` or `mask`.
    """
    if axis_name is None and mask is None:
        return standardize(
            x, axes=axes, epsilon=float(epsilon), centre=centre, implementation=implementation
        )
    if implementation not in (None, "direct"):
        raise NotImplementedError(
            f"{op}: implementation {implementation!r} can't compute this call: neither axis_name "
            f"nor mask; got axis_name={axis_name!r}, {'no' if mask is None else 'a'} mask"
        )
    return _standardize_across(x, mask, axes, float(epsilon), centre, axis_name)


def counted(
    x: jax.Array, axes: tuple[int, ...], mask: jax.Array | None, axis_name: AxisName
) -> Any:
    """How many numbers are normalised together, on all devices: one number, or one per statistic.

    Counted as integers: float32 can't count beyond 2**24.
    """
    if mask is None:
        count = math.prod(x.shape[axis] for axis in axes)
        return count if axis_name is None else count * lax.psum(1, axis_name)
    return _total(mask.astype(jnp.int32), axes, axis_name)


# The mathematics, for any mean


def _standardize(x, mean_of, epsilon, centre):
    """Two passes, corrected for the rounding of the mean (Chan, Golub & LeVeque 1983)."""
    x = x.astype(at_least_float32(x.dtype))
    if not centre:
        square = mean_of(lax.square(x))
        return x * lax.rsqrt(square + epsilon), jnp.zeros_like(square), square
    mean = mean_of(x)
    centred = x - mean
    rest = mean_of(centred)
    variance = jnp.maximum(mean_of(lax.square(centred)) - lax.square(rest), 0)
    return (centred - rest) * lax.rsqrt(variance + epsilon), mean + rest, variance


def _project(t, y, rstd, mean_of, centre):
    """rstd * (I - (1/n) 1 1' - (1/n) y y') t."""
    return rstd * ((t - mean_of(t) if centre else t) - y * mean_of(y * t))


def _tangents(t, y, rstd, mean_of, centre):
    """Tangents of the mean and of the variance, mean((x - mean)^2)."""
    variance = 2 * mean_of(y * t) / rstd
    return mean_of(t) if centre else jnp.zeros_like(variance), variance


def _mean_over(axes, mask=None, axis_name=None):
    """The function that takes the mean over `axes` and named axes, of what counts."""
    if mask is None:

        def mean_of(t):
            mean = jnp.mean(t, axes, keepdims=True)
            return mean if axis_name is None else lax.pmean(mean, axis_name)

        return mean_of
    count = jnp.maximum(_total(mask.astype(jnp.int32), axes, axis_name), 1)

    def masked_mean_of(t):
        return _total(jnp.where(mask, t, 0), axes, axis_name) / count.astype(t.dtype)

    return masked_mean_of


def _total(t, axes, axis_name):
    total = jnp.sum(t, axes, keepdims=True, dtype=t.dtype)
    return total if axis_name is None else lax.psum(total, axis_name)


# One device, or automatic sharding: two primitives


def _standardize_xla(x, *, axes, epsilon, centre):
    return _standardize(x, _mean_over(axes), epsilon, centre)


def _project_xla(t, y, rstd, *, axes, centre):
    return _project(t, y, rstd, _mean_over(axes), centre)


def _fold(op, size, args, mapped, *, axes, **static):
    args = [
        a if m else jnp.broadcast_to(a, (size, *a.shape)) for a, m in zip(args, mapped, strict=True)
    ]
    return op(*args, axes=tuple(axis + 1 for axis in axes), **static)


standardize = Operation(
    "standardize",
    one_body(_standardize_xla, onednn("standardize")),
    multiple_results=True,
    fold=lambda *a, **k: _fold(standardize, *a, **k),
)
project = Operation(
    "standardize_grad",
    one_body(_project_xla, onednn("standardize_grad")),
    fold=lambda *a, **k: _fold(project, *a, **k),
)


def _standardize_jvp(primals, tangents, *, axes, epsilon, centre, implementation):
    (x,), (dx,) = primals, tangents
    y, mean, variance = standardize(
        x, axes=axes, epsilon=epsilon, centre=centre, implementation=implementation
    )
    t, rstd = ad.instantiate_zeros(dx).astype(y.dtype), lax.rsqrt(variance + epsilon)
    dy = project(
        t, y, rstd, axes=axes, centre=centre, implementation=project.offers(implementation)
    )
    return (y, mean, variance), (dy, *_tangents(t, y, rstd, _mean_over(axes), centre))


def _project_jvp(primals, tangents, *, axes, centre, implementation):
    """Linear in t; in y and rstd, which matter from the second derivative on, as it is written."""
    t, y, rstd = primals
    dt, *rest = tangents
    static = {"axes": axes, "centre": centre}
    out = project(t, y, rstd, **static, implementation=implementation)
    terms = []
    if not isinstance(dt, ad.Zero):
        terms.append(project(dt, y, rstd, **static, implementation=implementation))
    if not all(isinstance(d, ad.Zero) for d in rest):
        body = functools.partial(_project_xla, t, **static)
        terms.append(jax.jvp(body, (y, rstd), tuple(map(ad.instantiate_zeros, rest)))[1])
    return out, functools.reduce(ad.add_tangents, terms)


def _project_transpose(cotangent, t, y, rstd, **static):
    return [project(cotangent, y, rstd, **static), None, None]


ad.primitive_jvps[standardize.primitive] = _standardize_jvp
ad.deflinear2(project.primitive, _project_transpose)
ad.primitive_jvps[project.primitive] = _project_jvp

# Across named axes, or where a mask says what counts: the same rule with another mean


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3, 4, 5))
def _standardize_across(x, mask, axes, epsilon, centre, axis_name):
    return _standardize(x, _mean_over(axes, mask, axis_name), epsilon, centre)


@_standardize_across.defjvp
def _standardize_across_jvp(axes, epsilon, centre, axis_name, primals, tangents):
    (x, mask), (dx, _) = primals, tangents
    y, mean, variance = _standardize_across(x, mask, axes, epsilon, centre, axis_name)
    t, rstd = dx.astype(y.dtype), lax.rsqrt(variance + epsilon)
    mean_of = _mean_over(axes, mask, axis_name)
    dy = _project(t, y, rstd, mean_of, centre)
    return (y, mean, variance), (dy, *_tangents(t, y, rstd, mean_of, centre))


# What the norms share: arguments, and the affine map after


def arrays_of(
    op: str, x: Any, epsilon: float, *parameters: Any, name: str = "x"
) -> tuple[Any, ...]:
    """x, which the caller calls `name`, and the parameters as arrays; None stays None.

    Raises:
      ValueError: x is not floating point, or of the float8 that has neither 0 nor negative
        numbers; epsilon is no number, or negative.
    """
    x = jnp.asarray(x)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"{op}: {name} must be floating point; got {name} {x.shape} of {x.dtype}")
    if x.dtype == jnp.float8_e8m0fnu:
        raise ValueError(
            f"{op}: {name} must be of a dtype that has 0 and negative numbers; got {name} "
            f"{x.shape} of {x.dtype}"
        )
    if not isinstance(hashable(epsilon), int | float):
        raise ValueError(f"{op}: epsilon must be one real number; got epsilon={epsilon!r}")
    if not epsilon >= 0:
        raise ValueError(f"{op}: epsilon must not be negative; got epsilon={epsilon}")
    return x, *(None if value is None else jnp.asarray(value) for value in parameters)


def check_per_channel(op: str, x: jax.Array, least: int, **parameters: jax.Array | None) -> None:
    """Refuses an x of less than `least` axes, and parameters that are not (C,)."""
    if x.ndim < least:
        raise ValueError(
            f"{op}: x must be (N, {'*spatial' if least > 2 else '...'}, C) with at least {least} "
            f"axes; got x {x.shape}"
        )
    for name, value in parameters.items():
        if value is not None and value.shape != x.shape[-1:]:
            raise ValueError(
                f"{op}: {name} must be (C,) = ({x.shape[-1]},); got {name} {value.shape}, x "
                f"{x.shape}"
            )


def axes_of(
    op: str, axes: int | Sequence[int], x: jax.Array, *, name: str = "axes", of: str = "x"
) -> tuple[int, ...]:
    """`axes` of x as distinct numbers from 0, in order.

    Args:
      name, of: what the caller calls the axes and the array, for the error messages.

    Raises:
      ValueError: an axis is no int, is out of range or is named twice.
    """
    many = entries(axes)
    named: list[Any] = [axes] if many is None else list(many)
    numbers = [whole(axis, name, op, least=-x.ndim) for axis in named]
    distinct = tuple(sorted({axis % x.ndim for axis in numbers if axis < x.ndim}))
    if len(distinct) != len(numbers):
        raise ValueError(
            f"{op}: {name} must be different axes of {of}, from {-x.ndim} to {x.ndim - 1}; got "
            f"{name}={axes}, {of} {x.shape}"
        )
    return distinct


def mask_of(op: str, mask: Any, x: jax.Array) -> jax.Array | None:
    """The mask with x's shape: true where a number counts.

    Raises:
      ValueError: the mask is not of booleans or does not broadcast to x.
    """
    if mask is None:
        return None
    mask = jnp.asarray(mask)
    if mask.dtype != bool:
        raise ValueError(f"{op}: mask must be booleans; got mask {mask.shape} of {mask.dtype}")
    if not broadcasts(mask.shape, x.shape):
        raise ValueError(f"{op}: mask {mask.shape} does not broadcast to x {x.shape}")
    if all(isinstance(n, int) for n in x.shape) and math.prod(x.shape) > MOST_INT32:
        raise ValueError(
            f"{op}: an x with a mask must have fewer than 2**31 numbers, which are counted in "
            f"int32; got x {x.shape}"
        )
    return jnp.broadcast_to(mask, x.shape)


def broadcasts(shape: Sequence[Any], to: Sequence[Any]) -> bool:
    """Whether an array of `shape` broadcasts to the shape `to`, symbolic or not."""
    ends = zip(reversed(shape), reversed(to), strict=False)
    return len(shape) <= len(to) and all(a == 1 or a == b for a, b in ends)


def affine(y: jax.Array, scale: jax.Array | None, bias: jax.Array | None) -> jax.Array:
    """y * scale + bias, of y's dtype; None leaves one out."""
    y = y if scale is None else y * beside(scale, y)
    return y if bias is None else y + beside(bias, y)


def beside(value: jax.Array, y: jax.Array) -> jax.Array:
    """`value`, which has y's last axes, with y's rank and dtype."""
    return value.astype(y.dtype).reshape((1,) * (y.ndim - value.ndim) + value.shape)
