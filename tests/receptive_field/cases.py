"""Functions of x (1, 24, 24, 4) whose fields are known along both axes."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

import jconv

X = jax.ShapeDtypeStruct((1, 24, 24, 4), "float32")
W = jnp.ones((3, 3, 4, 4))
HALF = Fraction(1, 2)


class Case(NamedTuple):
    fn: Callable[[jax.Array], Any]
    size: int
    stride: int | Fraction
    padding: int


def norm(op, **options):
    return lambda x: op(x, jnp.ones(4), jnp.zeros(4), **options)


def conv(x, **options):
    return jconv.conv(x, W, **options)


def windowed_attention(x):
    """In windows of 4 x 4, as Swin's: partition, attention, and back."""
    n, h, w, c = x.shape
    y = x.reshape(n, h // 4, 4, w // 4, 4, c).transpose(0, 1, 3, 2, 4, 5).reshape(-1, 16, c)
    weights = jax.nn.softmax(jnp.einsum("nqc,nkc->nqk", y, y), -1)
    y = jnp.einsum("nqk,nkc->nqc", weights, y)
    return y.reshape(n, h // 4, w // 4, 4, 4, c).transpose(0, 1, 3, 2, 4, 5).reshape(x.shape)


def up(x):
    return jconv.conv_transpose(x, jnp.ones((2, 2, 4, 4)), stride=2, padding="VALID")


def by_taps(x):
    """A convolution written by hand: what it adds are taps, and as branches misaligned."""
    return x[:, :-2, :-2] + x[:, 1:-1, 1:-1] + x[:, 2:, 2:]


CASES = {
    "conv": Case(conv, 3, 1, 1),
    "strided": Case(lambda x: conv(x, stride=2), 3, 2, 0),
    "padded": Case(lambda x: conv(x, stride=2, padding=1), 3, 2, 1),
    "dilated": Case(lambda x: conv(x, dilation=3), 7, 1, 3),
    "reflected": Case(lambda x: conv(x, padding_mode="reflect"), 3, 1, 1),
    "grouped": Case(lambda x: jconv.conv(x, jnp.ones((3, 3, 2, 4)), groups=2), 3, 1, 1),
    "lax": Case(lambda x: lax.conv(x.transpose(0, 3, 1, 2), W.T, (2, 2), "VALID")[0, 0], 3, 2, 0),
    "conv_transpose": Case(
        lambda x: jconv.conv_transpose(x, jnp.ones((4, 4, 4, 4)), stride=2), 2, HALF, 1
    ),
    "pooled and back": Case(lambda x: up(jconv.max_pool(x, 2)), 2, 1, 1),
    "local": Case(
        lambda x: jconv.conv_local(x, jnp.ones((22, 22, 3, 3, 4, 4)), padding="VALID"), 3, 1, 0
    ),
    "max_pool": Case(lambda x: jconv.max_pool(x, 3, stride=2, padding=1), 3, 2, 1),
    "avg_pool": Case(lambda x: jconv.avg_pool(x, 2), 2, 2, 0),
    "blur_pool": Case(lambda x: jconv.blur_pool(x, stride=2), 3, 2, 1),
    "adaptive": Case(lambda x: jconv.adaptive_avg_pool(x, 6), 4, 4, 0),
    "global_pool": Case(jconv.global_avg_pool, 24, 0, 0),
    "batch_norm": Case(lambda x: norm(jconv.batch_norm)(x)[0], 24, 0, 0),
    "group_norm": Case(norm(jconv.group_norm, groups=2), 24, 0, 0),
    "layer_norm": Case(norm(jconv.layer_norm), 1, 1, 0),
    "excited": Case(lambda x: x * jconv.global_avg_pool(x, keepdims=True), 24, 0, 0),
    "nearest": Case(lambda x: jconv.resize(x, (48, 48)), 1, HALF, 0),
    "linear": Case(lambda x: jconv.resize(x, (48, 48), method="linear"), 2, HALF, 1),
    "smaller": Case(
        lambda x: jconv.resize(x, (12, 12), method="linear", antialias=True), 4, 2, 1
    ),
    "jax nearest": Case(lambda x: jax.image.resize(x, (1, 48, 48, 4), "nearest"), 1, HALF, 0),
    "jax linear": Case(lambda x: jax.image.resize(x, (1, 48, 48, 4), "linear"), 2, HALF, 1),
    "pixel_shuffle": Case(lambda x: jconv.pixel_shuffle(x, 2), 1, HALF, 0),
    "unshuffled": Case(
        lambda x: jconv.conv(jconv.pixel_unshuffle(x, 2), jnp.ones((3, 3, 16, 4))), 6, 2, 2
    ),
    "unfold": Case(lambda x: jconv.unfold(x, 3), 3, 1, 0),
    "attention": Case(windowed_attention, 4, 1, 0),
    "attention, conv": Case(lambda x: conv(windowed_attention(x)), 8, 1, 4),
    "repeated": Case(lambda x: jnp.repeat(jnp.repeat(x, 2, 1), 2, 2), 1, HALF, 0),
    "taps": Case(by_taps, 3, 1, 0),
    "flipped": Case(lambda x: x[:, ::-1, ::-1], 1, -1, -23),
    "scan": Case(lambda x: lax.scan(lambda c, _: (conv(c), None), x, None, length=5)[0], 11, 1, 5),
    "fori_loop": Case(lambda x: lax.fori_loop(0, 5, lambda i, c: conv(c), x), 11, 1, 5),
    "cond": Case(lambda x: lax.cond(jnp.array(0.0) > 1, lambda v: v, conv, x), 3, 1, 1),
    "cumsum": Case(lambda x: jnp.cumsum(jnp.cumsum(x, 1), 2), 24, HALF, 0),
    "vmap": Case(jax.vmap(lambda v: conv(v[None])[0]), 3, 1, 1),
    "remat": Case(jax.checkpoint(lambda x: conv(jax.nn.gelu(x))), 3, 1, 1),
    "jit": Case(jax.jit(lambda x: conv(jax.nn.relu(conv(x)))), 5, 1, 2),
    "gradient": Case(lambda x: jax.grad(lambda v: (conv(v, stride=2) ** 2).sum())(x), 5, 1, 2),
    "gradient of max_pool": Case(
        lambda x: jax.grad(lambda v: (jconv.max_pool(v, 3, stride=2) ** 2).sum())(x), 5, 1, 2
    ),
    "gradient of ties": Case(
        lambda x: jax.grad(lambda v: (jconv.max_pool(v, 2, ties="shared") ** 2).sum())(x), 2, 1, 1
    ),
    "gradient of lax's pool": Case(
        lambda x: jax.grad(
            lambda v: lax.reduce_window(
                v, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID"
            ).sum()
        )(x),
        2, 1, 1,
    ),
    "fft": Case(lambda x: jnp.fft.fft2(x, axes=(1, 2)).real, 24, 0, 0),
    "sorted": Case(lambda x: jnp.sort(x, (1)).sum(2), 24, 0, 0),
    "updated": Case(lambda x: x.at[:, 2:5].set(0.0), 1, 1, 0),
}  # fmt: skip
