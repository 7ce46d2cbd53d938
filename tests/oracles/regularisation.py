"""Dropout and its relatives by definition, on masks that are given.

References: Srivastava et al. 2014; Ghiasi, Lin & Le 2018, arXiv:1810.12890, algorithm 1; Klambauer
et al. 2017, arXiv:1706.02515, section "New dropout technique".
"""

from __future__ import annotations

import itertools

import numpy as np

SELU_ALPHA = 1.6732632423543772848170429916717
SELU_SCALE = 1.0507009873554804934193349852946


def dropout(x, mask, rate):
    """x / (1 - rate) where the mask, which broadcasts to x, is true, else 0."""
    x = np.asarray(x).astype(np.float64)
    mask = np.broadcast_to(mask, x.shape)
    y = np.zeros(x.shape)
    for place in np.ndindex(x.shape):
        if mask[place]:
            y[place] = x[place] / (1 - rate)
    return y


def alpha_dropout(x, mask, rate):
    """a (x m + limit (1 - m)) + b, of mean 0 and variance 1 where x is."""
    x, q = np.asarray(x).astype(np.float64), 1 - rate
    limit = -SELU_SCALE * SELU_ALPHA
    a = (q + limit**2 * q * (1 - q)) ** -0.5
    b = -a * (1 - q) * limit
    y = np.empty(x.shape)
    for place in np.ndindex(x.shape):
        y[place] = a * (x[place] if mask[place] else limit) + b
    return y


def gamma(image, block, rate):
    """The probability of a seed."""
    places = [n - r + 1 for n, r in zip(image, block, strict=True)]
    return rate * np.prod(image) / (np.prod(block) * np.prod(places))


def drop_block(x, seeds, block):
    """x (N, *spatial, C); seeds (N, *places, C): each drops the block whose first pixel it is."""
    x = np.asarray(x).astype(np.float64)
    mask = np.ones(x.shape)
    for n, *first, c in np.argwhere(seeds):
        for tap in itertools.product(*map(range, block)):
            mask[(n, *(i + t for i, t in zip(first, tap, strict=True)), c)] = 0
    ones = sum(mask.ravel())
    return x * mask * (mask.size / ones) if ones else np.zeros(x.shape)
