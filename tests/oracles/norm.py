"""Batch normalisation by definition, in two passes: means first, then squared deviations from them.

Reference: Ioffe & Szegedy 2015, arXiv:1502.03167, algorithm 1 (the variance is the biased one).
"""

from __future__ import annotations

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
