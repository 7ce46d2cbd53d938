"""Relatives of convolution, each as its paper or manual defines it, pixel by pixel.

Shapes: x (N, *spatial, C), y (N, *output, K); per output p and tap r an axis reads pixel
p * stride + r * dilation - lo, which is padding where there is none. Everything is float64.

References: torch.nn.Unfold and Fold; LeCun 1989 (local connections); Liu et al. 2018,
arXiv:1804.07723, equations 1 and 2; Zhang 2019, arXiv:1904.11486; van den Oord et al. 2016,
arXiv:1601.06759, figure 2.
"""

from __future__ import annotations

import itertools

import numpy as np

from tests.oracles.padding import output_size


def reads(spatial, window, *, stride, pads, dilation):
    """(output p, tap r, pixel i) for every pixel that a tap reads, each a tuple over the axes."""
    output = output_of(spatial, window, stride=stride, pads=pads, dilation=dilation)
    for p in itertools.product(*map(range, output)):
        for r in itertools.product(*map(range, window)):
            i = tuple(
                a * s + b * d - lo
                for a, s, b, d, (lo, _) in zip(p, stride, r, dilation, pads, strict=True)
            )
            if all(0 <= pixel < n for pixel, n in zip(i, spatial, strict=True)):
                yield p, r, i


def output_of(spatial, window, *, stride, pads, dilation):
    """The number of windows per axis."""
    axes = zip(spatial, window, stride, dilation, pads, strict=True)
    return tuple(output_size(*axis) for axis in axes)


def unfold(x, window, **options):
    """(N, *output, *window, C)."""
    x = np.asarray(x, np.float64)
    spatial = x.shape[1:-1]
    u = np.zeros((x.shape[0], *output_of(spatial, window, **options), *window, x.shape[-1]))
    for p, r, i in reads(spatial, window, **options):
        u[:, *p, *r] = x[:, *i]
    return u


def fold(u, spatial, **options):
    """(N, *spatial, C): the sum of all taps that read a pixel."""
    u = np.asarray(u, np.float64)
    axes = len(spatial)
    x = np.zeros((u.shape[0], *spatial, u.shape[-1]))
    for p, r, i in reads(spatial, u.shape[1 + axes : -1], **options):
        x[:, *i] += u[:, *p, *r]
    return x


def conv_local(x, w, *, groups, **options):
    """(N, *output, K) from filters (*output, *window, C/groups, K)."""
    x, w = np.asarray(x, np.float64), np.asarray(w, np.float64)
    axes = x.ndim - 2
    y = np.zeros((x.shape[0], *w.shape[:axes], w.shape[-1]))
    c, k = w.shape[-2], w.shape[-1] // groups
    for p, r, i in reads(x.shape[1:-1], w.shape[axes : 2 * axes], **options):
        for g in range(groups):
            inputs, outputs = slice(g * c, (g + 1) * c), slice(g * k, (g + 1) * k)
            y[:, *p, outputs] += x[:, *i, inputs] @ w[*p, *r, :, outputs]
    return y


def partial_conv(x, mask, w, b, *, groups, **options):
    """(y, updated mask), both (N, *output, K); the mask has an entry for each channel."""
    x, mask, w = (np.asarray(a, np.float64) for a in (x, mask, w))
    c, k = w.shape[-2:]
    window, k = w.shape[:-2], k // groups
    shape = (x.shape[0], *output_of(x.shape[1:-1], window, **options), w.shape[-1])
    sums, held = np.zeros(shape), np.zeros(shape)
    for p, r, i in reads(x.shape[1:-1], window, **options):
        for n, g, j in itertools.product(range(x.shape[0]), range(groups), range(c)):
            if mask[n, *i, g * c + j]:
                outputs = slice(g * k, (g + 1) * k)
                sums[n, *p, outputs] += x[n, *i, g * c + j] * w[*r, j, outputs]
                held[n, *p, outputs] += 1
    ones = np.prod(window) * c
    y = np.zeros(shape)
    for at in np.ndindex(*shape):
        if held[at] > 0:
            y[at] = sums[at] * ones / held[at] + b[at[-1]]
    return y, (held > 0).astype(np.float64)


def blur_pool(x, window, stride, mode):
    """x, padded by half the filter, with the outer product of two binomial filters, strided."""
    x = np.asarray(x, np.float64)
    filters = []
    for size in window:
        row = np.ones(1)
        for _ in range(size - 1):
            row = np.convolve(row, [0.5, 0.5])
        filters.append(row)
    pads = [((size - 1) // 2, size - 1 - (size - 1) // 2) for size in window]
    padded = np.pad(x, [(0, 0), *pads, (0, 0)], mode)
    plain = {"stride": stride, "pads": ((0, 0),) * len(window), "dilation": (1,) * len(window)}
    y = np.zeros((x.shape[0], *output_of(padded.shape[1:-1], window, **plain), x.shape[-1]))
    for p, r, i in reads(padded.shape[1:-1], window, **plain):
        y[:, *p] += padded[:, *i] * np.prod([f[t] for f, t in zip(filters, r, strict=True)])
    return y


def conv_matrix(w, spatial, *, groups, mode=None, **options):
    """(prod(output) * K, prod(spatial) * C): entry by entry, from the pixel that each tap reads.

    Args:
      mode: numpy.pad's name of what the padding holds; None is zeros.
    """
    w = np.asarray(w, np.float64)
    *window, c, k = w.shape
    pads = options["pads"]
    numbers = np.arange(np.prod(spatial)).reshape(spatial)
    padded = np.pad(numbers, pads, mode) if mode else np.pad(numbers, pads, constant_values=-1)
    plain = {**options, "pads": ((0, 0),) * len(pads)}
    output = output_of(padded.shape, window, **plain)
    m = np.zeros((np.prod(output), k, np.prod(spatial), c * groups))
    for p, r, i in reads(padded.shape, window, **plain):
        pixel, row = padded[i], np.ravel_multi_index(p, output)
        for channel, filter in itertools.product(range(c * groups), range(k)):
            if pixel >= 0 and channel // c == filter // (k // groups):
                m[row, filter, pixel, channel] += w[*r, channel % c, filter]
    return m.reshape(np.prod(output) * k, -1)


def causal_mask(window, n_in, n_out, kind, colors):
    """(*window, n_in, n_out) by comparing (tap in raster order, colour) of input and output."""
    mask = np.zeros((*window, n_in, n_out))
    centre = tuple((size - 1) // 2 for size in window)
    for *r, i, j in np.ndindex(*mask.shape):
        of_input = (tuple(r), i * colors // n_in)
        of_output = (centre, j * colors // n_out)
        mask[*r, i, j] = of_input < of_output or (of_input == of_output and kind == "B")
    return mask
