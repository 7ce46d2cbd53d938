"""Resizing as PyTorch's and PIL's manuals define it, pixel by pixel.

Along one axis of n pixels, output pixel i of m has a position in the input, and a filter of the
distance to it weighs the pixels there. Outside of the image lies its border pixel; where
antialiased the filter is cut off there instead, and its weights made to sum to 1.

Shapes: x (N, *spatial, C). References: torch.nn.functional.interpolate; Keys 1981.
"""

from __future__ import annotations

import math

import numpy as np


def resize(x, size, method, align_corners=False, antialias=False, scale=None):
    """x with each spatial axis resized in turn; `scale` sets the distance of output pixels."""
    y = np.asarray(x).astype(np.float64)
    for axis, m in enumerate(size, 1):
        n = y.shape[axis]
        if align_corners:
            step = (n - 1) / (m - 1) if m > 1 else 0.0
        else:
            step = n / m if scale is None else 1 / scale[axis - 1]
        rows = [
            _row(np.moveaxis(y, axis, 0), i, m, step, method, align_corners, antialias)
            for i in range(m)
        ]
        y = np.moveaxis(np.array(rows), 0, axis)
    return y


def _row(x, i, m, step, method, align_corners, antialias):
    n = len(x)
    if method == "nearest":
        return x[min(math.floor(np.float32(i) * np.float32(step)), n - 1)]
    if method == "nearest-exact":
        return x[min(math.floor(np.float32(i + 0.5) * np.float32(step)), n - 1)]
    if method == "area":
        return x[i * n // m : math.ceil((i + 1) * n / m)].mean(0)
    if antialias:
        return _antialiased(x, (i + 0.5) * step, max(step, 1), method)
    at = i * step if align_corners else (i + 0.5) * step - 0.5
    if method == "linear":
        at = min(max(at, 0), n - 1)
        low = math.floor(at)
        return x[low] * (1 - (at - low)) + x[min(low + 1, n - 1)] * (at - low)
    low = math.floor(at)
    taps = range(low - 1, low + 3)
    return sum(x[min(max(tap, 0), n - 1)] * cubic(at - tap, -0.75) for tap in taps)


def _antialiased(x, centre, width, method):
    total, weights = np.zeros(x.shape[1:]), 0.0
    for j in range(len(x)):
        distance = abs(j + 0.5 - centre) / width
        weight = max(1 - distance, 0) if method == "linear" else cubic(distance, -0.5)
        total, weights = total + weight * x[j], weights + weight
    return total / weights


def cubic(t, a):
    """Keys' filter."""
    t = abs(t)
    if t <= 1:
        return (a + 2) * t**3 - (a + 3) * t**2 + 1
    return a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a if t < 2 else 0.0
