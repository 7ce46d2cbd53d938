"""The other poolings by their definitions, window by window.

Shapes: x (N, *spatial, C), y (N, *output, C). References: torch.nn.LPPool2d, torch.nn.MaxUnpool2d,
torch.nn.AdaptiveMaxPool2d, torch.nn.FractionalMaxPool2d (its sequence of windows), Zeiler & Fergus
2013 (arXiv:1301.3557), Goodfellow et al. 2013 (arXiv:1302.4389).
"""

from __future__ import annotations

import itertools
import math

import numpy as np

from tests.oracles.pool import windows


def each_window(x, *, window, stride, pads, dilation, ceil_mode=False):
    """For every window: its output position, its pixels' positions, and how many of its taps lie in
    the image or its padding.
    """
    spatial = x.shape[1:-1]
    options = zip(spatial, window, stride, dilation, pads, strict=True)
    axes = [windows(*axis, ceil_mode) for axis in options]
    for p in itertools.product(*(range(len(axis)) for axis in axes)):
        reach = [axis[q] for axis, q in zip(axes, p, strict=True)]
        inside = [
            i
            for i in itertools.product(*reach)
            if all(0 <= j < n for j, n in zip(i, spatial, strict=True))
        ]
        held = math.prod(
            sum(j < n + hi for j in taps)
            for taps, n, (_, hi) in zip(reach, spatial, pads, strict=True)
        )
        yield p, inside, held


def shape_of(x, **definition):
    """The result's shape."""
    last = max(p for p, *_ in each_window(x, **definition))
    return (x.shape[0], *(q + 1 for q in last), x.shape[-1])


def tied_gradient(x, dy, **definition):
    """Each dy in equal parts at all of the window's largest pixels, several NaN among them."""
    dx = np.zeros(x.shape)
    for p, inside, _ in each_window(x, **definition):
        for n, c in itertools.product(range(x.shape[0]), range(x.shape[-1])):
            values = [x[(n, *i, c)] for i in inside]
            nan = any(math.isnan(v) for v in values)
            winners = [
                i
                for i, v in zip(inside, values, strict=True)
                if (math.isnan(v) if nan else v == max(values))
            ]
            for i in winners:
                dx[(n, *i, c)] += dy[(n, *p, c)] / len(winners)
    return dx


def lp_pool(x, p, **definition):
    """The p-norm of each window; one that hangs over the end is scaled up to a full one's size."""
    x = np.asarray(x, np.float64)
    y, size = np.zeros(shape_of(x, **definition)), math.prod(definition["window"])
    for q, inside, held in each_window(x, **definition):
        total = sum((x[:, *i, :] ** p for i in inside), np.zeros((x.shape[0], x.shape[-1])))
        y[:, *q, :] = (size / held * total) ** (1 / p)
    return y


def max_unpool(y, indices, output):
    """Zeros, and every y at its position, in row-major order; -1 is nowhere."""
    x = np.zeros((y.shape[0], *output, y.shape[-1]))
    for p in np.ndindex(y.shape):
        if indices[p] >= 0:
            x[(p[0], *np.unravel_index(indices[p], output), p[-1])] = y[p]
    return x


def adaptive_pool(x, output):
    """(mean, maximum, position of the maximum) of every bin; the first of equals, the first NaN."""
    x = np.asarray(x, np.float64)
    spatial, shape = x.shape[1:-1], (x.shape[0], *output, x.shape[-1])
    mean, largest, position = np.zeros(shape), np.zeros(shape), np.zeros(shape, int)
    for p in itertools.product(*map(range, output)):
        bins = [
            range(math.floor(i * n / size), math.ceil((i + 1) * n / size))
            for i, n, size in zip(p, spatial, output, strict=True)
        ]
        inside = list(itertools.product(*bins))
        for n, c in itertools.product(range(x.shape[0]), range(x.shape[-1])):
            values = np.array([x[(n, *i, c)] for i in inside])
            winner = int(np.argmax(values))
            mean[(n, *p, c)], largest[(n, *p, c)] = values.mean(), values[winner]
            position[(n, *p, c)] = np.ravel_multi_index(inside[winner], spatial)
    return mean, largest, position


def fractional_starts(u, n, size, window):
    """The first pixel of each window along an axis."""
    if size == 1:
        return [n - window]
    alpha = (n - window) / (size - 1)
    return [int((i + u) * alpha) - int(u * alpha) for i in range(size - 1)] + [n - window]


def fractional_max_pool(x, window, output, samples):
    """(y, indices) of the windows that samples (N, C, axes) give."""
    spatial, shape = x.shape[1:-1], (x.shape[0], *output, x.shape[-1])
    y, indices = np.zeros(shape), np.zeros(shape, int)
    for n, c in itertools.product(range(x.shape[0]), range(x.shape[-1])):
        starts = [
            fractional_starts(u, *axis)
            for u, axis in zip(
                samples[n, c], zip(spatial, output, window, strict=True), strict=True
            )
        ]
        for p in itertools.product(*map(range, output)):
            first = [start[q] for start, q in zip(starts, p, strict=True)]
            inside = [
                tuple(f + r for f, r in zip(first, tap, strict=True)) for tap in np.ndindex(*window)
            ]
            values = np.array([x[(n, *i, c)] for i in inside], np.float64)
            winner = int(np.argmax(values))
            y[(n, *p, c)] = values[winner]
            indices[(n, *p, c)] = np.ravel_multi_index(inside[winner], spatial)
    return y, indices


def stochastic_mean(x, **definition):
    """What a pixel drawn in proportion to the positive pixels is on average."""
    x = np.maximum(np.asarray(x, np.float64), 0)
    y = np.zeros(shape_of(x, **definition))
    for q, inside, _ in each_window(x, **definition):
        for n, c in itertools.product(range(x.shape[0]), range(x.shape[-1])):
            values = np.array([x[(n, *i, c)] for i in inside])
            if values.sum() > 0:
                y[(n, *q, c)] = (values / values.sum() * values).sum()
    return y


def maxout(x, pieces):
    """The largest of each group of successive channels."""
    groups = range(0, x.shape[-1], pieces)
    return np.stack([x[..., k : k + pieces].max(-1) for k in groups], -1)
