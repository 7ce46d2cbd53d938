"""The normalisations beside their plain formulations, for the tests by property."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import lax

from jconv.ops.layer_norms import group_norm, instance_norm, layer_norm, rms_norm
from jconv.ops.norm import batch_norm, normalize
from jconv.ops.response_norms import filter_response_norm, local_response_norm, tlu
from jconv.ops.weight_norms import filter_norms, spectral_norm, weight_norm, weight_standardize
from tests.ops.operations import Op

MASK = np.array([[True, True, False], [False, True, True]])[..., None]


def over(x, axes, epsilon=1e-5, mask=True, centre=True):
    """(y, mean, variance) over `axes` where `mask` is true, by means of means."""
    counted = jnp.broadcast_to(mask, x.shape).astype(x.dtype)
    count = jnp.maximum(jnp.sum(counted, axes, keepdims=True), 1)

    def mean_of(t):
        return jnp.sum(jnp.where(mask, t, 0), axes, keepdims=True) / count

    mean = mean_of(x) if centre else 0
    variance = mean_of((x - mean) ** 2)
    return (
        (x - mean) / jnp.sqrt(variance + epsilon),
        mean,
        variance * (count / jnp.maximum(count - 1, 1)),
    )


def grouped(x, scale, bias):
    split = x.reshape(*x.shape[:-1], 2, x.shape[-1] // 2)
    return over(split, (1, 2, 4))[0].reshape(x.shape) * scale + bias


def batched(x, scale, bias):
    y, mean, variance = over(x, (0, 1, 2), mask=MASK)
    return y * scale + bias, mean.ravel(), variance.ravel()


def divided_by_neighbours(x):
    squares = jnp.pad(x**2, ((0, 0), (0, 0), (1, 1)))
    mean = sum(squares[..., i : i + x.shape[-1]] for i in range(3)) / 3
    return x / (2 + 0.5 * mean) ** 0.75


def with_learned_epsilon(x, scale, bias, learned):
    y = x / jnp.sqrt(jnp.mean(x**2, (1, 2), keepdims=True) + 0.1 + abs(learned - 2))
    return y * scale + bias


def rectified(z):
    return jnp.where(z > 0, z, 0)


IMAGES = ((2, 2, 3, 2), (2,), (2,))

OPS = {
    "layer_norm": Op(
        layer_norm, lambda x, s, b: over(x, -1)[0] * s + b, ((2, 3, 4), (4,), (4,)), ()
    ),
    "layer_norm_masked": Op(
        lambda x, s, b: layer_norm(x, s, b, axes=(1, 2, 3), mask=MASK),
        lambda x, s, b: over(x, (1, 2, 3), mask=MASK)[0] * s + b,
        ((2, 2, 3, 2), (2, 3, 2), (3, 2)), (),
    ),
    "instance_norm": Op(instance_norm, lambda x, s, b: over(x, (1, 2))[0] * s + b, IMAGES, ()),
    "group_norm": Op(
        lambda x, s, b: group_norm(x, s, b, groups=2), grouped, ((2, 2, 2, 4), (4,), (4,)), ()
    ),
    "rms_norm": Op(
        rms_norm, lambda x, s: over(x, -1, 1e-6, centre=False)[0] * s, ((2, 3, 4), (4,)), ()
    ),
    "rms_norm_masked": Op(
        lambda x, s: rms_norm(x, s, axes=(1, 2), mask=MASK[..., 0]),
        lambda x, s: over(x, (1, 2), 1e-6, MASK[..., 0], centre=False)[0] * s,
        ((2, 2, 3), (3,)), (),
    ),
    "batch_norm_masked": Op(
        lambda x, s, b: batch_norm(x, s, b, mask=MASK, correction=1), batched, IMAGES, ()
    ),
    "batch_norm_relu": Op(
        lambda x, s, b: batch_norm(x, s, b, activation="relu")[0],
        lambda x, s, b: rectified(over(x, (0, 1, 2))[0] * s + b), IMAGES, (),
    ),
    "instance_norm_relu6": Op(
        lambda x, s, b: instance_norm(x, s, 6 * b, activation="relu6"),
        lambda x, s, b: 6 - rectified(6 - rectified(over(x, (1, 2))[0] * s + 6 * b)), IMAGES, (),
    ),
    "normalize": Op(
        lambda x, mean, v, s, b: normalize(x, mean, v**2 + 1, s, b),
        lambda x, mean, v, s, b: (x - mean) / jnp.sqrt(v**2 + 1 + 1e-5) * s + b,
        ((2, 3, 2), (2,), (2,), (2,), (2,)), (),
    ),
    "local_response_norm": Op(
        lambda x: local_response_norm(x, 3, alpha=0.5, k=2.0), divided_by_neighbours,
        ((2, 2, 4),), (),
    ),
    "filter_response_norm": Op(
        lambda x, s, b: filter_response_norm(x, s, b, epsilon=0.1),
        lambda x, s, b: over(x, (1, 2), 0.1, centre=False)[0] * s + b, IMAGES, (),
    ),
    "filter_response_norm_learned": Op(  # away from the kink of |e| at 0
        lambda x, s, b, e: filter_response_norm(x, s, b, epsilon=0.1, learned_epsilon=e - 2),
        with_learned_epsilon, (*IMAGES, (2,)), (),
    ),
    "tlu": Op(tlu, jnp.maximum, ((2, 3, 2), (2,)), ()),
    "weight_norm": Op(
        weight_norm,
        lambda v, g: v / jnp.sqrt(jnp.sum(v**2, (0, 1)) + 1e-12) * g, ((2, 3, 4), (4,)), (),
    ),
    "filter_norms": Op(filter_norms, lambda v: jnp.sqrt(jnp.sum(v**2, (0, 1))), ((2, 3, 4),), ()),
    "weight_standardize": Op(weight_standardize, lambda w: over(w, (0, 1))[0], ((2, 3, 4),), ()),
}  # fmt: skip


def one_step(w, u):
    """Derivatives hold u and v constant."""
    matrix = w.reshape(-1, w.shape[-1])
    v = lax.stop_gradient(matrix) @ u
    v /= jnp.maximum(jnp.linalg.norm(v), 1e-12)
    u = v @ matrix
    u, v = lax.stop_gradient((u / jnp.maximum(jnp.linalg.norm(u), 1e-12), v))
    return w / (v @ matrix @ u), u


# The derivatives of spectral norm are not those of its value: numerical ones differ. Its sigma, a
# number, has no axis to be sharded along.
CONSTANTS_INSIDE = {
    "spectral_norm": Op(lambda w, u: spectral_norm(w, u)[:2], one_step, ((2, 3, 4), (4,)), ())
}
OPS |= CONSTANTS_INSIDE
