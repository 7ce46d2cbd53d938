"""Normalisation by responses: local response norm, filter response norm and its threshold.

    local response    y = x / (k + alpha/size * sum of x^2 over `size` channels)^beta
    filter response   y = x / sqrt(mean of x^2 over the pixels + epsilon) * scale + bias
    TLU               y = max(x, threshold)

Shapes: x (N, ..., C). Squares are summed in float32 or wider; y has the dtype of x.

References: Krizhevsky, Sutskever & Hinton 2012 (AlexNet, section 3.3); Singh & Krishnan 2019,
arXiv:1911.09737.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from jconv.ops.avg_pool import avg_pool
from jconv.ops.dtypes import at_least_float32
from jconv.ops.norm_arguments import affine, arrays_of, check_per_channel
from jconv.ops.standardize import standardized
from jconv.window import whole


def local_response_norm(
    x: jax.Array, size: int, *, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> jax.Array:
    """x (N, ..., C) divided by a power of the mean square of its neighbouring channels.

    As `torch.nn.functional.local_response_norm`: alpha multiplies the *mean* of `size` squares, of
    channels c - size // 2 to c + (size - 1) // 2, zero where there is none. AlexNet and
    `tf.nn.local_response_normalization` multiply the sum: their alpha is alpha / size here, so
    AlexNet's n=5, alpha=1e-4, beta=0.75, k=2 is (x, 5, alpha=5e-4, beta=0.75, k=2).

    Raises:
      ValueError: an x that is not floating point (N, ..., C), or a size that is no positive int.
    """
    (x,) = arrays_of("local_response_norm", x, 0)
    check_per_channel("local_response_norm", x, 2)
    size, axes = whole(size, "size", "local_response_norm"), x.ndim - 2
    wide = x.astype(at_least_float32(x.dtype))
    mean = avg_pool(
        lax.square(wide)[..., None], (*(1,) * axes, size), stride=1,
        padding=[*((0, 0),) * axes, (size // 2, (size - 1) // 2)],
    )[..., 0]  # fmt: skip
    return (wide / (k + alpha * mean) ** beta).astype(x.dtype)


def filter_response_norm(
    x: jax.Array,
    scale: jax.Array | None = None,
    bias: jax.Array | None = None,
    *,
    epsilon: float = 1e-6,
    learned_epsilon: jax.Array | None = None,
) -> jax.Array:
    """Each channel of each example of x (N, *spatial, C) over the root mean square of its pixels.

    Args:
      scale, bias: (C,); None leaves it out.
      learned_epsilon: (C,); its absolute value is added to epsilon, as the paper has it where few
        pixels are left.

    Raises:
      ValueError: shapes or dtypes that don't fit each other, or a negative epsilon.
    """
    op = "filter_response_norm"
    x, scale, bias, learned = arrays_of(op, x, epsilon, scale, bias, learned_epsilon)
    check_per_channel(op, x, 3, scale=scale, bias=bias, learned_epsilon=learned)
    pixels = tuple(range(1, x.ndim - 1))
    if learned is None:
        return standardized(op, x, pixels, epsilon, scale=scale, bias=bias, centre=False)[0]
    wide = x.astype(at_least_float32(x.dtype))
    square = jnp.mean(lax.square(wide), pixels, keepdims=True)
    y = wide * lax.rsqrt(square + epsilon + jnp.abs(learned.astype(wide.dtype)))
    return affine(y, scale, bias).astype(x.dtype)


def tlu(x: jax.Array, threshold: jax.Array) -> jax.Array:
    """max(x, threshold) for x (N, ..., C) and a threshold (C,); at a tie each gets half a gradient.

    Raises:
      ValueError: shapes or dtypes that don't fit each other.
    """
    x, threshold = arrays_of("tlu", x, 0, threshold)
    check_per_channel("tlu", x, 2, threshold=threshold)
    return jnp.maximum(x, threshold.astype(x.dtype))
