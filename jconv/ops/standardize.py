"""Standardisation with an affine map, behind every norm: z = (x - mean) * rstd * scale + bias.

rstd = (variance + epsilon)^(-1/2). With y = (x - mean) * rstd, written for the n numbers that are
normalised together, the Jacobian of y is a symmetric matrix,

    dy/dx = J = rstd * (I - (1/n) 1 1' - (1/n) y y')

so the tangent map of the whole, and its transpose, which is the gradient, are

    standardize_tangent    (dx, dscale, dbias) -> (dz, dmean, dvariance)
        dz = scale * J dx + y * dscale + dbias
        dmean = (1/n) 1' dx                 dvariance = (2/n) (x - mean)' dx

    standardize_grad       (dz, dmean, dvariance) -> (dx, dscale, dbias)
        dx = J (scale * dz) + (1/n) dmean + (2/n) (x - mean) dvariance
        dscale = sum of y * dz              dbias = sum of dz, over what shares a scale

for batch, layer, instance and group norm alike; which one it is, is a matter of the axes. With
`bounds` z is held between two numbers, as ReLU does, and dz is 0 where it is held. Each is a
primitive, linear in its first three operands and the other's transpose. Beside x, scale and bias
both need the statistics alone: y and z are computed again where they are wanted, never stored (up
to the rounding of the mean, where it is far larger than the deviations). Without `centre` nothing
is subtracted: mean and dmean are 0, the variance is the mean square, and the term 1 1' drops out
(RMS and weight norm).

Shapes: x, z any; mean and variance as x, with size 1 along `axes`; scale and bias alike, of x's
rank, with size 1 where they repeat (no scale is the number 1, no bias the number 0).

The variance is that of the n numbers themselves (biased). Sums and statistics are float32 or wider,
whatever the dtype of x, which is that of z. Where epsilon is 0 and all n numbers are equal (or 0,
without `centre`), z is NaN.

References: Ioffe & Szegedy 2015, arXiv:1502.03167; Wu & He 2018, arXiv:1803.08494; Chan, Golub &
LeVeque 1983 for the variance.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.interpreters import ad

from jconv.algorithms.moments import moments, two_passes
from jconv.core import (
    Implementation,
    Operation,
    Parts,
    explicit_sharding,
    one_body,
    onednn,
    triton,
)
from jconv.ops import standardize_grad as gradient
from jconv.ops.dtypes import at_least_float32
from jconv.ops.norm_arguments import Activation, activated, affine, bounds_of
from jconv.ops.standardize_across import AxisName, standardize_across


def standardized(
    op: str,
    x: jax.Array,
    axes: tuple[int, ...],
    epsilon: float,
    *,
    scale: jax.Array | None = None,
    bias: jax.Array | None = None,
    centre: bool = True,
    activation: Activation | None = None,
    mask: jax.Array | None = None,
    axis_name: AxisName = None,
    implementation: str | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(z, mean, variance) of x over `axes`, which the statistics keep with size 1.

    z has x's dtype, the statistics are float32 or wider.

    Args:
      op: the operation that asks, for the error messages.
      scale, bias: broadcast to x.
      activation: of z.
      mask: from `mask_of`: only where it is true do numbers count in the statistics.
      axis_name: statistics are those of all devices along the named axes.

    Raises:
      ValueError: another activation.
      NotImplementedError: an implementation by name with `axis_name` or `mask`.
    """
    bounds = bounds_of(op, activation)
    if axis_name is None and mask is None:
        return standardize(
            x, *_parameters(x, scale, bias), axes=axes, epsilon=float(epsilon), centre=centre,
            bounds=bounds, implementation=implementation,
        )  # fmt: skip
    if implementation not in (None, "direct"):
        raise NotImplementedError(
            f"{op}: implementation {implementation!r} can't compute this call: neither axis_name "
            f"nor mask; got axis_name={axis_name!r}, {'no' if mask is None else 'a'} mask"
        )
    y, mean, variance = standardize_across(x, mask, axes, float(epsilon), centre, axis_name)
    return activated(affine(y, scale, bias).astype(x.dtype), activation), mean, variance


def _parameters(x, scale, bias):
    """scale and bias of one shape and of x's rank, float32 or wider."""
    dtype = at_least_float32(x.dtype)
    scale = jnp.ones((), dtype) if scale is None else scale.astype(dtype)
    bias = jnp.zeros((), dtype) if bias is None else bias.astype(dtype)
    shape = jnp.broadcast_shapes((1,) * x.ndim, scale.shape, bias.shape)
    return jnp.broadcast_to(scale, shape), jnp.broadcast_to(bias, shape)


# The bodies on XLA


def _standardize_xla(x, scale, bias, *, axes, epsilon, centre, bounds):
    """Two passes, corrected for the rounding of the mean."""
    if not centre:
        return _standardize_about_zero(x, scale, bias, axes, epsilon, bounds)
    mean_of = functools.partial(jnp.mean, axis=axes, keepdims=True)
    return _map(x, scale, bias, *two_passes(x.astype(scale.dtype), mean_of), epsilon, bounds)


def _standardize_one_pass(x, scale, bias, *, axes, epsilon, centre, bounds):
    if not centre:
        return _standardize_about_zero(x, scale, bias, axes, epsilon, bounds)
    return _map(x, scale, bias, *moments(x.astype(scale.dtype), axes), epsilon, bounds)


def _standardize_about_zero(x, scale, bias, axes, epsilon, bounds):
    square = jnp.mean(lax.square(x.astype(scale.dtype)), axes, keepdims=True)
    zero = jnp.zeros_like(square)
    return _map(x, scale, bias, zero, zero, square, epsilon, bounds)


def _map(x, scale, bias, mean, rest, variance, epsilon, bounds):
    centred = (x.astype(scale.dtype) - mean) - rest
    z = centred * (lax.rsqrt(variance + epsilon) * scale) + bias
    z = z if bounds is None else jnp.clip(z, *bounds)
    return z.astype(x.dtype), mean, variance


def _tangent_xla(
    dx, dscale, dbias, x, scale, bias, mean, variance, *, axes, epsilon, centre, bounds
):
    t, centred = dx.astype(scale.dtype), x.astype(scale.dtype) - mean
    rstd = lax.rsqrt(variance + epsilon)
    dmean = jnp.mean(t, axes, keepdims=True) if centre else jnp.zeros_like(mean)
    product, y = jnp.mean(centred * t, axes, keepdims=True), centred * rstd
    dz = scale * rstd * (t - dmean - y * (rstd * product)) + y * dscale + dbias
    dz = gradient.passed(dz, centred, rstd * scale, bias, bounds)
    return dz.astype(x.dtype), dmean, 2 * product


# vmap: what is mapped is one axis more


def _fold(operation, size, args, mapped, *, axes, **static):
    if operation is standardize and mapped == [True, False, False]:
        args = [args[0], *(a[None] for a in args[1:])]  # one scale for all
    else:
        args = [
            a if m else jnp.broadcast_to(a, (size, *a.shape))
            for a, m in zip(args, mapped, strict=True)
        ]
    return operation(*args, axes=tuple(axis + 1 for axis in axes), **static)


def _parts(of, operands, results):
    """Along which axes a call falls into parts: the first, over which a kernel adds up what is
    normalised along it, and the last that is not normalised and has a scale of its own.

    Args:
      of: which operand is x; the scale follows.
      operands, results: "x", "row" (the statistics) or "scale" each.
    """

    def parts(*avals, axes, **static):
        x, scale = avals[of : of + 2]
        own = [n == scale.shape[axis] for axis, n in enumerate(x.shape)]
        names: list[str | None] = [None] * x.ndim
        last = max((axis for axis in range(1, x.ndim) if axis not in axes), default=0)
        if last and own[last]:
            names[last] = "c"
        if 0 not in axes or not own[0]:  # numbers of one scale each aren't added up over examples
            names[0] = "n"
        axes_of = {
            "x": tuple(names),
            "row": tuple(None if axis in axes else name for axis, name in enumerate(names)),
            "scale": tuple(name if own[axis] else None for axis, name in enumerate(names)),
        }
        return Parts(*(tuple(axes_of[kind] for kind in side) for side in (operands, results)))

    return parts


def _operation(name, body, parts, *better):
    operation = Operation(
        name, one_body(body, onednn(name), triton(name, parts), *better), multiple_results=True,
        fold=lambda *a, **k: _fold(operation, *a, **k),
    )  # fmt: skip
    return operation


standardize = _operation(
    "standardize",
    _standardize_xla,
    _parts(0, ["x", "scale", "scale"], ["x", "row", "row"]),
    Implementation("one_pass", _standardize_one_pass, platforms=("cpu",)),
)
tangent = _operation(
    "standardize_tangent",
    _tangent_xla,
    _parts(3, ["x", "scale", "scale", "x", "scale", "scale", "row", "row"], ["x", "row", "row"]),
)
grad = _operation(
    "standardize_grad",
    gradient.direct,
    _parts(3, ["x", "row", "row", "x", "scale", "scale", "row", "row"], ["x", "scale", "scale"]),
    Implementation(
        "rows",
        gradient.rows,
        gradient.rows_unsupported,
        gradient.rows_slower,
        platforms=("cpu",),
        here_only=True,
    ),
)

# Derivatives


def _standardize_jvp(primals, tangents, *, implementation, **static):
    z, mean, variance = standardize(*primals, **static, implementation=implementation)
    moved = tangent(
        *map(ad.instantiate_zeros, tangents), *primals, mean, variance, **static,
        implementation=tangent.offers(implementation),
    )  # fmt: skip
    return (z, mean, variance), tuple(moved)


def _linear_in_three(operation, body, transpose):
    """Linear in three operands, where it has its transpose; in the others as it is written."""

    def jvp(primals, tangents, *, implementation, **static):
        run = functools.partial(operation, **static, implementation=implementation)
        results, moved = tuple(run(*primals)), []
        if _any(tangents[:3]):
            moved.append(run(*map(ad.instantiate_zeros, tangents[:3]), *primals[3:]))
        if _any(tangents[3:]):
            others = functools.partial(body, *primals[:3], **static)
            pushed = tuple(map(ad.instantiate_zeros, tangents[3:]))
            moved.append(jax.jvp(others, primals[3:], pushed)[1])
        return results, tuple(
            functools.reduce(ad.add_tangents, each) for each in zip(*moved, strict=True)
        )

    def back(cotangents, *operands, implementation, **static):
        given = map(ad.instantiate_zeros, cotangents)
        results = transpose(
            *given, *operands[3:], **static, implementation=transpose.offers(implementation)
        )
        wanted = zip(operands[:3], results, strict=True)
        return [_typed_as(o.aval, d) if ad.is_undefined_primal(o) else None for o, d in wanted] + [
            None for _ in operands[3:]
        ]

    ad.primitive_jvps[operation.primitive] = jvp
    ad.primitive_transposes[operation.primitive] = back


def _any(tangents):
    return not all(isinstance(d, ad.Zero) for d in tangents)


def _typed_as(aval, value):
    """A gradient laid out as what it belongs to, on a mesh with explicit axes."""
    like = explicit_sharding(aval)
    return value if like is None else jax.sharding.reshard(value, like)


ad.primitive_jvps[standardize.primitive] = _standardize_jvp
_linear_in_three(tangent, _tangent_xla, grad)
_linear_in_three(grad, gradient.direct, tangent)
