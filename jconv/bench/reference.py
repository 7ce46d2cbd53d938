"""What a case's result must be: float64 NumPy by the definitions, on a sample of the result.

The whole operands go in, so the very result that is timed is judged, but of a convolution or
pooling the first and last example are computed, and of a filter gradient three output channels: a
second at most. Nothing of jconv or JAX takes part.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from jconv.bench.cases import NORMS, POOLS, Case

EPSILON = 1e-5  # of the norms
# Results may be so many times as far off as tests/tolerance.py lets sums of random numbers be:
# Winograd F(4x4) is right, though less exact; a missing tap is wrong.
LENIENCE = 8


@dataclasses.dataclass(frozen=True)
class Expected:
    """A sample of the right results: entry `at[i]` of result i is `values[i]`."""

    at: tuple[Any, ...]
    values: tuple[np.ndarray, ...]
    tolerance: float

    def error(self, results: Sequence[Any]) -> float:
        """The largest of max|result - right| / max|right| over the results; inf if a result has
        another shape, or holds what is no number."""
        errors = []
        for at, right, result in zip(self.at, self.values, results, strict=True):
            found = np.asarray(result)[at].astype(np.float64)
            if found.shape != right.shape or not np.isfinite(found).all():
                return math.inf
            errors.append(np.abs(found - right).max() / np.abs(right).max())
        return float(max(errors))


def expected(case: Case, pass_: str, operands: Sequence[np.ndarray]) -> Expected:
    """The sample of the right results of `pass_` on these operands.

    Args:
      operands: as `jconv.bench.programs.operands` makes them.
    """
    if case.op in NORMS:
        at, values = _norm(case, pass_, *map(_wide, operands))
    elif case.op in POOLS:
        at, values = _pool(case, *operands)
    else:
        at, values = _convolution(case, pass_, *operands)
    return Expected(at, values, _tolerance(case, pass_))


def _tolerance(case, pass_):
    n, *_, channels = case.x
    if case.op in NORMS or pass_ == "dw":
        terms = max(math.prod(case.x) // channels, n * math.prod(case.output[1:-1]), channels)
    elif case.op in POOLS:
        terms = case.window**2
    else:
        image, output = _image_and_output(case)
        towards = output if (pass_ == "dx") == (case.op == "conv") else image
        terms = math.prod(case.w[:-2]) * towards[-1] // case.groups
    stored = 2.0**-8 if case.dtype == "bfloat16" else 0.0
    return LENIENCE * 4 * 2.0**-23 * math.sqrt(terms) + 2 * stored


def _image_and_output(case):
    """Shapes of the image and of the output of the pooling, or of the convolution, be it the one
    that is transposed."""
    return (case.output, case.x) if case.op == "conv_transpose" else (case.x, case.output)


def _ends(n):
    return sorted({0, n - 1})


def _convolution(case, pass_, first, second):
    """Of the transposed one, forward is the input gradient, dx the convolution, and in dw the
    operands change places."""
    transposed = case.op == "conv_transpose"
    if pass_ == "dw":
        x, dy = (second, first) if transposed else (first, second)
        k = sorted({0, dy.shape[-1] // 2, dy.shape[-1] - 1})
        return ((..., k),), (_filter_grad(case, x, _wide(dy[..., k]), k, dy.shape[-1]),)
    examples = _ends(len(first))
    body = _forward if (pass_ == "dx") == transposed else _input_grad
    return (examples,), (body(case, _wide(first[examples]), _wide(second)),)


def _taps(case):
    """For each tap, where its pixels stand in the padded image."""
    _, output = _image_and_output(case)
    s, d = case.stride, case.dilation
    window = case.w[:-2] or (case.window,) * (len(case.x) - 2)
    for tap in itertools.product(*map(range, window)):
        starts = [r * d for r in tap]
        ends = [i + s * (p - 1) + 1 for i, p in zip(starts, output[1:-1], strict=True)]
        yield tap, (slice(None), *(slice(a, b, s) for a, b in zip(starts, ends, strict=True)))


def _padded(case, x, fill=0.0):
    pads = [(0, 0), *[(case.padding,) * 2] * (x.ndim - 2), (0, 0)]
    return np.pad(x, pads, constant_values=fill)


def _cropped(case, padded, shape):
    """The image inside the padding."""
    return padded[(slice(None), *(slice(case.padding, case.padding + n) for n in shape[1:-1]))]


def _forward(case, x, w):
    x, groups = _padded(case, x), case.groups
    _, output = _image_and_output(case)
    y = np.zeros((len(x), *output[1:]))
    for tap, at in _taps(case):
        y += _product(x[at], w[tap], groups)
    return y


def _input_grad(case, dy, w):
    image, _ = _image_and_output(case)
    shape = (len(dy), *(n + 2 * case.padding for n in image[1:-1]), image[-1])
    dx, groups = np.zeros(shape), case.groups
    for tap, at in _taps(case):
        c, k = w[tap].shape
        turned = w[tap].reshape(c, groups, k // groups).transpose(2, 1, 0).reshape(-1, groups * c)
        dx[at] += _product(dy, turned, groups)
    return _cropped(case, dx, image)


def _filter_grad(case, x, dy, channels, k):
    """dw (*window, C/groups, channels) from x and those channels of dy, which has k of them."""
    c = x.shape[-1] // case.groups
    dw = np.zeros((*case.w[:-2], c, len(channels)))
    for i, channel in enumerate(channels):
        group = channel // (k // case.groups)
        part = _padded(case, _wide(x[..., group * c : (group + 1) * c]))
        cotangent = dy[..., i].reshape(-1)
        for tap, at in _taps(case):
            dw[(*tap, slice(None), i)] = part[at].reshape(-1, c).T @ cotangent
    return dw


def _product(x, w, groups):
    """x (..., C) times w (C/G, K), group by group: (..., K)."""
    if groups == 1:
        return x @ w
    c, k = w.shape
    if c == 1 and k == groups:
        return x * w[0]
    split = x.reshape(-1, groups, c).swapaxes(0, 1)
    y = split @ w.reshape(c, groups, k // groups).swapaxes(0, 1)
    return y.swapaxes(0, 1).reshape(*x.shape[:-1], k)


def _pool(case, x, dy=None):
    examples = _ends(len(x))
    image = _padded(case, _wide(x[examples]), -np.inf if case.op == "max_pool" else 0.0)
    pixels = np.stack([image[at] for _, at in _taps(case)])
    winner = pixels.argmax(0) if case.op == "max_pool" else None
    y = pixels.mean(0) if winner is None else pixels.max(0)
    if dy is None:
        return (examples,), (y,)
    dx, cotangent = np.zeros(image.shape), _wide(dy[examples])
    for number, (_, at) in enumerate(_taps(case)):
        share = 1 / len(pixels) if winner is None else winner == number
        dx[at] += cotangent * share
    return (examples, examples), (y, _cropped(case, dx, case.x))


def _norm(case, pass_, x, scale, bias, dy=None):
    split = (*x.shape[:-1], case.groups, -1) if case.op == "group_norm" else x.shape
    axes = {"batch_norm": tuple(range(x.ndim - 1)), "layer_norm": (-1,)}.get(
        case.op, (*range(1, x.ndim - 1), -1)
    )
    together = x.reshape(split)
    centred = together - together.mean(axes, keepdims=True)
    rstd = 1 / np.sqrt(np.square(centred).mean(axes, keepdims=True) + EPSILON)
    unit = centred * rstd
    y = unit.reshape(x.shape) * scale + bias
    if dy is None:
        return (...,), (y,)
    t = (dy * scale).reshape(split)
    means = t.mean(axes, keepdims=True) + unit * (t * unit).mean(axes, keepdims=True)
    pixels = tuple(range(x.ndim - 1))
    sums = (dy * unit.reshape(x.shape)).sum(pixels), dy.sum(pixels)
    return (...,) * 4, (y, (rstd * (t - means)).reshape(x.shape), *sums)


def _wide(array):
    return np.asarray(array, np.float64)
