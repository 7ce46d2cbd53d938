"""Batch normalisation of x (N, ..., C): each channel over all other axes.

    y = (x - mean) * (variance + epsilon)^(-1/2) * scale + bias

In training the statistics are those of the batch, of all devices along `axis_name`, of the pixels
where `mask` is true; at inference they are given. The derivative is that of
`jconv.ops.standardize`, statistics are kept in float32 or wider.

Reference: Ioffe & Szegedy 2015, arXiv:1502.03167.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from jconv.ops.dtypes import at_least_float32
from jconv.ops.mask import mask_of
from jconv.ops.norm_arguments import (
    Activation,
    activated,
    affine,
    arrays_of,
    beside,
    bounds_of,
    check_per_channel,
)
from jconv.ops.standardize import standardized
from jconv.ops.standardize_across import AxisName, counted
from jconv.window import whole


def batch_norm(
    x: jax.Array,
    scale: jax.Array | None = None,
    bias: jax.Array | None = None,
    *,
    epsilon: float = 1e-5,
    activation: Activation | None = None,
    axis_name: AxisName = None,
    mask: jax.Array | None = None,
    correction: int = 0,
    implementation: str | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Normalises each channel of x (N, ..., C) over all other axes: (y, mean, variance).

    Args:
      scale, bias: (C,), applied to the normalised x; None leaves it out.
      epsilon: added to the variance.
      activation: "relu" or "relu6" of y, without `axis_name` or `mask` in the same pass over x;
        its gradient is then told from x, so that nothing more is kept.
      axis_name: statistics are those of the examples on all devices along the named axes, however
        many of them each counts (`mask`).
      mask: booleans that broadcast to x: only pixels where it is true count in the statistics,
        whatever the others hold; all are normalised. At least one must, or the statistics are 0.
      correction: the returned variance is sum((x - mean)^2) / (n - correction) for the n numbers
        that count; 1 is what PyTorch keeps as its running variance. y is always normalised by the
        biased one. Where n <= correction the divisor is 1.
      implementation: None takes the table's choice (see `jconv.explain_choice`); a name runs that
        one or raises. With `axis_name` or `mask` there is only the definition.

    Returns:
      y of x's shape and dtype, and the mean and the variance, (C,), float32 or wider.

    Raises:
      ValueError: shapes or dtypes that don't fit each other, a negative epsilon, or another
        activation.
      NotImplementedError: the implementation that was asked for can't compute this call.
    """
    x, scale, bias = arrays_of("batch_norm", x, epsilon, scale, bias)
    check_per_channel("batch_norm", x, 2, scale=scale, bias=bias)
    correction = whole(correction, "correction", "batch_norm", least=0)
    mask, axes = mask_of("batch_norm", mask, x.shape), tuple(range(x.ndim - 1))
    y, mean, variance = standardized(
        "batch_norm", x, axes, epsilon, scale=scale, bias=bias, activation=activation, mask=mask,
        axis_name=axis_name, implementation=implementation,
    )  # fmt: skip
    if correction:
        n = jnp.asarray(counted(x, axes, mask, axis_name), variance.dtype)
        less = float(min(correction, 2**62))  # n is smaller; a wider int is none of JAX's
        variance = variance * (n / jnp.maximum(n - less, 1))
    return y, mean.reshape(-1), variance.reshape(-1)


def normalize(
    x: jax.Array,
    mean: jax.Array,
    variance: jax.Array,
    scale: jax.Array | None = None,
    bias: jax.Array | None = None,
    *,
    epsilon: float = 1e-5,
    activation: Activation | None = None,
) -> jax.Array:
    """x (..., C) normalised by given statistics (C,), as batch norm does at inference.

    y = (x - mean) / sqrt(variance + epsilon) * scale + bias, of x's dtype, or the activation of it,
    "relu" or "relu6".

    Raises:
      ValueError: shapes or dtypes that don't fit each other, a negative epsilon, or another
        activation.
    """
    bounds_of("normalize", activation)
    x, mean, variance, scale, bias = arrays_of("normalize", x, epsilon, mean, variance, scale, bias)
    check_per_channel("normalize", x, 2, mean=mean, variance=variance, scale=scale, bias=bias)
    wide = at_least_float32(x.dtype)
    rstd = lax.rsqrt(variance.astype(wide) + epsilon)
    factor = rstd if scale is None else rstd * scale.astype(wide)
    x_wide = x.astype(wide)
    y = (x_wide - beside(mean, x_wide)) * beside(factor, x_wide)
    return activated(affine(y, None, bias).astype(x.dtype), activation)


def running_average(old: jax.Array, new: jax.Array, momentum: float) -> jax.Array:
    """momentum * old + (1 - momentum) * new, in the dtype of `old` and without a gradient."""
    kept = jnp.asarray(momentum, old.dtype)
    return lax.stop_gradient(kept * old + (1 - kept) * new.astype(old.dtype))
