"""One small case of every relative of convolution beside its plain formulation."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jconv.ops.blur_pool import blur_pool
from jconv.ops.conv_local import conv_local
from jconv.ops.conv_matrix import conv_matrix
from jconv.ops.conv_spectrum import conv_norm_bound, conv_singular_values
from jconv.ops.fft_conv import fft_conv
from jconv.ops.partial_conv import partial_conv
from jconv.ops.separable_conv import depthwise_conv, separable_conv
from jconv.ops.unfold import fold, unfold
from tests.ops.operations import Op

NUMBERS = ("NHWC", "HWIO", "NHWC")
MASK = np.random.default_rng(0).integers(0, 2, (1, 4, 3, 1))


def xla(x, w, stride=(1, 1), padding="SAME", groups=1):
    return lax.conv_general_dilated(
        x, w, stride, padding, feature_group_count=groups, dimension_numbers=NUMBERS
    )


def patches(x):
    """3x2 windows at stride (2, 1), taps before channels; x must be free of NaN."""
    u = lax.conv_general_dilated_patches(x, (3, 2), (2, 1), "VALID", dimension_numbers=NUMBERS)
    return jnp.moveaxis(u.reshape(*u.shape[:-1], x.shape[-1], 3, 2), -3, -1)


def added(u):
    """The adjoint of `patches` for images of 5x3."""
    taps = [
        lax.pad(u[:, :, :, r, s], jnp.zeros((), u.dtype), config(r, s)) for r, s in np.ndindex(3, 2)
    ]
    return functools.reduce(jnp.add, taps)


def config(r, s):
    return [(0, 0, 0), (r, 2 - r, 1), (s, 1 - s, 0), (0, 0, 0)]


def local(x, w):
    filters = jnp.moveaxis(w, -2, 2).reshape(*w.shape[:2], -1, w.shape[-1])
    return lax.conv_general_dilated_local(
        x, filters, (1, 1), "VALID", (3, 2), dimension_numbers=NUMBERS
    )


def scaled(x, w, b):
    mask = jnp.asarray(MASK, x.dtype)
    held = xla(mask, jnp.ones((3, 3, 1, 1), x.dtype))
    y = xla(x * mask, w) * 9 / jnp.where(held == 0, 1, held) + b
    return jnp.where(held > 0, y, 0)


def blurred(x):
    """[1 2 1] / 4 along each axis of a reflected image, at stride 2."""
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), "reflect")
    f = jnp.outer(jnp.array([1, 2, 1], x.dtype), jnp.array([1, 2, 1], x.dtype)) / 16
    f = jnp.tile(f[:, :, None, None], (1, 1, 1, x.shape[-1]))
    return xla(x, f, (2, 2), "VALID", x.shape[-1])


def matrix(w):
    """What the convolution does to each unit image of 3x2 pixels."""
    units = jnp.eye(6 * w.shape[-2], dtype=w.dtype).reshape(-1, 3, 2, w.shape[-2])
    return xla(units, w).reshape(units.shape[0], -1).T


def singular_values(w):
    return jnp.linalg.svd(jnp.fft.fft(w, 4, 0), compute_uv=False)


def two_norms(w):
    r, c, k = w.shape
    layouts = w.reshape(r * c, k), w.transpose(0, 2, 1).reshape(r * k, c)
    norms = [jnp.linalg.svd(a, compute_uv=False)[0] for a in layouts]
    return jnp.sqrt(r * 1.0).astype(w.dtype) * jnp.minimum(*norms)


# What takes a filter alone has examples by vmap.
OPS = {
    "unfold": Op(
        functools.partial(unfold, window=(3, 2), stride=(2, 1)), patches, ((2, 5, 3, 2),), (0,)
    ),
    "fold": Op(
        functools.partial(fold, spatial=(5, 3), stride=(2, 1)),
        added, ((2, 2, 2, 3, 2, 2),), (0,),
    ),
    "conv_local": Op(
        functools.partial(conv_local, padding="VALID"),
        local, ((2, 4, 3, 2), (2, 2, 3, 2, 2, 2)), (0, 1),
    ),
    "depthwise_conv": Op(
        depthwise_conv, lambda x, w: xla(x, w, groups=2), ((2, 4, 3, 2), (3, 2, 1, 4)), (0, 1)
    ),
    "separable_conv": Op(
        separable_conv, lambda x, d, p: xla(xla(x, d, groups=2), p),
        ((2, 4, 3, 2), (3, 2, 1, 4), (1, 1, 4, 2)), (0, 1, 2),
    ),
    "partial_conv": Op(
        lambda x, w, b: partial_conv(x, MASK, w, b)[0],
        scaled, ((2, 4, 3, 2), (3, 3, 2, 2), (2,)), (),
    ),
    "fft_conv": Op(
        functools.partial(fft_conv, stride=(2, 1), groups=2),
        functools.partial(xla, stride=(2, 1), groups=2), ((2, 4, 3, 4), (3, 2, 2, 2)), (0, 1),
    ),
    "blur_pool": Op(blur_pool, blurred, ((2, 5, 4, 2),), (0,)),
    "conv_matrix": Op(
        jax.vmap(functools.partial(conv_matrix, spatial=(3, 2))),
        jax.vmap(matrix), ((2, 3, 2, 2, 2),), (0,),
    ),
    "conv_singular_values": Op(
        jax.vmap(functools.partial(conv_singular_values, spatial=4)),
        jax.vmap(singular_values), ((2, 3, 2, 2),), (),
    ),
    "conv_norm_bound": Op(jax.vmap(conv_norm_bound), jax.vmap(two_norms), ((2, 3, 2, 2),), ()),
}  # fmt: skip
