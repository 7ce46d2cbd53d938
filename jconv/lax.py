"""jax.lax's convolution functions, computed by jconv: a drop-in, `from jconv import lax`.

Names, arguments, dimension numbers, dtypes, results and errors are those of jax.lax, because it is
jax.lax that reads the arguments: its function of the same name is traced, and of the traced
equations the convolution is replaced by jconv's, on channels-last arrays:

    image    lhs_spec = (batch, feature, *spatial)    x  N *spatial C
    filter   rhs_spec = (out, in, *spatial)           w  *window C/G K
    result   out_spec = (batch, feature, *spatial)    y  N *output K

No convolution of jax.lax's is left in a jaxpr, and every derivative is that of
`jconv.ops.conv_triangle`. Code that lets its convolution be chosen takes jconv's in this way:

    flax.nnx.Conv(3, 8, (3, 3), conv_general_dilated=jconv.lax.conv_general_dilated, rngs=rngs)
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Literal
from jax.extend.core.primitives import conv_general_dilated_p
from jax.lax import ConvDimensionNumbers as ConvDimensionNumbers
from jax.lax import conv_dimension_numbers as conv_dimension_numbers
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jconv.ops.conv_triangle import forward
from jconv.window import Window


def _computed_here[**Args](function: Callable[Args, jax.Array]) -> Callable[Args, jax.Array]:
    """`function` of jax.lax, with its convolution computed by jconv."""
    signature, call = inspect.signature(function), cast(Callable[..., jax.Array], function)

    @functools.wraps(function)
    def computed(*args: Args.args, **kwargs: Args.kwargs) -> jax.Array:
        given = signature.bind(*args, **kwargs).arguments
        operands = {k: jnp.asarray(v) for k, v in given.items() if _is_operand(k, v)}
        jaxpr = jax.make_jaxpr(lambda operands: call(**{**given, **operands}))(operands)
        (y,) = _evaluate(jaxpr, jax.tree.leaves(operands))
        return y

    return computed


def _is_operand(name: str, value: Any) -> bool:
    """What has no shape jax.lax itself refuses or converts."""
    return name in ("lhs", "rhs") and hasattr(value, "shape")


def _evaluate(closed: Any, operands: Sequence[jax.Array]) -> list[Any]:
    """The results of a jaxpr, its convolutions computed by jconv."""
    jaxpr = closed.jaxpr
    known = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*closed.consts, *operands), strict=True))

    def value(atom):
        return atom.val if isinstance(atom, Literal) else known[atom]

    for eqn in jaxpr.eqns:
        inputs = map(value, eqn.invars)
        if eqn.primitive is conv_general_dilated_p:
            results = [_conv(*inputs, result=eqn.outvars[0].aval, **eqn.params)]
        else:
            results = eqn.primitive.bind(*inputs, **eqn.params)
            results = results if eqn.primitive.multiple_results else [results]
        known.update(zip(eqn.outvars, results, strict=True))
    return [value(atom) for atom in jaxpr.outvars]


def _conv(
    lhs,
    rhs,
    *,
    result,
    window_strides,
    padding,
    lhs_dilation,
    rhs_dilation,
    dimension_numbers,
    feature_group_count,
    batch_group_count,
    precision,
    **types,
):
    """One equation of jax.lax's; `result` is its type, and `types` what that was derived from."""
    image, filter, out = dimension_numbers
    _check(window_strides, lhs_dilation, rhs_dilation, dimension_numbers, lhs.ndim)
    x = lax.transpose(lhs, _channels_last(image))
    w = lax.transpose(rhs, (*filter[2:], filter[1], filter[0]))
    window = Window(
        x.shape[1:-1], w.shape[:-2], stride=_ints(window_strides), dilation=_ints(rhs_dilation),
        pads=padding, input_dilation=_ints(lhs_dilation),
        groups=int(feature_group_count * batch_group_count),
    )  # fmt: skip
    y = forward(
        _batch_groups_as_channels(x, int(batch_group_count)), w, window=window, dtype=result.dtype,
        precision=precision, out_sharding=_channels_last_sharding(result, out),
    )  # fmt: skip
    return lax.transpose(y, [_channels_last(out).index(axis) for axis in range(y.ndim)])


def _channels_last(spec: Sequence[int]) -> tuple[int, ...]:
    return (spec[0], *spec[2:], spec[1])


def _ints(values: Sequence[Any]) -> tuple[int, ...]:
    """jax.lax takes True, and NumPy's integers."""
    return tuple(map(int, values))


def _batch_groups_as_channels(x: jax.Array, groups: int) -> jax.Array:
    """G*N *spatial C -> N *spatial G*C: each part of the batch meets filters of its own.

    At most one kind of group can be more than 1.
    """
    if groups == 1:
        return x
    x = jnp.moveaxis(x.reshape(groups, x.shape[0] // groups, *x.shape[1:]), 0, -2)
    return x.reshape(*x.shape[:-2], x.shape[-2] * x.shape[-1])


def _channels_last_sharding(result: Any, spec: Sequence[int]) -> NamedSharding | None:
    """The sharding of y on a mesh with explicit axes, where it is part of the type."""
    sharding = result.sharding
    if AxisType.Explicit not in sharding.mesh.axis_types:
        return None
    axes = PartitionSpec(*(sharding.spec[axis] for axis in _channels_last(spec)))
    return NamedSharding(sharding.mesh, axes)


def _check(strides, input_dilation, dilation, dimension_numbers, ndim):
    """What jax.lax lets pass and XLA then refuses, with jax.lax's type of error."""
    for name, values in (
        ("window_strides", strides), ("lhs_dilation", input_dilation), ("rhs_dilation", dilation),
    ):  # fmt: skip
        if len(values) != ndim - 2 or min(values, default=1) < 1:
            raise ValueError(
                f"conv_general_dilated: {name} must be one positive int for each of {ndim - 2} "
                f"spatial axes; got {tuple(values)}"
            )
    for name, spec in zip(("lhs_spec", "rhs_spec", "out_spec"), dimension_numbers, strict=True):
        if sorted(spec) != list(range(ndim)):
            raise ValueError(
                f"conv_general_dilated: {name} must name each of {ndim} axes once; got {spec}"
            )


conv = _computed_here(lax.conv)
conv_with_general_padding = _computed_here(lax.conv_with_general_padding)
conv_general_dilated = _computed_here(lax.conv_general_dilated)
conv_general_dilated_local = _computed_here(lax.conv_general_dilated_local)
conv_general_dilated_patches = _computed_here(lax.conv_general_dilated_patches)
conv_transpose = _computed_here(lax.conv_transpose)
