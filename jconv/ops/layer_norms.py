"""Normalisation of each example by its own statistics: layer, instance, group and RMS norm.

    y = (x - mean) * (variance + epsilon)^(-1/2) * scale + bias

over axes of one example of x (N, *spatial, C):

    layer norm     the axes that are given, by default the channels
    instance norm  the spatial axes, each channel by itself
    group norm     the spatial axes and the channels of a group
    RMS norm       as layer norm, with nothing subtracted: the mean square in the variance's place

One mathematics, `jconv.ops.standardize`: statistics and sums in float32 or wider, one linear rule
for the derivatives of any order. y has the dtype of x.

References: Ba, Kiros & Hinton 2016, arXiv:1607.06450; Ulyanov, Vedaldi & Lempitsky 2016,
arXiv:1607.08022; Wu & He 2018, arXiv:1803.08494; Zhang & Sennrich 2019, arXiv:1910.07467.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax

from jconv.ops.mask import broadcasts, mask_of
from jconv.ops.norm_arguments import (
    Activation,
    arrays_of,
    axes_of,
    check_per_channel,
)
from jconv.ops.standardize import standardized
from jconv.ops.standardize_across import AxisName
from jconv.window import whole


def layer_norm(
    x: jax.Array,
    scale: jax.Array | None = None,
    bias: jax.Array | None = None,
    *,
    axes: int | Sequence[int] = -1,
    epsilon: float = 1e-5,
    activation: Activation | None = None,
    axis_name: AxisName = None,
    mask: jax.Array | None = None,
    implementation: str | None = None,
) -> jax.Array:
    """x normalised over `axes`, of x's shape and dtype.

    Args:
      scale, bias: broadcast to x, such as (C,), or the shape of the last axes; None leaves it out.
      activation, axis_name, mask, implementation: as in `jconv.batch_norm`; `axis_name` is for an
        x whose `axes` are spread over devices.

    Raises:
      ValueError: shapes, axes or dtypes that don't fit each other, a negative epsilon, or another
        activation.
      NotImplementedError: the implementation that was asked for can't compute this call.
    """
    return _over_axes(
        "layer_norm", x, scale, bias, axes, epsilon, mask, True,
        activation=activation, axis_name=axis_name, implementation=implementation,
    )  # fmt: skip


def rms_norm(
    x: jax.Array,
    scale: jax.Array | None = None,
    *,
    axes: int | Sequence[int] = -1,
    epsilon: float = 1e-6,
    axis_name: AxisName = None,
    mask: jax.Array | None = None,
    implementation: str | None = None,
) -> jax.Array:
    """x / sqrt(mean of x^2 over `axes` + epsilon) * scale, of x's shape and dtype.

    Args and errors are those of `layer_norm`.
    """
    return _over_axes(
        "rms_norm", x, scale, None, axes, epsilon, mask, False,
        axis_name=axis_name, implementation=implementation,
    )  # fmt: skip


def instance_norm(
    x: jax.Array,
    scale: jax.Array | None = None,
    bias: jax.Array | None = None,
    *,
    epsilon: float = 1e-5,
    activation: Activation | None = None,
    axis_name: AxisName = None,
    mask: jax.Array | None = None,
    implementation: str | None = None,
) -> jax.Array:
    """Each channel of each example of x (N, *spatial, C) normalised over its pixels.

    Args:
      scale, bias: (C,); None leaves it out.
      activation, axis_name, mask, implementation: as in `jconv.batch_norm`; `axis_name` is for
        images whose pixels are spread over devices.

    Raises:
      ValueError: shapes or dtypes that don't fit each other, a negative epsilon, or another
        activation.
      NotImplementedError: the implementation that was asked for can't compute this call.
    """
    x, scale, bias = arrays_of("instance_norm", x, epsilon, scale, bias)
    check_per_channel("instance_norm", x, 3, scale=scale, bias=bias)
    y, _, _ = standardized(
        "instance_norm", x, tuple(range(1, x.ndim - 1)), epsilon, scale=scale, bias=bias,
        activation=activation, axis_name=axis_name, mask=mask_of("instance_norm", mask, x.shape),
        implementation=implementation,
    )  # fmt: skip
    return y


def group_norm(
    x: jax.Array,
    scale: jax.Array | None = None,
    bias: jax.Array | None = None,
    *,
    groups: int,
    axes: int | Sequence[int] | None = None,
    epsilon: float = 1e-5,
    activation: Activation | None = None,
    axis_name: AxisName = None,
    mask: jax.Array | None = None,
    implementation: str | None = None,
) -> jax.Array:
    """x (N, ..., C) normalised over C / groups consecutive channels and the axes between.

    Args:
      scale, bias: (C,); None leaves it out.
      axes: the axes that are normalised over beside the channels of a group; None takes all but the
        first.
      activation, axis_name, mask, implementation: as in `instance_norm`.

    Raises:
      ValueError: groups that don't divide C; shapes, axes or dtypes that don't fit each other; a
        negative epsilon; another activation.
      NotImplementedError: the implementation that was asked for can't compute this call.
    """
    x, scale, bias = arrays_of("group_norm", x, epsilon, scale, bias)
    check_per_channel("group_norm", x, 2, scale=scale, bias=bias)
    last, groups = x.ndim - 1, whole(groups, "groups", "group_norm")
    if x.shape[-1] % groups:
        raise ValueError(
            f"group_norm: C={x.shape[-1]} channels don't divide into groups={groups}; got x "
            f"{x.shape}"
        )
    shared = range(1, last) if axes is None else axes_of("group_norm", axes, x)
    if last in shared:
        raise ValueError(
            "group_norm: axes must not name the channels, which are normalised by groups; got "
            f"axes={axes}, x {x.shape}"
        )
    mask = mask_of("group_norm", mask, x.shape)
    split = (groups, x.shape[-1] // groups)
    scale, bias, mask = (
        a if a is None else a.reshape(*a.shape[:-1], *split) for a in (scale, bias, mask)
    )
    y, _, _ = standardized(
        "group_norm", x.reshape(*x.shape[:-1], *split), (*shared, last + 1), epsilon, scale=scale,
        bias=bias, activation=activation, mask=mask, axis_name=axis_name,
        implementation=implementation,
    )  # fmt: skip
    return y.reshape(x.shape)


def _over_axes(op, x, scale, bias, axes, epsilon, mask, centre, **options):
    x, scale, bias = arrays_of(op, x, epsilon, scale, bias)
    for name, value in (("scale", scale), ("bias", bias)):
        if value is not None and not broadcasts(value.shape, x.shape):
            raise ValueError(f"{op}: {name} {value.shape} does not broadcast to x {x.shape}")
    axes, mask = axes_of(op, axes, x), mask_of(op, mask, x.shape)
    if not axes:
        raise ValueError(f"{op}: axes must name one axis or more; got axes=()")
    y, _, _ = standardized(
        op, x, axes, epsilon, scale=scale, bias=bias, centre=centre, mask=mask, **options
    )
    return y
