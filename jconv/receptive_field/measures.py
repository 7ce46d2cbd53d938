"""Measures of a field: its radius, a Gaussian fitted to it, its area, its share of the image.

A field is an array (*spatial) of numbers that are not negative, such as the mean of
`gradient_maps`; of a batch of fields take the `jax.vmap`. With p = field / sum(field):

    centre      = sum of p * position                                                 pixels
    covariance  = sum of p * (position - centre) (position - centre)'                 pixels^2
    radius      = sqrt(sum of p * |position - centre|^2 / axes)                       pixels

The radius is the sigma of a Gaussian, and the root mean square of the sigmas along the axes of
anything else. Centre, covariance and radius are differentiable wherever the field is not all zero.
Of fields in float16 and bfloat16 the measures are float32.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jconv.ops.dtypes import at_least_float32

LUO = 0.9545  # of a Gaussian within two sigma


def moments(field: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The centre (axes,) and the covariance (axes, axes) of field (*spatial), in pixels.

    Raises:
      ValueError: a field without axes, or not floating point.
    """
    field = _checked("moments", field)
    p = _density(field).reshape(-1)
    at = _positions(field)
    centre = p @ at
    return centre, (at - centre).T @ ((at - centre) * p[:, None])


def radius(field: jax.Array, *, centre: jax.Array | Sequence[float] | None = None) -> jax.Array:
    """The radius of field (*spatial) in pixels: the root of its mean squared distance per axis.

    Distant pixels weigh most: gradients that are spread thinly over a whole image of H pixels, as
    behind batch statistics or squeeze-and-excitation, draw it towards H / sqrt(12).

    Args:
      centre: what distances are taken from, (axes,) in pixels; None is the field's own centre.

    Raises:
      ValueError: as `moments`, or a centre that is not one number per axis.
    """
    field = _checked("radius", field)
    at = _positions(field)
    p = _density(field).reshape(-1)
    centre = p @ at if centre is None else _point("radius", centre, field)
    return jnp.sqrt(p @ ((at - centre) ** 2).sum(-1) / field.ndim)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Gaussian:
    """amplitude * exp(-(position - centre)' covariance^-1 (position - centre) / 2), in pixels.

    Attributes:
      amplitude: (), at the centre.
      centre: (axes,).
      covariance: (axes, axes).
      explained: (), the share of the field's variance that it explains: 1 where it is the field.
    """

    amplitude: jax.Array
    centre: jax.Array
    covariance: jax.Array
    explained: jax.Array

    @property
    def sigma(self) -> jax.Array:
        """Along each axis, (axes,), in pixels."""
        return jnp.sqrt(jnp.diagonal(self.covariance))


def gaussian_fit(field: jax.Array, *, method: str = "moments", steps: int = 50) -> Gaussian:
    """A Gaussian for field (*spatial), of any width along and between the axes.

    Args:
      method: "moments", the most likely one: it has the field's centre and covariance, and the
        theory of chains of convolutions is about it. "least_squares": the nearest by squared
        differences, begun there; far pixels hardly count, so a floor of noise doesn't widen it. Of
        five uniform convolutions of three taps its sigma is 3 % above that of the moments.
      steps: of the Levenberg-Marquardt method.

    Raises:
      ValueError: as `moments`, or an unknown method.
    """
    field = _checked("gaussian_fit", field)
    if method not in ("moments", "least_squares"):
        raise ValueError(
            f"gaussian_fit: method must be moments or least_squares; got method={method!r}"
        )
    at, values = _positions(field), field.reshape(-1)
    centre, covariance = moments(field)
    if method == "moments":
        peak = jnp.sqrt(jnp.linalg.det(2 * math.pi * covariance))
        amplitude = values.sum() / peak
    else:
        amplitude, centre, covariance = _least_squares(at, values, centre, covariance, steps)
    precision = jnp.linalg.inv(covariance)
    away = at - centre
    fitted = amplitude * jnp.exp(-(away @ precision * away).sum(-1) / 2)
    left, total = ((values - fitted) ** 2).sum(), ((values - values.mean()) ** 2).sum()
    return Gaussian(amplitude, centre, covariance, 1 - left / total)


def _least_squares(at, values, centre, covariance, steps):
    """Levenberg-Marquardt in log amplitude, centre and the triangular root of the precision."""
    axes = at.shape[-1]
    rows, columns = np.tril_indices(axes)
    scale = values.max()
    target = values / scale

    def unpack(theta):
        root = jnp.zeros((axes, axes), theta.dtype).at[rows, columns].set(theta[1 + axes :])
        return theta[0], theta[1 : 1 + axes], root

    def residual(theta):
        amplitude, centre, root = unpack(theta)
        return jnp.exp(amplitude - (((at - centre) @ root) ** 2).sum(-1) / 2) - target

    def step(_, carry):
        theta, damping = carry
        r, j = residual(theta), jax.jacfwd(residual)(theta)
        normal = j.T @ j
        damped = normal + damping * jnp.diag(jnp.diagonal(normal) + 1e-12)
        proposed = theta - jnp.linalg.solve(damped, j.T @ r)
        better = (residual(proposed) ** 2).sum() < (r**2).sum()
        theta = jnp.where(better, proposed, theta)
        return theta, jnp.where(better, damping / 4, damping * 4)

    root = jnp.linalg.cholesky(jnp.linalg.inv(covariance))
    start = jnp.concatenate([jnp.zeros(1, values.dtype), centre, root[rows, columns]])
    damping = jnp.asarray(1e-2, values.dtype)
    theta, _ = jax.lax.fori_loop(0, steps, step, (start, damping))
    amplitude, centre, root = unpack(theta)
    return scale * jnp.exp(amplitude), centre, jnp.linalg.inv(root @ root.T)


def area(field: jax.Array, share: float = LUO, *, peak: jax.Array | float | None = None) -> Any:
    """How many pixels of field (*spatial) exceed (1 - share) times its peak.

    Its root, in two dimensions, is the side that Luo et al. 2016 plot (arXiv:1701.04128): for a
    Gaussian 4.41 sigma. A count has no gradient; train with `radius`.

    Args:
      share: Luo et al. take what lies within two sigma, 0.9545.
      peak: what pixels are compared with; None is the field's largest. Luo et al. take the value
        at the centre, in bells the same.

    Raises:
      ValueError: as `moments`, or a share outside of 0 to 1.
    """
    field = _checked("area", field)
    if not 0 <= share <= 1:
        raise ValueError(f"area: share must be between 0 and 1; got share={share}")
    peak = field.max() if peak is None else jnp.asarray(peak, field.dtype)
    return (field > (1 - share) * peak).sum().astype(field.dtype)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class AreaRatios:
    """For each share: the side of the square, in pixels, and its share of the image, 0 to 1."""

    side: jax.Array
    ratio: jax.Array


def area_ratios(
    field: jax.Array,
    shares: Sequence[float] = (0.2, 0.3, 0.5, 0.99),
    *,
    log: bool = False,
    centre: Sequence[int] | None = None,
) -> AreaRatios:
    """The smallest odd squares about the centre that hold more than `shares` of field (*spatial).

    The protocol of RepLKNet (Ding et al. 2022, arXiv:2203.06717): 50 images of the validation set,
    1024 x 1024 by bicubic interpolation; `gradient_maps(lambda x: relu(fn(x)), x,
    magnitude="relu")` of the last feature map, their mean here with log=True. Images of 224 pixels
    turn the order of networks round, because large fields reach their border. Their script begins
    at squares of three pixels; here one pixel is the least.

    Args:
      log: takes log10(field + 1) first, as they do. What comes out then depends on the scale of the
        gradients, so on that of the loss and of the weights. False is independent of it (Liu et al.
        2022, SLaK, arXiv:2207.03620, leave the logarithm out).
      centre: pixel in the middle of the squares; None is size // 2 of each axis.

    Raises:
      ValueError: as `moments`, a share outside of 0 to 1, or a centre outside of the field.
    """
    field = _checked("area_ratios", field)
    if not all(0 <= share < 1 for share in shares):
        raise ValueError(f"area_ratios: shares must be at least 0 and below 1; got {shares}")
    middle = tuple(n // 2 for n in field.shape) if centre is None else tuple(centre)
    if len(middle) != field.ndim or not all(
        0 <= c < n for c, n in zip(middle, field.shape, strict=True)
    ):
        raise ValueError(
            "area_ratios: centre must be a pixel of the field, one index per axis; got centre="
            f"{middle}, field {field.shape}, (*spatial)"
        )
    distance = functools.reduce(
        np.maximum, (abs(i - c) for i, c in zip(np.indices(field.shape), middle, strict=True))
    )
    values = jnp.log10(field + 1) if log else field
    values = values / values.max()
    ring = jax.ops.segment_sum(values.reshape(-1), distance.reshape(-1), int(distance.max()) + 1)
    held = jnp.cumsum(ring)
    # Of the sum that was added up in the same order: the last square holds all of it.
    exceeds = held[None, :] > jnp.asarray(shares, field.dtype)[:, None] * held[-1]
    side = 2 * jnp.argmax(exceeds, axis=1) + 1
    ratio = functools.reduce(jnp.multiply, [side.astype(field.dtype) / n for n in field.shape])
    return AreaRatios(side, jnp.minimum(ratio, jnp.ones((), field.dtype)))


def gaussian_field(
    spatial: Sequence[int],
    sigma: jax.Array | float | Sequence[float],
    *,
    centre: jax.Array | Sequence[float] | None = None,
) -> jax.Array:
    """A Gaussian over (*spatial) pixels whose sum is 1: a target for `shape_loss`.

    Args:
      sigma: pixels, one for all axes or one for each.
      centre: (axes,) in pixels; None is the middle, (size - 1) / 2.

    Raises:
      ValueError: no spatial axes, or a centre or sigma of another length.
    """
    spatial = tuple(spatial)
    empty = _checked("gaussian_field", jnp.zeros(spatial))
    middle = [(n - 1) / 2 for n in spatial] if centre is None else centre
    middle = _point("gaussian_field", middle, empty)
    sigma = jnp.asarray(sigma, empty.dtype)
    if sigma.ndim and sigma.shape != (len(spatial),):
        raise ValueError(
            f"gaussian_field: sigma must be one number, or one for each of {len(spatial)} axes; "
            f"got sigma {sigma.shape}"
        )
    exponent = -((((_positions(empty) - middle) / sigma) ** 2).sum(-1)) / 2
    return jax.nn.softmax(exponent).reshape(spatial)


def _positions(field):
    """Every pixel's position, pixels by axes, in the order of the flattened field."""
    at = np.indices(field.shape).reshape(field.ndim, -1).T
    return jnp.asarray(at, field.dtype)


def _density(field):
    return field / field.sum()


def _point(op, point, field):
    point = jnp.asarray(point, field.dtype)
    if point.shape != (field.ndim,):
        raise ValueError(
            f"{op}: centre must be one number for each axis; got centre {point.shape}, field "
            f"{field.shape}, (*spatial)"
        )
    return point


def _checked(op, field):
    field = jnp.asarray(field)
    if field.ndim < 1 or 0 in field.shape or not jnp.issubdtype(field.dtype, jnp.floating):
        raise ValueError(
            f"{op}: a field must be floating point (*spatial) with one or more axes, none empty; "
            f"got {field.shape} of {field.dtype}"
        )
    return field.astype(at_least_float32(field.dtype))
