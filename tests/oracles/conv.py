"""Convolution and its two adjoints, from one relation between output p, tap r and input i:

    p * stride + r * dilation - lo  =  i * input_dilation

Per axis, every triple (p, r, i) for which it holds contributes once: y[p] += x[i] w[r], and in the
adjoints dx[i] += dy[p] w[r] and dw[r] += x[i] dy[p]. Pixels outside and between are zeros, so they
have no triple.

Shapes: x (N, *spatial, C), w (*window, C/G, K), y (N, *output, K); channels are group-major.
  Everything is float64.
"""

from __future__ import annotations

import itertools

import numpy as np

from tests.oracles.padding import dilated, output_size


def conv(x, w, *, stride, pads, dilation, input_dilation=None, groups=1):
    """y (N, *output, K) from x (N, *spatial, C) and w (*window, C/G, K); one entry per axis in
    every option.
    """
    x, w = _float64(x), _float64(w)
    axes = _Axes(x.shape[1:-1], w.shape[:-2], stride, pads, dilation, input_dilation)
    y = np.zeros((x.shape[0], *axes.output, w.shape[-1]))
    for p, r, i in axes.triples():
        for c, k in _groups(w, groups):
            y[:, *p, k] += x[:, *i, c] @ w[*r, :, k]
    return y


def input_grad(dy, w, *, input, stride, pads, dilation, input_dilation=None, groups=1):
    """dx (N, *input, C), the adjoint of `conv` in x."""
    dy, w = _float64(dy), _float64(w)
    axes = _Axes(input, w.shape[:-2], stride, pads, dilation, input_dilation)
    dx = np.zeros((dy.shape[0], *input, w.shape[-2] * groups))
    for p, r, i in axes.triples():
        for c, k in _groups(w, groups):
            dx[:, *i, c] += dy[:, *p, k] @ w[*r, :, k].T
    return dx


def filter_grad(x, dy, *, window, stride, pads, dilation, input_dilation=None, groups=1):
    """dw (*window, C/G, K), the adjoint of `conv` in w."""
    x, dy = _float64(x), _float64(dy)
    axes = _Axes(x.shape[1:-1], window, stride, pads, dilation, input_dilation)
    dw = np.zeros((*window, x.shape[-1] // groups, dy.shape[-1]))
    for p, r, i in axes.triples():
        for c, k in _groups(dw, groups):
            dw[*r, :, k] += x[:, *i, c].T @ dy[:, *p, k]
    return dw


class _Axes:
    """The relation, solved axis by axis by trying every p, r and i."""

    def __init__(self, spatial, window, stride, pads, dilation, input_dilation):
        input_dilation = input_dilation or (1,) * len(spatial)
        self.output, self._per_axis = [], []
        for n, size, s, (lo, hi), d, e in zip(
            spatial, window, stride, pads, dilation, input_dilation, strict=True
        ):
            output = output_size(dilated(n, e), size, s, d, (lo, hi))
            self.output.append(output)
            every = itertools.product(range(output), range(size), range(n))
            self._per_axis.append([(p, r, i) for p, r, i in every if p * s + r * d - lo == i * e])

    def triples(self):
        """(p, r, i) as tuples over all axes."""
        for axes in itertools.product(*self._per_axis):
            yield tuple(zip(*axes, strict=True)) if axes else ((), (), ())


def _groups(w, groups):
    """The slices of C and of K that belong together."""
    c, k = w.shape[-2], w.shape[-1] // groups
    return [(slice(g * c, (g + 1) * c), slice(g * k, (g + 1) * k)) for g in range(groups)]


def _float64(array):
    return np.asarray(array).astype(np.float64)
