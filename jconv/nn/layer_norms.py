"""Norms of each example by itself as layers: parameters, and one call to `jconv.ops.layer_norms`.

Constructor arguments, parameter names and shapes are those of `flax.nnx`: scale and bias
(num_features,). `dtype`, `param_dtype`, `promote_dtype`, the initialisers and the metadata are
Flax's; `use_fast_variance` is accepted for Flax's sake and has no effect: the variance is always
taken in two passes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Unpack

import jax
from flax import nnx

from jconv.nn.arguments import passes_on, value_of
from jconv.nn.scaled_norm import Norm, NormOptions, ScaledNorm, ScaleOptions
from jconv.ops.layer_norms import group_norm, layer_norm, rms_norm
from jconv.window import hashable, whole

type Axes = int | Sequence[int]


class LayerNorm(Norm):
    """Layer normalisation of x over `reduction_axes`, by default its last axis.

    Args:
      num_features: the size of the feature axes together.
      reduction_axes: what is normalised over.
      feature_axes: the axes of x along which scale and bias lie.
      axis_name: mapped axis over whose devices the reduction axes are spread.

    Raises:
      ValueError: axis_index_groups, which is not supported; when called, an input whose feature
        axes don't hold num_features, or what `jconv.layer_norm` refuses.

    Reference: Ba, Kiros & Hinton 2016, arXiv:1607.06450.
    """

    @passes_on(Norm)
    def __init__(
        self,
        num_features: int,
        *,
        epsilon: float = 1e-6,
        reduction_axes: Axes = -1,
        feature_axes: Axes = -1,
        rngs: nnx.Rngs,
        **options: Unpack[NormOptions],
    ):
        super().__init__(num_features, epsilon, rngs, **options)
        self.reduction_axes = hashable(reduction_axes)
        self.feature_axes = hashable(feature_axes)

    def __call__(self, x: jax.Array, *, mask: jax.Array | None = None) -> jax.Array:
        """x normalised, of x's shape; `mask`, which broadcasts to x, says what counts."""
        x, scale, bias = _promoted(self, x, self.feature_axes)
        return layer_norm(
            x, scale, bias, axes=self.reduction_axes, epsilon=self.epsilon,
            activation=self.activation, axis_name=self.axis_name, mask=mask,
        )  # fmt: skip


class RMSNorm(ScaledNorm):
    """x over its root mean square along `reduction_axes`, by default its last axis.

    Arguments and errors are those of `LayerNorm`, without a bias.

    Reference: Zhang & Sennrich 2019, arXiv:1910.07467.
    """

    @passes_on(ScaledNorm)
    def __init__(
        self,
        num_features: int,
        *,
        epsilon: float = 1e-6,
        reduction_axes: Axes = -1,
        feature_axes: Axes = -1,
        rngs: nnx.Rngs,
        **options: Unpack[ScaleOptions],
    ):
        super().__init__(num_features, epsilon, rngs, **options)
        self.reduction_axes = hashable(reduction_axes)
        self.feature_axes = hashable(feature_axes)

    def __call__(self, x: jax.Array, mask: jax.Array | None = None) -> jax.Array:
        """x normalised, of x's shape; `mask`, which broadcasts to x, says what counts."""
        x, scale = _promoted(self, x, self.feature_axes)
        return rms_norm(
            x, scale, axes=self.reduction_axes, epsilon=self.epsilon, axis_name=self.axis_name,
            mask=mask,
        )  # fmt: skip


class GroupNorm(Norm):
    """Group normalisation of x (N, ..., num_features) over groups of channels and the axes between.

    Args:
      num_groups, group_size: how many groups, or how many channels each has; the other is None.
      reduction_axes: what is normalised over, the last axis among it; None takes all but the first.
        An axis that is left out keeps statistics of its own (`flax.nnx.GroupNorm` mixes them up).
      axis_name: mapped axis over whose devices the reduction axes are spread.

    Raises:
      ValueError: not one of num_groups and group_size, or one that does not divide num_features;
        axis_index_groups, which is not supported; when called, an input of other channels, or what
        `jconv.group_norm` refuses.

    Reference: Wu & He 2018, arXiv:1803.08494.
    """

    @passes_on(Norm)
    def __init__(
        self,
        num_features: int,
        num_groups: int | None = 32,
        group_size: int | None = None,
        *,
        epsilon: float = 1e-6,
        reduction_axes: Axes | None = None,
        rngs: nnx.Rngs,
        **options: Unpack[NormOptions],
    ):
        super().__init__(num_features, epsilon, rngs, **options)
        self.num_groups, self.group_size = _groups(num_features, num_groups, group_size)
        self.reduction_axes = hashable(reduction_axes)

    def __call__(self, x: jax.Array, *, mask: jax.Array | None = None) -> jax.Array:
        """x normalised, of x's shape; `mask`, which broadcasts to x, says what counts."""
        x, scale, bias = _promoted(self, x, -1)
        axes = self.reduction_axes
        if axes is not None:
            axes = _numbers(axes, x.ndim)
            if x.ndim - 1 not in axes:
                raise ValueError(
                    "GroupNorm: reduction_axes must hold the last axis, of the channels; got "
                    f"reduction_axes={self.reduction_axes}, x {x.shape}"
                )
            axes = [axis for axis in axes if axis != x.ndim - 1]
        return group_norm(
            x, scale, bias, groups=self.num_groups, axes=axes, epsilon=self.epsilon,
            activation=self.activation, axis_name=self.axis_name, mask=mask,
        )  # fmt: skip


class InstanceNorm(Norm):
    """Each channel of each example of x (N, *spatial, num_features) normalised over its pixels.

    Args:
      feature_axes: the axes of the channels, not the first, which is that of the examples.
      axis_name: mapped axis over whose devices the pixels are spread.

    Raises:
      ValueError: axis_index_groups, which is not supported; when called, an input without pixels or
        of other channels, or what `jconv.layer_norm` refuses.

    Reference: Ulyanov, Vedaldi & Lempitsky 2016, arXiv:1607.08022.
    """

    @passes_on(Norm)
    def __init__(
        self,
        num_features: int,
        *,
        epsilon: float = 1e-6,
        feature_axes: Axes = -1,
        rngs: nnx.Rngs,
        **options: Unpack[NormOptions],
    ):
        super().__init__(num_features, epsilon, rngs, **options)
        self.feature_axes = hashable(feature_axes)

    def __call__(self, x: jax.Array, *, mask: jax.Array | None = None) -> jax.Array:
        """x normalised, of x's shape; `mask`, which broadcasts to x, says which pixels count."""
        x, scale, bias = _promoted(self, x, self.feature_axes)
        features = _numbers(self.feature_axes, x.ndim)
        pixels = [axis for axis in range(1, x.ndim) if axis not in features]
        if 0 in features or not pixels:
            raise ValueError(
                "InstanceNorm: x must have examples on axis 0, which feature_axes must not name, "
                f"and an axis of pixels; got x {x.shape}, feature_axes={self.feature_axes}"
            )
        return layer_norm(
            x, scale, bias, axes=pixels, epsilon=self.epsilon, activation=self.activation,
            axis_name=self.axis_name, mask=mask,
        )  # fmt: skip


def _promoted(layer, x, feature_axes):
    """x and the layer's parameters in one dtype, the parameters along the feature axes of x."""
    names = [name for name in ("scale", "bias") if hasattr(layer, name)]
    values = [value_of(getattr(layer, name)) for name in names]
    x, *values = layer.promote_dtype((x, *values), dtype=layer.dtype)
    axes = _numbers(feature_axes, x.ndim)
    fits = all(0 <= axis < x.ndim for axis in axes)
    if not fits or math.prod(x.shape[axis] for axis in axes) != layer.num_features:
        raise ValueError(
            f"{type(layer).__name__}: x must have num_features={layer.num_features} on axes "
            f"{feature_axes}; got x {x.shape}"
        )
    shape = [x.shape[axis] if axis in axes else 1 for axis in range(x.ndim)]
    return x, *(None if value is None else value.reshape(shape[min(axes) :]) for value in values)


def _numbers(axes, rank):
    """Flax's axes, negative or not, one or several."""
    named = axes if isinstance(axes, Sequence) else (axes,)
    return [axis + rank if axis < 0 else axis for axis in named]


def _groups(features, groups, size):
    if (groups is None) == (size is None):
        raise ValueError(
            "GroupNorm: give num_groups or group_size, and None for the other; got "
            f"num_groups={groups}, group_size={size}"
        )
    name, given = ("num_groups", groups) if size is None else ("group_size", size)
    given = whole(given, name, "GroupNorm")
    if features % given:
        raise ValueError(
            f"GroupNorm: {name} must divide num_features; got {name}={given}, "
            f"num_features={features}"
        )
    return (given, features // given) if size is None else (features // given, given)
