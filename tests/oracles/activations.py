"""PReLU by definition. Reference: He et al. 2015, arXiv:1502.01852, equation 1."""

from __future__ import annotations

import numpy as np


def prelu(x, slope):
    """x (..., C), slope (C,) or ()."""
    x = np.asarray(x).astype(np.float64)
    slope = np.broadcast_to(np.asarray(slope).astype(np.float64), x.shape[-1:])
    y = np.empty(x.shape)
    for place in np.ndindex(x.shape):
        y[place] = x[place] if x[place] > 0 else slope[place[-1]] * x[place]
    return y
