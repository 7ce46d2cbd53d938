"""Standardisation with its affine map, its gradient and its tangent: which kernel computes a call.

the last axes, at most 16384 numbers, a scale of each or one    rows, `layer_norm.py`
other axes, and examples enough                                 `group_norm.py`
else                                                            `batch_norm.py`
"""

from __future__ import annotations

import functools
from typing import Any

import jax
from jax import lax

from .. import tangent  # noqa: TID252, the package is imported as jconv_kernels
from . import batch_norm, group_norm, layer_norm
from .geometry import unsupported
from .pixels import Pixels, kept

DTYPES = ("float32", "bfloat16", "float16")


def standardize(
    x: jax.Array, scale: jax.Array, bias: jax.Array, *, axes: tuple[int, ...], epsilon: float,
    centre: bool, bounds: Any, across: Any = (),
) -> tuple[jax.Array, jax.Array, jax.Array]:  # fmt: skip
    """(z, mean, variance) of x over `axes`, which the statistics keep with size 1."""
    static, over = {"epsilon": epsilon, "centre": centre, "bounds": bounds}, _over(axes, across)
    cut: Any = Pixels.of(x, scale, axes)
    if not over and layer_norm.refused(x, scale, axes) is None:
        z, mean, variance = layer_norm.forward(x, scale, bias, axes=axes, **static)
    elif not over and group_norm.pays(cut):
        z, mean, variance = group_norm.forward(x, scale, bias, cut=cut, **static)
    else:
        z, mean, variance = batch_norm.forward(x, scale, bias, cut=cut, over=over, **static)
    row = kept(x, axes)
    return z.reshape(x.shape), mean.reshape(row), variance.reshape(row)


def standardize_grad(
    dz: jax.Array, dmean: jax.Array, dvariance: jax.Array, x: jax.Array, scale: jax.Array,
    bias: jax.Array, mean: jax.Array, variance: jax.Array, *, axes: tuple[int, ...],
    epsilon: float, centre: bool, bounds: Any, across: Any = (),
) -> tuple[jax.Array, jax.Array, jax.Array]:  # fmt: skip
    """(dx, dscale, dbias): the transpose of the tangent map at x, scale, bias."""
    static, over = {"epsilon": epsilon, "centre": centre, "bounds": bounds}, _over(axes, across)
    operands = dz, dmean, dvariance, x, scale, bias, mean, variance
    cut: Any = Pixels.of(x, scale, axes)
    if not over and layer_norm.refused(x, scale, axes) is None:
        dx, dscale, dbias = layer_norm.backward(*operands, axes=axes, **static)
    elif not over and group_norm.pays(cut):
        dx, dscale, dbias = group_norm.backward(*operands, cut=cut, **static)
    else:
        dx, dscale, dbias = batch_norm.backward(*operands, cut=cut, over=over, **static)
    if across and not over:
        dscale, dbias = lax.psum((dscale, dbias), across)
    return dx.reshape(x.shape), dscale, dbias


standardize_tangent = functools.partial(tangent.standardize_tangent, standardize_grad)


def standardize_unsupported(
    x: Any, scale: Any, bias: Any, *, axes: tuple[int, ...], epsilon: float, centre: bool,
    bounds: Any,
) -> str | None:  # fmt: skip
    """Why the call can't be computed here, in words, or None if it can."""
    return _unsupported(x, scale, axes)


def standardize_grad_unsupported(
    dz: Any, dmean: Any, dvariance: Any, x: Any, scale: Any, bias: Any, mean: Any, variance: Any, *,
    axes: tuple[int, ...], epsilon: float, centre: bool, bounds: Any,
) -> str | None:  # fmt: skip
    """Why the call can't be computed here, in words, or None if it can."""
    return _unsupported(x, scale, axes)


standardize_tangent_unsupported = standardize_grad_unsupported


def _over(axes, across):
    """The axes of a mesh that what is normalised together is spread over: it is its examples, the
    first axis, that a call is split along.
    """
    return across if 0 in axes else ()


def _unsupported(x, scale, axes):
    if reason := unsupported(x, dtypes=DTYPES):
        return reason
    if (reason := layer_norm.refused(x, scale, axes)) is None:
        return None
    cut = Pixels.of(x, scale, axes)
    if isinstance(cut, str):
        return cut
    # Rows too long, of numbers that have each its own scale: nothing is left to be shared.
    return reason if cut.m == 1 and cut.length == cut.c else None
