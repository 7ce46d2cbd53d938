"""Activations, regularisation and losses: small cases for the tests by property.

Random operations draw from one key; masks and labels follow the shape of x, so that every
transformation sees the operation as a function of arrays alone. Losses are cast to the dtype of x,
which they don't keep.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jconv import losses
from jconv.ops.drop_block import drop_block
from jconv.ops.dropout import (
    alpha_dropout,
    channel_dropout,
    dropout,
    gaussian_dropout,
    stochastic_depth,
)
from jconv.ops.epilogue import scale_bias_act
from jconv.ops.prelu import prelu
from tests.ops.operations import Op

RATE = 0.25
IMAGE = ((2, 3, 4, 2),)


def random(f, plain, linear=(0,)) -> Op:
    """`f(key, x)` and `plain(key, x)`, from one key."""
    fixed = lambda f: lambda x: f(jax.random.key(3), x)  # noqa: E731
    return Op(fixed(f), fixed(plain), IMAGE, linear)


def masked(shape):
    """Dropout with a mask of `shape(x)`."""

    def plain(key, x):
        mask = jax.random.bernoulli(key, 1 - RATE, shape(x))
        return x * mask.astype(x.dtype) / (1 - RATE)

    return plain


def blocks(key, x):
    """DropBlock with blocks of 2x3."""
    n, h, w, c = x.shape
    places = (n, h - 1, w - 2, c)
    seeds = jax.random.bernoulli(key, RATE * h * w / (6 * (h - 1) * (w - 2)), places)
    dropped = jnp.zeros(x.shape, bool)
    for i in range(2):
        for j in range(3):
            pads = ((0, 0), (i, 1 - i), (j, 2 - j), (0, 0))
            dropped |= jnp.pad(seeds, pads)
    mask = (~dropped).astype(x.dtype)
    return x * mask / mask.mean() if n else x


def alpha(key, x):
    mask = jax.random.bernoulli(key, 1 - RATE, x.shape)
    limit = -1.7580993408473766
    a = ((1 - RATE) * (1 + RATE * limit**2)) ** -0.5
    return a * jnp.where(mask, x, limit) - a * limit * RATE


def gaussian(key, x):
    noise = jax.random.normal(key, x.shape, float).astype(x.dtype)
    return x * (1 + (RATE / (1 - RATE)) ** 0.5 * noise)


LOGITS = (2, 3, 4)
WEIGHT = (1.0, 0.5, 2.0, 0.25)


def classes(x):
    """An integer label for each position of logits (N, 3, 4); the second is ignored."""
    return jnp.broadcast_to(jnp.asarray([2, -1, 0]), x.shape[:-1])


def signs(x):
    """A binary label for each logit of (N, 3, 4)."""
    return jnp.broadcast_to(jnp.asarray([1.0, 0.0, 1.0, 0.25], x.dtype), x.shape)


def plain_focal(x, gamma):
    labels = classes(x)
    p = jax.nn.softmax(x)
    right = jnp.take_along_axis(p, jnp.maximum(labels, 0)[..., None], -1)[..., 0]
    weight = jnp.asarray(WEIGHT, x.dtype)[jnp.maximum(labels, 0)]
    return jnp.where(labels < 0, 0, -weight * (1 - right) ** gamma * jnp.log(right))


def plain_binary(x, alpha, gamma):
    p, t = 1 / (1 + jnp.exp(-x)), signs(x)
    right = p * t + (1 - p) * (1 - t)
    entropy = -t * jnp.log(p) - (1 - t) * jnp.log(1 - p)
    return (alpha * t + (1 - alpha) * (1 - t)) * (1 - right) ** gamma * entropy


def of_targets(f):
    """A loss of x and of a target that is the same for every example."""
    return lambda x, target: f(x, jnp.broadcast_to(target, x.shape))


def loss(f, **options):
    """f(x, labels) of each position, in the dtype of x."""
    return lambda x, labels: f(x, labels, reduction="none", **options).astype(x.dtype)


def plain_softmax(x, target):
    smooth = 0.8 * target + 0.2 / x.shape[-1]
    return -jnp.sum(jnp.asarray(WEIGHT, x.dtype) * smooth * jnp.log(jax.nn.softmax(x)), -1)


def plain_dice(p, g):
    below = jnp.sum(p**2 + g**2, 1) + 0.5
    return 1 - (2 * jnp.sum(p * g, 1) + 0.5) / below


def plain_huber(x, target):
    d = jnp.abs(x - target)
    return jnp.where(d <= 0.7, d**2 / 2, 0.7 * (d - 0.35))


def excitation(x):
    """A gate for each example and channel, as squeeze and excitation makes it."""
    return 1 / (1 + jnp.exp(-x.mean((1, 2))))


def plain_excited(x, scale, bias):
    z = x * scale + bias
    u = (2 / np.pi) ** 0.5 * (z + 0.044715 * z**3)
    return excitation(x)[:, None, None] * z * (1 + jnp.tanh(u)) / 2


cross_entropy = loss(losses.softmax_cross_entropy, label_smoothing=0.2, weight=WEIGHT)
focal = loss(losses.softmax_focal, gamma=1.5, weight=WEIGHT, ignore_index=-1)
TWO = (LOGITS, LOGITS[1:])

OPS = {
    "prelu": Op(
        prelu, lambda x, slope: jnp.maximum(x, 0) + slope * jnp.minimum(x, 0),
        ((2, 2, 3), (3,)), (1,),
    ),
    "scale_bias_act_excited": Op(
        lambda x, scale, bias: scale_bias_act(
            x, scale, bias, activation="gelu", gate=excitation(x)
        ),
        plain_excited, (*IMAGE, (2,), (2,)), (),
    ),
    "drop_block": random(functools.partial(drop_block, rate=RATE, block_size=(2, 3)), blocks),
    "softmax_cross_entropy": Op(of_targets(cross_entropy), of_targets(plain_softmax), TWO, ()),
    "sigmoid_focal": Op(
        lambda x: loss(losses.sigmoid_focal)(x, signs(x)),
        lambda x: plain_binary(x, 0.25, 2.0), (LOGITS,), (),
    ),
    "dropout": random(functools.partial(dropout, rate=RATE), masked(lambda x: x.shape)),
    "channel_dropout": random(
        functools.partial(channel_dropout, rate=RATE),
        masked(lambda x: (x.shape[0], 1, 1, x.shape[-1])),
    ),
    "stochastic_depth": random(
        functools.partial(stochastic_depth, rate=RATE), masked(lambda x: (x.shape[0], 1, 1, 1))
    ),
    "gaussian_dropout": random(functools.partial(gaussian_dropout, rate=RATE), gaussian),
    "alpha_dropout": random(functools.partial(alpha_dropout, rate=RATE), alpha, ()),
    "softmax_focal": Op(
        lambda x: focal(x, classes(x)), lambda x: plain_focal(x, 1.5), (LOGITS,), ()
    ),
    "sigmoid_cross_entropy": Op(
        lambda x: 0.5 * loss(losses.sigmoid_cross_entropy)(x, signs(x)),
        lambda x: plain_binary(x, 0.5, 0.0), (LOGITS,), (),
    ),
    "dice": Op(of_targets(loss(losses.dice, smooth=0.5)), of_targets(plain_dice), TWO, ()),
    "mse": Op(of_targets(loss(losses.mse)), of_targets(lambda x, t: (x - t) ** 2), TWO, ()),
    "mae": Op(of_targets(loss(losses.mae)), of_targets(lambda x, t: jnp.abs(x - t)), TWO, ()),
    "huber": Op(of_targets(loss(losses.huber, delta=0.7)), of_targets(plain_huber), TWO, ()),
}  # fmt: skip
