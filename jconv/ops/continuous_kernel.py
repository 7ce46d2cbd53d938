"""Filters as functions of position: a small network gives the weights, a Gaussian their extent.

    w[r, s, c, k] = mask(at) * f(at)[c, k]          at: pixel (r, s) of the window, in -1 ... 1
    mask(at)      = exp(-|(at - centre) / width|^2 / 2)

The mask's width is the size of the filter, learned (FlexConv): the window is only its upper bound.
f has as many parameters for a window of 33 pixels as for one of 3, and can be sampled at another
resolution. Two kinds, with h of `hidden` numbers:

    siren     h <- sin(frequency (h W + b)), from h = at;  f = h W + b
    magnet    h <- (h W + b) * g(at), from h = g(at);      f = h W + b
              g(at) = exp(-|gamma * (at - mu)|^2 / 2) sin(at W + b)        a Gabor function each

Shapes (any number of spatial axes; written for two): at R S 2, mask R S, f R S CK. Smooth in all.

References: Romero, Bruintjes, Tomczak, Bekkers, Hoogendoorn & van Gemert 2022, "FlexConv:
continuous kernel convolutions with differentiable kernel sizes", arXiv:2110.08059 (MAGNet,
Gaussian mask); Sitzmann et al. 2020, "Implicit neural representations with periodic activation
functions", arXiv:2006.09661 (SIREN); Romero et al. 2022, "CKConv", arXiv:2102.02611.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Linear(NamedTuple):
    """x @ w + b: w (inputs, outputs), b (outputs,)."""

    w: jax.Array
    b: jax.Array


class Gabor(NamedTuple):
    """`hidden` Gabor functions: waves (axes, hidden), phase (hidden,), mu, gamma (hidden, axes)."""

    waves: jax.Array
    phase: jax.Array
    mu: jax.Array
    gamma: jax.Array


def window_positions(size: Sequence[int]) -> np.ndarray:
    """The positions (*size, axes) of a window's pixels, from -1 to 1 along each axis, float64.

    An axis of one pixel is at 0.
    """
    lines = [np.linspace(-1, 1, n) if n > 1 else np.zeros(n) for n in size]
    return np.stack(np.meshgrid(*lines, indexing="ij"), -1)


def gaussian_mask(at: jax.Array, width: jax.Array, centre: jax.Array | None = None) -> jax.Array:
    """exp(-|(at - centre) / width|^2 / 2) for at (..., axes): (...).

    Args:
      width: (axes,), in the unit of `at`: along an axis of R pixels the sigma is
        width * (R - 1) / 2 pixels. Its sign is without effect.
      centre: (axes,); None is 0.

    Raises:
      ValueError: a width or centre that is not one number per axis.
    """
    at, width = jnp.asarray(at), jnp.asarray(width)
    axes = at.shape[-1]
    centre = jnp.zeros_like(width) if centre is None else jnp.asarray(centre)
    if width.shape != (axes,) or centre.shape != (axes,):
        raise ValueError(
            f"gaussian_mask: width and centre must be (axes,) = {(axes,)}; got width "
            f"{width.shape}, centre {centre.shape}, at {at.shape}, (..., axes)"
        )
    return jnp.exp(-(((at - centre) / width) ** 2).sum(-1) / 2)


def mask_extent(size: Sequence[int], width: Sequence[float], threshold: float = 0.1) -> tuple:
    """The smallest window, per axis, that holds what of a centred mask exceeds `threshold`.

    Romero et al. crop filters at 0.1. At most `size`, odd where size is odd.

    Raises:
      ValueError: a threshold outside of 0 to 1.
    """
    if not 0 < threshold < 1:
        raise ValueError(f"mask_extent: threshold must be between 0 and 1; got {threshold}")
    reach = math.sqrt(-2 * math.log(threshold))
    extent = []
    for n, w in zip(size, width, strict=True):
        pixels = reach * abs(float(w)) * (n - 1) / 2  # from the middle, which may lie between two
        odd = n % 2
        each = math.floor(pixels) if odd else math.floor(pixels + 0.5)
        extent.append(min(n, max(2 * each + odd, 1)))
    return tuple(extent)


def siren(at: jax.Array, layers: Sequence[Linear], *, frequency: float) -> jax.Array:
    """A network of sines of positions at (..., axes): (..., outputs of the last layer).

    Raises:
      ValueError: layers that don't fit one another or `at`.
    """
    h = jnp.asarray(at)
    _check_chain("siren", h.shape[-1], layers)
    for layer in layers[:-1]:
        h = jnp.sin(frequency * _linear(h, layer))
    return _linear(h, layers[-1])


def magnet(at: jax.Array, gabors: Sequence[Gabor], layers: Sequence[Linear]) -> jax.Array:
    """A product of Gabor functions of positions at (..., axes): (..., outputs of the last layer).

    Args:
      gabors: one or more, of `hidden` functions each.
      layers: as many: between two of the former, and behind the last.

    Raises:
      ValueError: gabors or layers that don't fit one another or `at`.
    """
    at = jnp.asarray(at)
    axes = at.shape[-1]
    hidden = gabors[0].waves.shape[-1] if gabors else 0
    expected = ((axes, hidden), (hidden,), (hidden, axes), (hidden, axes))
    shapes = [tuple(a.shape for a in gabor) for gabor in gabors]
    if not gabors or len(layers) != len(gabors) or any(s != expected for s in shapes):
        raise ValueError(
            "magnet: there must be as many layers as gabors, one or more, each gabor with waves "
            f"(axes, hidden), phase (hidden,), mu and gamma (hidden, axes); got at {at.shape}, "
            f"gabors {shapes}, {len(layers)} layers"
        )
    _check_chain("magnet", hidden, layers)
    h = _gabor(at, gabors[0])
    for layer, gabor in zip(layers[:-1], gabors[1:], strict=True):
        h = _linear(h, layer) * _gabor(at, gabor)
    return _linear(h, layers[-1])


def unit_gain(w: jax.Array) -> jax.Array:
    """What a filter w (*window, C/groups, K) is to be multiplied by so that, on the mean over K,
    its squares add up to 1: white noise then leaves the convolution as strong as it came."""
    return jnp.sqrt(w.shape[-1] / (w.astype(jnp.float32) ** 2).sum()).astype(w.dtype)


def _gabor(at, gabor):
    away = (at[..., None, :] - gabor.mu) * gabor.gamma
    window = jnp.exp(-(away**2).sum(-1) / 2)
    return window * jnp.sin(jnp.matmul(at, gabor.waves, precision="highest") + gabor.phase)


def _linear(h, layer):
    return jnp.matmul(h, layer.w, precision="highest") + layer.b


def _check_chain(op, width, layers):
    shapes = [(layer.w.shape, layer.b.shape) for layer in layers]
    for w, b in shapes:
        if len(w) != 2 or w[0] != width or b != w[1:]:
            break
        width = w[1]
    else:
        if shapes:
            return
    raise ValueError(
        f"{op}: layers must be w (inputs, outputs) and b (outputs,), one or more, the inputs of "
        f"each the outputs of what is before it; got {shapes}"
    )
