"""The tangent map of standardisation by its gradient's: both are the same symmetric map."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


def standardize_tangent(
    standardize_grad: Callable[..., Any],
    dx: jax.Array,
    dscale: jax.Array,
    dbias: jax.Array,
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    mean: jax.Array,
    variance: jax.Array,
    *,
    axes: tuple[int, ...],
    epsilon: float,
    centre: bool,
    bounds: tuple[float, float] | None,
    **split: Any,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(dz, dmean, dvariance): with a scale of 1 the gradient's map of dz is that of dx to dy.

    Args:
      standardize_grad: a kernel's, with the signature of a body in `jconv.ops.standardize`.
      split: `across`, where the kernel computes a part of the call: the axes of a mesh that the
        examples are spread over.
    """
    one, none = jnp.ones((1,) * x.ndim, np.float32), jnp.zeros_like(mean)
    dy, _, _ = standardize_grad(
        dx, none, none, x, one, 0 * one, mean, variance, axes=axes, epsilon=epsilon, centre=centre,
        bounds=None, **split,
    )  # fmt: skip
    over = split.get("across", ()) if 0 in axes else ()

    def mean_of(t):
        found = jnp.mean(t, axes, keepdims=True)
        return lax.pmean(found, over) if over else found

    centred, t = x.astype(np.float32) - mean, dx.astype(np.float32)
    y = centred * lax.rsqrt(variance + np.float32(epsilon))
    dz = scale * dy.astype(np.float32) + y * dscale + dbias
    if bounds is not None:
        z = y * scale + bias
        dz = jnp.where((bounds[0] < z) & (np.isinf(bounds[1]) | (z < bounds[1])), dz, 0)
    return (
        dz.astype(x.dtype),
        mean_of(t) if centre else none,
        2 * mean_of(centred * t),
    )
