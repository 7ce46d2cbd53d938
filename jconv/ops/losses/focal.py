"""Focal loss: cross entropy with the weight (1 - p_t)^gamma, small where the network is right.

    softmax    - w[y] (1 - p[y])^gamma log p[y]                       p = softmax(x)
    sigmoid    - a_t (1 - p_t)^gamma log p_t                          p = sigmoid(x)
               p_t = t p + (1 - t) (1 - p),  a_t = t alpha + (1 - t) (1 - alpha)

One formula: with targets t (..., C), 1 - p_t is the sum over c of (1 - t[c]) p[c], of which the
sigmoid's is the case of the two classes (p, 1 - p). It is kept as a logarithm, the logsumexp of
log p[c] + log(1 - t[c]), so that nothing cancels where p_t is near 1, and the power has derivatives
of every order there, for every gamma.

Computed and returned in float32 or wider. Labels are data: no gradient flows into them.

Reference: Lin et al. 2017, arXiv:1708.02002.
"""

from __future__ import annotations

import numbers

import jax
import jax.numpy as jnp
from jax import lax

from jconv.ops.losses.cross_entropy import cross_entropy, importance_of
from jconv.ops.losses.reduction import check_reduction, only, pair, reduced
from jconv.ops.losses.targets import targets_of, weight_of
from jconv.ops.mask import mask_of


def softmax_focal(
    logits: jax.Array,
    labels: jax.Array,
    *,
    gamma: float = 2.0,
    weight: jax.Array | None = None,
    ignore_index: int | None = None,
    mask: jax.Array | None = None,
    reduction: str = "mean",
) -> jax.Array:
    """The focal loss of logits (..., C): a number, or one for each position (...).

    With gamma=0 it is `softmax_cross_entropy`, whose arguments are meant here too; `weight` is the
    paper's alpha.

    Raises:
      ValueError: shapes, dtypes or arguments that don't fit each other.
    """
    op = "softmax_focal"
    check_reduction(op, reduction)
    x, target, counted = targets_of(op, "logits", logits, labels, ignore_index, mask)
    weight, target = weight_of(op, weight, x), lax.stop_gradient(target)
    losses = _focal(jax.nn.log_softmax(x), target, gamma, weight)
    return reduced(losses, counted, reduction, importance_of(labels, target, weight))


def sigmoid_focal(
    logits: jax.Array,
    labels: jax.Array,
    *,
    alpha: float | None = 0.25,
    gamma: float = 2.0,
    mask: jax.Array | None = None,
    reduction: str = "mean",
) -> jax.Array:
    """The focal loss of each logit by itself: a number, or one for each logit.

    As `torchvision.ops.sigmoid_focal_loss`, whose default reduction is "none". The paper divides
    the sum by the number of boxes that are assigned to an object.

    Args:
      labels: of the logits' shape: booleans, or numbers in [0, 1].
      alpha: the weight of what is positive, 1 - alpha that of what is not; None is 1 for both.
      mask: booleans that broadcast to the logits: only where it is true do they count.

    Raises:
      ValueError: shapes, dtypes or arguments that don't fit each other.
    """
    op = "sigmoid_focal"
    check_reduction(op, reduction)
    if isinstance(alpha, numbers.Real) and not 0 <= alpha <= 1:
        raise ValueError(f"{op}: alpha must be from 0 to 1, or None; got alpha={alpha}")
    x, target = pair(op, "logits", logits, "labels", labels)
    counted = mask_of(op, mask, x.shape)
    x, target = only(counted, x), lax.stop_gradient(only(counted, target))
    logp = jnp.stack([jax.nn.log_sigmoid(x), jax.nn.log_sigmoid(-x)], -1)
    losses = _focal(logp, jnp.stack([target, 1 - target], -1), gamma, None)
    if alpha is not None:
        losses = losses * (target * alpha + (1 - target) * (1 - alpha))
    return reduced(losses, counted, reduction)


def _focal(logp, target, gamma, weight):
    """(1 - p_t)^gamma times the cross entropy, (...); 0 where no other class is possible."""
    others = logp + jnp.log1p(-target)
    possible = jnp.max(others, -1) > -jnp.inf
    # Zeros in place of what is not chosen: a logsumexp of nothing has no derivative.
    log = jax.nn.logsumexp(jnp.where(possible[..., None], others, 0), -1)
    return jnp.where(possible, jnp.exp(gamma * log), 0) * cross_entropy(logp, target, weight)
