"""Transposed convolution as PyTorch's manual defines it: every input pixel stamps the filter on the
output.

    x[i] += y[p] w[r]   for i = p * stride + r * dilation - lo, where i is inside
    size = (P - 1) * stride - lo - hi + dilation * (R - 1) + 1 + output_padding

Shapes: y (N, *spatial, K), w (*window, C/G, K) as the convolution that is transposed has it, x (N,
  *output, C).
References: torch.nn.ConvTranspose2d; Dumoulin & Visin 2016, arXiv:1603.07285, section 4.
"""

from __future__ import annotations

import itertools

import numpy as np


def conv_transpose(y, w, *, stride, pads, dilation, output_padding, groups=1):
    """x (N, *output, C) from y (N, *spatial, K) and w (*window, C/G, K); one entry per axis in
    every option.
    """
    y, w = np.asarray(y).astype(np.float64), np.asarray(w).astype(np.float64)
    spatial, window = y.shape[1:-1], w.shape[:-2]
    size = tuple(
        (n - 1) * s - lo - hi + d * (r - 1) + 1 + extra
        for n, r, s, (lo, hi), d, extra in zip(
            spatial, window, stride, pads, dilation, output_padding, strict=True
        )
    )
    c, k = w.shape[-2], w.shape[-1] // groups
    x = np.zeros((y.shape[0], *size, c * groups))
    for p in itertools.product(*map(range, spatial)):
        for r in itertools.product(*map(range, window)):
            i = [
                a * s + b * d - lo
                for a, b, s, d, (lo, _) in zip(p, r, stride, dilation, pads, strict=True)
            ]
            if not all(0 <= j < n for j, n in zip(i, size, strict=True)):
                continue
            for g in range(groups):
                stamp = y[:, *p, g * k : (g + 1) * k] @ w[*r, :, g * k : (g + 1) * k].T
                x[:, *i, g * c : (g + 1) * c] += stamp
    return x
