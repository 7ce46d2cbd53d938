"""PReLU: a ReLU whose slope below zero is learned, one for each channel or one for all.

    y = x             where x > 0
    y = slope * x     elsewhere: at 0 the derivative is the slope, as in PyTorch

Shapes: x (..., C), slope (C,), (1,) or (). Computed in float32 or wider, so that a slope's gradient
is summed in it; y has the dtype of x.

Reference: He et al. 2015, arXiv:1502.01852.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jconv.ops.dtypes import at_least_float32


def prelu(x: jax.Array, slope: jax.Array) -> jax.Array:
    """x (..., C) where it is positive, slope * x elsewhere; slope (C,), (1,) or ().

    Raises:
      ValueError: shapes or dtypes that don't fit each other.
    """
    x, slope = jnp.asarray(x), jnp.asarray(slope)
    _check(x, slope)
    wide = x.astype(at_least_float32(x.dtype))
    # Zero in place of a positive x: slope * inf has a gradient of its own, 0 * inf = NaN.
    negative = jnp.where(wide > 0, 0, wide)
    return jnp.where(wide > 0, wide, slope.astype(wide.dtype) * negative).astype(x.dtype)


def _check(x, slope):
    for name, value in (("x", x), ("slope", slope)):
        if not jnp.issubdtype(value.dtype, jnp.floating):
            raise ValueError(f"prelu: {name} must be floating point; got {name} of {value.dtype}")
    channels = x.shape[-1] if x.ndim else 1
    if slope.ndim > x.ndim or slope.shape not in ((), (1,), (channels,)):
        raise ValueError(
            f"prelu: slope must be one number or one for each of C={channels} channels; got slope "
            f"{slope.shape}, x {x.shape}"
        )
