"""Losses by definition, position by position, with the logarithms of plain probabilities.

References: Szegedy et al. 2016, arXiv:1512.00567 (label smoothing); Lin et al. 2017,
arXiv:1708.02002; Milletari et al. 2016, arXiv:1606.04797; Huber 1964.
"""

from __future__ import annotations

import math

import numpy as np


def softmax(logits):
    """Probabilities of a vector of logits: the largest is taken out, as exp(1000) is infinite."""
    powers = [math.exp(x - max(logits)) for x in logits]
    return [power / sum(powers) for power in powers]


def sigmoid(x):
    return softmax([x, 0.0])[0]


def log(p):
    return math.log(p) if p > 0 else -math.inf


def classification(
    logits, labels, *, label_smoothing=0.0, weight=None, ignore_index=None, mask=None, gamma=0.0
):
    """(losses (...), what the mean divides by): cross entropy, or focal loss with a gamma."""
    logits = np.asarray(logits).astype(np.float64)
    labels = np.asarray(labels)
    whole = np.issubdtype(labels.dtype, np.integer)
    classes = logits.shape[-1]
    weight = np.ones(classes) if weight is None else np.asarray(weight, np.float64)
    mask = np.broadcast_to(True if mask is None else mask, logits.shape[:-1])
    losses, total = np.zeros(logits.shape[:-1]), 0.0
    for place in np.ndindex(logits.shape[:-1]):
        if not mask[place] or (whole and labels[place] == ignore_index):
            continue
        target = np.eye(classes)[labels[place]] if whole else labels[place].astype(np.float64)
        total += weight[labels[place]] if whole else 1.0
        p = softmax(logits[place])
        right = sum(t * q for t, q in zip(target, p, strict=True))
        for c in range(classes):
            t = (1 - label_smoothing) * target[c] + label_smoothing / classes
            if t * weight[c]:
                losses[place] -= weight[c] * t * log(p[c]) * (1 - right) ** gamma
    return losses, total


def binary(logits, labels, *, positive_weight=1.0, alpha=None, gamma=0.0):
    """Losses of each logit: binary cross entropy, or focal loss with a gamma."""
    logits = np.asarray(logits).astype(np.float64)
    labels = np.asarray(labels).astype(np.float64)
    positive_weight = np.broadcast_to(np.asarray(positive_weight, np.float64), logits.shape)
    losses = np.zeros(logits.shape)
    for place in np.ndindex(logits.shape):
        p, t = sigmoid(logits[place]), labels[place]
        loss = 0.0
        if t:
            loss -= positive_weight[place] * t * log(p)
        if 1 - t:
            loss -= (1 - t) * log(sigmoid(-logits[place]))
        right = p * t + (1 - p) * (1 - t)
        share = 1.0 if alpha is None else alpha * t + (1 - alpha) * (1 - t)
        losses[place] = share * (1 - right) ** gamma * loss
    return losses


def dice(p, g, *, smooth, squared=True, over_batch=False, mask=None):
    """(N, C) or, over the batch, (C,), from p and g (N, *spatial, C)."""
    p, g = np.asarray(p).astype(np.float64), np.asarray(g).astype(np.float64)
    mask = np.broadcast_to(True if mask is None else mask, p.shape[:-1])
    regions = 1 if over_batch else p.shape[0]
    both, below = np.zeros((regions, p.shape[-1])), np.zeros((regions, p.shape[-1]))
    for place in np.ndindex(p.shape):
        if mask[place[:-1]]:
            region = (0 if over_batch else place[0], place[-1])
            both[region] += p[place] * g[place]
            power = 2 if squared else 1
            below[region] += p[place] ** power + g[place] ** power
    losses = 1 - (2 * both + smooth) / (below + smooth)
    return losses[0] if over_batch else losses


def huber(x, target, delta):
    d = np.abs(np.asarray(x).astype(np.float64) - np.asarray(target).astype(np.float64))
    return np.where(d <= delta, d**2 / 2, delta * (d - delta / 2))
