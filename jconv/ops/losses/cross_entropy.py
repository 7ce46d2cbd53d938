"""Cross entropy in nats, of classes that exclude each other (softmax) and that do not (sigmoid).

    softmax    - sum over c of  w[c] t[c] log p[c]                    p = softmax(x)
    sigmoid    - (v t log p + (1 - t) log(1 - p))                     p = sigmoid(x)

Shapes: logits x (..., C) with any leading axes, t their targets, w (C,) weights of the classes, v
the weight of what is positive. Logarithms are taken of sums of exponentials with the largest taken
out, never of a probability: any finite logit is good, and minus infinity is an impossible class.
0 log 0 is 0. Derivatives, of any order, are those of the formula: d/dx = softmax(x) - t.

Computed, and returned, in float32 or wider, whatever the dtype of x: sums overflow in float16.
"""

from __future__ import annotations

import numbers

import jax
import jax.numpy as jnp

from jconv.ops.losses.reduction import (
    check_reduction,
    floating,
    only,
    pair,
    reduced,
)
from jconv.ops.losses.targets import targets_of, weight_of
from jconv.ops.mask import broadcasts, mask_of


def softmax_cross_entropy(
    logits: jax.Array,
    labels: jax.Array,
    *,
    label_smoothing: float = 0.0,
    weight: jax.Array | None = None,
    ignore_index: int | None = None,
    mask: jax.Array | None = None,
    reduction: str = "mean",
) -> jax.Array:
    """The cross entropy of logits (..., C): a number, or one for each position (...).

    As `torch.nn.functional.cross_entropy`, classes last.

    Args:
      labels: integers (...) in [0, C), or probabilities (..., C). An integer that is no class gives
        NaN.
      label_smoothing: in [0, 1]: the targets are (1 - label_smoothing) t + label_smoothing / C.
      weight: (C,), one for each class.
      ignore_index: positions with this label don't count.
      mask: booleans that broadcast to (...): only where it is true do positions count.
      reduction: "mean" divides the sum by the weights of the labels, 1 each without `weight`; for
        probabilities by the number of positions, as PyTorch does. It is NaN where nothing counts.

    Raises:
      ValueError: shapes, dtypes or arguments that don't fit each other.

    Reference of label smoothing: Szegedy et al. 2016, arXiv:1512.00567.
    """
    op = "softmax_cross_entropy"
    check_reduction(op, reduction)
    if isinstance(label_smoothing, numbers.Real) and not 0 <= label_smoothing <= 1:
        raise ValueError(
            f"{op}: label_smoothing must be from 0 to 1; got label_smoothing={label_smoothing}"
        )
    x, target, counted = targets_of(op, "logits", logits, labels, ignore_index, mask)
    weight = weight_of(op, weight, x)
    smoothed = (1 - label_smoothing) * target + label_smoothing / x.shape[-1]
    losses = cross_entropy(jax.nn.log_softmax(x), smoothed, weight)
    return reduced(losses, counted, reduction, importance_of(labels, target, weight))


def sigmoid_cross_entropy(
    logits: jax.Array,
    labels: jax.Array,
    *,
    positive_weight: jax.Array | None = None,
    mask: jax.Array | None = None,
    reduction: str = "mean",
) -> jax.Array:
    """The cross entropy of each logit by itself: a number, or one for each logit.

    As `torch.nn.functional.binary_cross_entropy_with_logits`.

    Args:
      labels: of the logits' shape: booleans, or numbers in [0, 1].
      positive_weight: broadcasts to the logits; such as (C,): negatives over positives.
      mask: booleans that broadcast to the logits: only where it is true do they count.

    Raises:
      ValueError: shapes, dtypes or arguments that don't fit each other.
    """
    op = "sigmoid_cross_entropy"
    check_reduction(op, reduction)
    x, target = pair(op, "logits", logits, "labels", labels)
    counted = mask_of(op, mask, x.shape)
    x, target = only(counted, x), only(counted, target)
    positive = target
    if positive_weight is not None:
        weight = floating(op, "positive_weight", positive_weight)
        if not broadcasts(weight.shape, x.shape):
            raise ValueError(
                f"{op}: positive_weight must broadcast to the logits; got positive_weight "
                f"{weight.shape}, logits {x.shape}"
            )
        positive = target * weight.astype(x.dtype)
    losses = -times(positive, jax.nn.log_sigmoid(x)) - times(1 - target, jax.nn.log_sigmoid(-x))
    return reduced(losses, counted, reduction)


def cross_entropy(logp: jax.Array, target: jax.Array, weight: jax.Array | None) -> jax.Array:
    """- sum over c of weight[c] target[c] logp[c], (...)."""
    return -jnp.sum(times(target if weight is None else target * weight, logp), -1)


def times(factor: jax.Array, log: jax.Array) -> jax.Array:
    """factor * log, in which 0 times minus infinity is 0."""
    return factor * jnp.where((factor == 0) & (log == -jnp.inf), 0, log)


def importance_of(
    labels: jax.Array, target: jax.Array, weight: jax.Array | None
) -> jax.Array | None:
    """What a mean divides by: the weight of each integer label; None: 1 for each position."""
    if weight is None or jnp.issubdtype(jnp.asarray(labels).dtype, jnp.floating):
        return None
    return jnp.sum(target * weight, -1)
