"""Normalisation of weights: weight norm, spectral norm, weight standardisation.

    weight_norm         g v / ||v||                              each filter has the norm g
    weight_standardize  (w - mean) / sqrt(variance + epsilon)    each filter has mean 0, variance 1
    spectral_norm       w / sigma, sigma = v' W u                largest singular value 1

A *filter* is what belongs to one index of the feature axes: by default w (*window, C/G, K) has K of
them, each *window C/G. W is the matrix with a filter in each column. The result has the dtype of
the weights; norms and statistics are computed in float32 or wider.

References: Salimans & Kingma 2016, arXiv:1602.07868; Miyato, Kataoka, Koyama & Yoshida 2018,
arXiv:1802.05957; Qiao, Wang, Liu, Shen & Yuille 2019, arXiv:1903.10520.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec

from jconv.core import explicit_sharding
from jconv.ops.dtypes import at_least_float32
from jconv.ops.norm_arguments import arrays_of, axes_of
from jconv.ops.standardize import standardized
from jconv.window import whole


def weight_norm(
    v: jax.Array,
    g: jax.Array | None = None,
    *,
    feature_axes: int | Sequence[int] = -1,
    epsilon: float = 1e-12,
) -> jax.Array:
    """g v / sqrt(||v||^2 + epsilon) for each filter: weights of v's shape and dtype.

    Args:
      g: the filters' norms, of the shape of the feature axes, such as (K,); None takes 1.
      feature_axes: each of their indices is a filter; () takes all of v as one.
      epsilon: 0 is PyTorch's, for which a filter of zeros gives NaN.

    Raises:
      ValueError: shapes, axes or dtypes that don't fit each other, or a negative epsilon.
    """
    op = "weight_norm"
    v, g = arrays_of(op, v, epsilon, g, name="v")
    features, rest = _filters(op, feature_axes, v)
    wide = v.astype(at_least_float32(v.dtype))
    w = wide * lax.rsqrt(jnp.sum(lax.square(wide), rest, keepdims=True) + epsilon)
    if g is not None:
        _check_features(op, "g", g, features, v)
        w = w * jnp.expand_dims(g.astype(w.dtype), rest)
    return w.astype(v.dtype)


def filter_norms(v: jax.Array, *, feature_axes: int | Sequence[int] = -1) -> jax.Array:
    """||v|| of each filter, of the shape of the feature axes: the g for which weight norm is v.

    Raises:
      ValueError: a v that is not floating point, or axes that it does not have.
    """
    (v,) = arrays_of("filter_norms", v, 0, name="v")
    _, rest = _filters("filter_norms", feature_axes, v)
    wide = v.astype(at_least_float32(v.dtype))
    return jnp.sqrt(jnp.sum(lax.square(wide), rest)).astype(v.dtype)


def spectral_norm(
    w: jax.Array,
    u: jax.Array,
    *,
    feature_axes: int | Sequence[int] = -1,
    n_steps: int = 1,
    epsilon: float = 1e-12,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """w over the largest singular value of its matrix, (all other axes) x (feature axes).

    Each step of power iteration sets v = W u / ||W u||, then u = W' v / ||W' v||; sigma = v' W u is
    at most the largest singular value and grows to it. Derivatives of every order hold u and v
    constant, as in PyTorch: with u and v converged the first is the exact one. A sigma of 0 divides
    nothing.

    Args:
      u: where the iteration starts, of the shape of the feature axes, such as (K,), not all zero.
      n_steps: 0 takes u as it is and v = W u / ||W u||, as PyTorch's parametrization evaluates.
      epsilon: the least norm that a vector is divided by.

    Returns:
      w / sigma, of w's shape and dtype; the new u and sigma, float32 or wider.

    Raises:
      ValueError: shapes, axes or dtypes that don't fit each other, or a negative epsilon.
    """
    op = "spectral_norm"
    w, u = arrays_of(op, w, epsilon, u, name="w")
    n_steps = whole(n_steps, "n_steps", op, least=0)
    features, rest = _filters(op, feature_axes, w)
    _check_features(op, "u", u, features, w)
    wide = w.astype(at_least_float32(w.dtype))
    constant, u = lax.stop_gradient((wide, u.astype(wide.dtype)))
    columns, rows = (features, list(range(u.ndim))), (rest, list(range(len(rest))))
    v = _unit(_product(constant, u, columns), epsilon)
    for step in range(n_steps):
        if step:
            v = _unit(_product(constant, u, columns), epsilon)
        u = _unit(_product(constant, v, rows), epsilon)
    sigma = jnp.sum(v * _product(wide, u, columns))
    return (wide / jnp.where(sigma == 0, 1, sigma)).astype(w.dtype), u, sigma


def weight_standardize(
    w: jax.Array, *, feature_axes: int | Sequence[int] = -1, epsilon: float = 1e-5
) -> jax.Array:
    """Each filter of w with mean 0 and (biased) variance 1: of w's shape and dtype.

    Raises:
      ValueError: axes or a dtype that don't fit, or a negative epsilon.
    """
    (w,) = arrays_of("weight_standardize", w, epsilon, name="w")
    _, rest = _filters("weight_standardize", feature_axes, w)
    return standardized("weight_standardize", w, rest, epsilon)[0]


def _filters(op, feature_axes, w):
    """The feature axes and the axes of a filter, each in order."""
    features = axes_of(op, feature_axes, w, name="feature_axes", of="weights")
    rest = tuple(axis for axis in range(w.ndim) if axis not in features)
    if not rest:
        raise ValueError(
            f"{op}: a filter must have an axis beside feature_axes={feature_axes}; got weights "
            f"{w.shape}"
        )
    return features, rest


def _check_features(op, name, value, features, w):
    shape = tuple(w.shape[axis] for axis in features)
    if value.shape != shape:
        raise ValueError(
            f"{op}: {name} must have the shape of the feature axes, {shape}; got {name} "
            f"{value.shape}, weights {w.shape}"
        )


def _product(w, vector, axes):
    """Sums over the first of `axes` in w and the second in the vector; on GPUs too in float32."""
    like = explicit_sharding(jax.typeof(w))
    if like is not None:  # which the axes that are left keep
        names = [name for axis, name in enumerate(like.spec) if axis not in axes[0]]
        like = NamedSharding(like.mesh, PartitionSpec(*names))
    return jnp.tensordot(w, vector, axes, precision=lax.Precision.HIGHEST, out_sharding=like)


def _unit(vector, epsilon):
    return vector / jnp.maximum(jnp.sqrt(jnp.sum(lax.square(vector))), epsilon)
