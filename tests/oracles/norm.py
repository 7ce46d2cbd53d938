"""Normalisations by definition: the numbers that belong together are gathered, then their mean,
then the mean of the squared deviations from it.

References: Ioffe & Szegedy 2015, arXiv:1502.03167, algorithm 1; Wu & He 2018, arXiv:1803.08494,
section 3.1; Zhang & Sennrich 2019, arXiv:1910.07467; Krizhevsky et al. 2012, section 3.3, with
alpha as in PyTorch; Singh & Krishnan 2019, arXiv:1911.09737; Salimans & Kingma 2016,
arXiv:1602.07868; Miyato et al. 2018, arXiv:1802.05957, algorithm 1; Qiao et al. 2019,
arXiv:1903.10520. All variances are biased.
"""

from __future__ import annotations

import math

import numpy as np


def batch_norm(x, scale, bias, *, epsilon=1e-5, mask=None):
    """(y, mean, variance) of x (..., C); positions whose `mask` (...,) is false have no part in the
    statistics.
    """
    x = np.asarray(x).astype(np.float64)
    scale, bias = np.asarray(scale).astype(np.float64), np.asarray(bias).astype(np.float64)
    counted = np.ones(x.shape[:-1], bool) if mask is None else np.broadcast_to(mask, x.shape[:-1])
    mean, variance = np.zeros(x.shape[-1]), np.zeros(x.shape[-1])
    for c in range(x.shape[-1]):
        values = x[..., c][counted]
        mean[c] = sum(values) / len(values)
        variance[c] = sum((values - mean[c]) ** 2) / len(values)
    return (x - mean) / np.sqrt(variance + epsilon) * scale + bias, mean, variance


def standardized(x, set_of, *, epsilon, mask=None, centre=True):
    """x where `set_of(index)` names the set that the number at an index is normalised with."""
    x = np.asarray(x).astype(np.float64)
    counted = np.ones(x.shape, bool) if mask is None else np.broadcast_to(mask, x.shape)
    sets = {}
    for i in np.ndindex(x.shape):
        sets.setdefault(set_of(i), []).append(i)
    y = np.zeros(x.shape)
    for indices in sets.values():
        values = [x[i] for i in indices if counted[i]]
        mean = sum(values) / len(values) if centre else 0.0
        variance = sum((value - mean) ** 2 for value in values) / len(values)
        for i in indices:
            y[i] = (x[i] - mean) / math.sqrt(variance + epsilon)
    return y


def layer_norm(x, axes, *, epsilon, mask=None, centre=True):
    """Over `axes`: together are the numbers whose other indices are the same."""

    def set_of(i):
        return tuple(index for axis, index in enumerate(i) if axis not in axes)

    return standardized(x, set_of, epsilon=epsilon, mask=mask, centre=centre)


def group_norm(x, groups, *, epsilon, mask=None):
    """Wu & He's equation 7: the same example, the same floor(k / (C / G))."""
    size = np.shape(x)[-1] // groups
    return standardized(x, lambda i: (i[0], i[-1] // size), epsilon=epsilon, mask=mask)


def local_response_norm(x, size, *, alpha, beta, k):
    """Each number over (k + alpha * the mean of the squares of `size` channels)^beta."""
    x = np.asarray(x).astype(np.float64)
    y = np.zeros(x.shape)
    for *at, c in np.ndindex(x.shape):
        total = 0.0
        for neighbour in range(c - size // 2, c + (size - 1) // 2 + 1):
            if 0 <= neighbour < x.shape[-1]:
                total += x[(*at, neighbour)] ** 2
        y[(*at, c)] = x[(*at, c)] / (k + alpha * total / size) ** beta
    return y


def filter_response_norm(x, scale, bias, *, epsilon):
    """epsilon: one number, or one for each channel."""
    x = np.asarray(x).astype(np.float64)
    scale, bias = np.asarray(scale).astype(np.float64), np.asarray(bias).astype(np.float64)
    epsilon = np.broadcast_to(np.asarray(epsilon, np.float64), x.shape[-1:])
    y = np.zeros(x.shape)
    for n in range(x.shape[0]):
        for c in range(x.shape[-1]):
            values = x[n, ..., c]
            square = sum(value**2 for value in values.ravel()) / values.size
            y[n, ..., c] = values / math.sqrt(square + epsilon[c]) * scale[c] + bias[c]
    return y


def weight_norm(v, g, *, epsilon=0.0):
    """v (..., K), each of the K filters brought to the norm g[k]."""
    v, g = np.asarray(v).astype(np.float64), np.asarray(g).astype(np.float64)
    w = np.zeros(v.shape)
    for k in range(v.shape[-1]):
        norm = math.sqrt(sum(value**2 for value in v[..., k].ravel()) + epsilon)
        w[..., k] = g[k] * v[..., k] / norm
    return w


def spectral_norm(w, u, *, n_steps):
    """(w / sigma, u, sigma) for w (..., K) as a matrix of K columns, after steps of iteration."""
    w, u = np.asarray(w).astype(np.float64), np.asarray(u).astype(np.float64)
    matrix = w.reshape(-1, w.shape[-1])
    v = _unit(_times(matrix, u))
    for _ in range(n_steps):
        v = _unit(_times(matrix, u))
        u = _unit(_times(matrix.T, v))
    sigma = sum(a * b for a, b in zip(v, _times(matrix, u), strict=True))
    return w / sigma, u, sigma


def weight_standardize(w, *, epsilon):
    """Each of the K filters of w (..., K)."""
    return standardized(w, lambda i: i[-1], epsilon=epsilon)


def _times(matrix, vector):
    return np.array([sum(a * b for a, b in zip(row, vector, strict=True)) for row in matrix])


def _unit(vector):
    return vector / math.sqrt(sum(value**2 for value in vector))
