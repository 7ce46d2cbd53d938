"""Convolution whose taps lie at real, learnable positions: DCLS, "learnable spacings".

    y                 = conv(x, dense)
    dense[r, s, c, k] = sum over t of w[t, c, k] * share(r; p) * share(s; q)
    (p, q)            = middle + position[t, c, k],  held inside of the window
    share(r; p)       = a(r - p) / sum over the window of a(. - p)

    a(d) = max(0, 1 - |d|)                           bilinear: the (up to) two pixels around
           max(0, 1 + |sigma| - |d|)                 triangle
           exp(-(d / (0.27 + |sigma|))^2 / 2)        gaussian

Shapes (any number of spatial axes; written for two): w T C/G K, T taps wherever they lie; position
and sigma T C/G K 2, or with axes of 1 where taps or channels share theirs; dense R S C/G K. The
middle is pixel (R - 1) // 2, which reads the output's own pixel under padding "SAME". A position is
held in the window while its gradient passes on, so that a tap outside can come back. At whole
positions the bilinear gradient is the mean of those on both sides.

Linear in x and w, differentiable in position and sigma. The gradient of a bilinear tap sees one
pixel to each side and no further: to find a distant one the image must be smooth, or sigma wide.

References: Khalfaoui-Hassani, Pellegrini & Masquelier 2023, "Dilated convolution with learnable
spacings", arXiv:2112.03740; the same 2023, "Dilated convolution with learnable spacings: beyond
bilinear interpolation", arXiv:2306.00817 (triangle, gaussian, 0.27).
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jconv.ops.conv import conv
from jconv.ops.dtypes import at_least_float32, wider
from jconv.window import Padding, PerAxis, per_axis

INTERPOLATIONS = ("bilinear", "triangle", "gaussian")
NARROWEST = 0.27  # pixels: at the half between two, a Gaussian still gives each of them a half


def dcls_conv(
    x: jax.Array,
    w: jax.Array,
    position: jax.Array,
    b: jax.Array | None = None,
    sigma: jax.Array | None = None,
    *,
    window: PerAxis,
    interpolation: str = "bilinear",
    stride: PerAxis = 1,
    padding: Padding = "SAME",
    groups: int = 1,
    padding_mode: str = "zeros",
    precision: lax.PrecisionLike = None,
    implementation: str | None = None,
) -> jax.Array:
    """Convolution of x (N, *spatial, C) with taps w (T, C/groups, K) at real positions, plus b (K).

    The result y is (N, *output, K). At whole positions, bilinear, it is `conv` with a filter of
    zeros but for these taps.

    Args:
      position: (T, C/groups, K, axes), in pixels from the middle of the window; with axes of 1 for
        what taps or channels share. Its dtype may differ from x's.
      sigma: as position, in pixels, for "triangle" and "gaussian".
      window: pixels that the taps may lie in, per axis: the size of the filter that is convolved.
      interpolation: "bilinear" | "triangle" | "gaussian": how a tap is spread over pixels.
      stride, padding, groups, padding_mode, precision, implementation: as in `conv`.

    Raises:
      ValueError: shapes, dtypes or arguments that don't fit each other, and what `conv` refuses.
      NotImplementedError: as `conv`.
    """
    x, w = jnp.asarray(x), jnp.asarray(w)
    if x.ndim < 3:
        raise ValueError(
            f"dcls_conv: x must be (N, *spatial, C) with one or more spatial axes; got x {x.shape}"
        )
    size = per_axis(window, x.ndim - 2, "window", "dcls_conv")
    dense = dcls_kernel(w, position, size, sigma=sigma, interpolation=interpolation)
    return conv(
        x, dense, b, stride=stride, padding=padding, groups=groups, padding_mode=padding_mode,
        precision=precision, implementation=implementation,
    )  # fmt: skip


def dcls_kernel(
    w: jax.Array,
    position: jax.Array,
    size: tuple[int, ...],
    *,
    sigma: jax.Array | None = None,
    interpolation: str = "bilinear",
) -> jax.Array:
    """The filter (*size, C/groups, K) of taps w (T, C/groups, K) at `position`; see `dcls_conv`.

    Raises:
      ValueError: shapes, dtypes or arguments that don't fit each other.
    """
    w, position = jnp.asarray(w), jnp.asarray(position)
    sigma = None if sigma is None else jnp.asarray(sigma)
    _check(w, position, sigma, size, interpolation)
    wide = wider(at_least_float32(w.dtype), at_least_float32(position.dtype))
    dense = w.astype(wide)
    shared = position.shape[1:3] == (1, 1) and (sigma is None or sigma.shape[1:3] == (1, 1))
    for axis, n in enumerate(size):
        at = position[..., axis].astype(wide)
        spread = None if sigma is None else sigma[..., axis].astype(wide)
        share = _shares(at, spread, n, interpolation)
        if shared:
            share, letters = jnp.broadcast_to(share[:, 0, 0], (w.shape[0], n)), "tn"
        else:
            share, letters = jnp.broadcast_to(share, (*w.shape, n)), "tckn"
        # The last axis is the sum over taps as well: no array of taps by all pixels is made.
        result = "ck...n" if axis == len(size) - 1 else "tck...n"
        dense = jnp.einsum(f"tck...,{letters}->{result}", dense, share, precision="highest")
    # C/G K R S -> R S C/G K
    return jnp.moveaxis(dense, (0, 1), (-2, -1)).astype(w.dtype)


def _shares(at, sigma, n, interpolation):
    """What each of n pixels gets of a tap, (..., n), together 1."""
    middle = (n - 1) // 2
    held = jnp.clip(at, -middle, n - 1 - middle)
    at = at + lax.stop_gradient(held - at)
    pixels = jnp.arange(n, dtype=at.dtype) - middle
    distance = pixels - at[..., None]
    if interpolation == "gaussian":
        # A softmax of the exponents, so that nothing underflows where all are small.
        width = NARROWEST + jnp.abs(sigma[..., None])
        return jax.nn.softmax(-((distance / width) ** 2) / 2, axis=-1)
    reach = 1 if interpolation == "bilinear" else 1 + jnp.abs(sigma[..., None])
    share = jnp.maximum(reach - jnp.abs(distance), jnp.zeros((), at.dtype))
    return share / share.sum(-1, keepdims=True)


def dilated_positions(window: tuple[int, ...], dilation: jax.Array) -> jax.Array:
    """The positions (T, 1, 1, axes) of the taps of a window at a real dilation, in pixels.

    Differentiable in the dilation, a number or one for each axis: tap r of R lies at
    (r - (R - 1) / 2) * dilation from the middle.

    Raises:
      ValueError: a dilation of another length.
    """
    dilation = jnp.asarray(dilation)
    axes = len(window)
    if dilation.ndim > 1 or (dilation.ndim and dilation.shape != (axes,)):
        raise ValueError(
            f"dilated_positions: dilation must be one number, or one for each of {axes} axes of "
            f"the window; got dilation {dilation.shape}"
        )
    taps = np.indices(window).reshape(axes, math.prod(window)).T
    from_middle = taps - (np.array(window) - 1) / 2
    positions = jnp.asarray(from_middle, dilation.dtype) * dilation
    return positions[:, None, None, :]


def _check(w, position, sigma, size, interpolation):
    named = f"got w {w.shape}, position {position.shape}" + (
        "" if sigma is None else f", sigma {sigma.shape}"
    )
    if interpolation not in INTERPOLATIONS:
        raise ValueError(
            f"dcls_conv: interpolation must be one of {', '.join(INTERPOLATIONS)}; got "
            f"{interpolation!r}"
        )
    if w.ndim != 3 or not jnp.issubdtype(w.dtype, jnp.floating):
        raise ValueError(
            f"dcls_conv: w must be floating point (T, C/groups, K); got w {w.shape} of {w.dtype}"
        )
    for name, array in (("position", position), ("sigma", sigma)):
        if array is None:
            continue
        fits = array.ndim == 4 and array.shape[-1] == len(size)
        if not fits or any(n not in (1, m) for n, m in zip(array.shape[:3], w.shape, strict=True)):
            raise ValueError(
                f"dcls_conv: {name} must be (T, C/groups, K, axes) = {(*w.shape, len(size))}, or "
                f"with axes of 1 for T, C/groups and K; {named}"
            )
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise ValueError(f"dcls_conv: {name} must be floating point; got {array.dtype}")
    if (sigma is None) != (interpolation == "bilinear"):
        raise ValueError(
            'dcls_conv: sigma belongs to interpolation="triangle" and "gaussian", not to '
            f'"bilinear"; got interpolation="{interpolation}", '
            f"sigma {None if sigma is None else sigma.shape}"
        )
