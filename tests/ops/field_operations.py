"""One small case of every operation with a learnable field beside its plain formulation."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import lax

from jconv.ops.dcls_conv import dcls_conv
from jconv.ops.spectral_pool import spectral_pool
from tests.ops.operations import Op

SIGMA = np.array([0.4, 0.1]).reshape(2, 1, 1, 1)
SMOOTHNESS = 1.5


def spaced(x, w, position):
    """Gaussian taps within five pixels of a line, positions by tap alone."""
    held = jnp.clip(position, -2, 2)
    position = position + lax.stop_gradient(held - position)
    distance = jnp.arange(-2, 3, dtype=x.dtype) - position
    shares = jnp.exp(-((distance / jnp.asarray(0.27 + SIGMA, x.dtype)) ** 2) / 2)
    shares = shares / shares.sum(-1, keepdims=True)
    dense = jnp.sum(w[:, None] * shares[:, 0, 0, :, None, None], 0)
    return lax.conv_general_dilated(
        x, dense, (1,), "SAME", dimension_numbers=("NHC", "HIO", "NHC")
    )  # fmt: skip


def stride_of(s):
    """Between the least stride and the largest, whatever the battery's numbers."""
    return 2 + 0.2 * s


def pooled(x, s):
    """Seven pixels to five, by NumPy's spectrum, in which frequencies -2 to -1 stand last."""
    spectrum = jnp.fft.fft(x, axis=1)
    kept = jnp.concatenate([spectrum[:, :3], spectrum[:, -2:]], 1)
    f = jnp.asarray([0, 1, 2, 2, 1], x.dtype)
    mask = jnp.clip((SMOOTHNESS + 7 / (2 * stride_of(s[0])) - f) / SMOOTHNESS, 0, 1)
    return jnp.fft.ifft(kept * mask[:, None].astype(kept.dtype), axis=1).real * 5 / 7


OPS = {
    "dcls_conv": Op(
        lambda x, w, p: dcls_conv(
            x, w, p, sigma=jnp.asarray(SIGMA, x.dtype), window=5, interpolation="gaussian"
        ),
        spaced, ((2, 6, 2), (2, 2, 3), (2, 1, 1, 1)), (0, 1),
    ),
    "spectral_pool": Op(
        lambda x, s: spectral_pool(x, stride_of(s), size=5, smoothness=SMOOTHNESS),
        pooled, ((2, 7, 2), (1,)), (0,),
    ),
}  # fmt: skip
