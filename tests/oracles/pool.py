"""Maximum and average over windows as PyTorch's manual defines them, window by window.

The number of windows is floor((n + lo + hi - extent) / stride) + 1. In ceil mode a last, partial
window is added if it starts inside the input or the padding before it. Maxima ignore padding and
propagate NaN; the first of several equal maxima wins, and so does the first NaN. Averages count
padding, but never what lies beyond it.

Shapes: x (N, *spatial, C), y (N, *output, C). References: torch.nn.MaxPool2d, torch.nn.AvgPool2d.
"""

from __future__ import annotations

import itertools
import math

import numpy as np


def windows(n, size, stride, dilation, pair, ceil_mode):
    """For every output of an axis, the positions of its taps; those outside 0..n-1 are padding."""
    (lo, hi), span = pair, (size - 1) * dilation
    starts = [start for start in range(-lo, n + hi, stride) if start + span < n + hi]
    following = -lo + len(starts) * stride
    unread = n + hi - 1 - (following - stride + span)
    if ceil_mode and unread > 0 and following < n:
        starts.append(following)
    return [[start + r * dilation for r in range(size)] for start in starts]


def max_pool(x, *, window, stride, pads, dilation, ceil_mode=False):
    """(y, indices): maxima and their positions, flat over the spatial axes of x; -1 where all taps
    are padding.
    """
    x = np.asarray(x)
    spatial = x.shape[1:-1]
    axes = _axes(spatial, window, stride, dilation, pads, ceil_mode)
    shape = (x.shape[0], *(len(axis) for axis in axes), x.shape[-1])
    y, indices = np.full(shape, -np.inf), np.full(shape, -1)
    for n, c in itertools.product(range(x.shape[0]), range(x.shape[-1])):
        for p in itertools.product(*(range(len(axis)) for axis in axes)):
            for i in _inside(axes, p, spatial):
                value, best = float(x[n, *i, c]), y[n, *p, c]
                first = indices[n, *p, c] == -1
                if first or value > best or (math.isnan(value) and not math.isnan(best)):
                    y[n, *p, c] = value
                    indices[n, *p, c] = np.ravel_multi_index(i, spatial)
    return y, indices


def avg_pool(
    x, *, window, stride, pads, ceil_mode=False, count_include_pad=True, divisor_override=None
):
    """Averages of windows; the divisor is the window clipped to the padded input, or to the input,
    or what is given.
    """
    x = np.asarray(x).astype(np.float64)
    spatial = x.shape[1:-1]
    axes = _axes(spatial, window, stride, (1,) * len(spatial), pads, ceil_mode)
    y = np.zeros((x.shape[0], *(len(axis) for axis in axes), x.shape[-1]))
    for p in itertools.product(*(range(len(axis)) for axis in axes)):
        inside = list(_inside(axes, p, spatial))
        padded = math.prod(
            sum(i < n + hi for i in axis[q])
            for axis, q, n, (_, hi) in zip(axes, p, spatial, pads, strict=True)
        )
        divisor = divisor_override or (padded if count_include_pad else len(inside))
        for i in inside:
            y[:, *p, :] += x[:, *i, :] / divisor
    return y


def _axes(spatial, window, stride, dilation, pads, ceil_mode):
    options = zip(spatial, window, stride, dilation, pads, strict=True)
    return [windows(*axis, ceil_mode) for axis in options]


def _inside(axes, p, spatial):
    """Positions of the taps of window p that are pixels, in raster order."""
    for i in itertools.product(*(axis[q] for axis, q in zip(axes, p, strict=True))):
        if all(0 <= j < n for j, n in zip(i, spatial, strict=True)):
            yield i
