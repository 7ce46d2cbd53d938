"""PReLU by definition, and a convolution's epilogue.

References: He et al. 2015, arXiv:1502.01852, equation 1; Hendrycks & Gimpel 2016, arXiv:1606.08415,
section 2; Howard et al. 2019, arXiv:1905.02244, section 5.2.
"""

from __future__ import annotations

import math

import numpy as np

ACTIVATIONS = {
    None: lambda z: z,
    "relu": lambda z: max(z, 0.0),
    "relu6": lambda z: min(max(z, 0.0), 6.0),
    "silu": lambda z: z / (1 + math.exp(-z)),
    "gelu": lambda z: z / 2 * (1 + math.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3))),
    "gelu_exact": lambda z: z / 2 * math.erfc(-z / math.sqrt(2)),
    "hard_swish": lambda z: z * min(max(z + 3, 0.0), 6.0) / 6,
}


def prelu(x, slope):
    """x (..., C), slope (C,) or ()."""
    x = np.asarray(x).astype(np.float64)
    slope = np.broadcast_to(np.asarray(slope).astype(np.float64), x.shape[-1:])
    y = np.empty(x.shape)
    for place in np.ndindex(x.shape):
        y[place] = x[place] if x[place] > 0 else slope[place[-1]] * x[place]
    return y


def scale_bias_act(x, scale, bias, gate, activation):
    """x (N, ..., C), scale and bias (C,), gate (N, C)."""
    x, scale, bias, gate = (np.asarray(a).astype(np.float64) for a in (x, scale, bias, gate))
    y = np.empty(x.shape)
    for place in np.ndindex(x.shape):
        n, c = place[0], place[-1]
        y[place] = gate[n, c] * ACTIVATIONS[activation](x[place] * scale[c] + bias[c])
    return y
