"""Reading images at computed positions, by the definitions of PyTorch and torchvision, in loops.

Shapes: x (N, *spatial, C). References: torch.nn.functional.{grid_sample, affine_grid,
pixel_shuffle}; torchvision.ops.{roi_align, roi_pool, deform_conv2d}.
"""

from __future__ import annotations

import itertools
import math

import numpy as np

from tests.oracles.resize import cubic


def pixel(x, position):
    """x (*spatial, C) at a whole position, 0 outside."""
    if all(0 <= p < n for p, n in zip(position, x.shape[:-1], strict=True)):
        return x[tuple(int(p) for p in position)]
    return np.zeros(x.shape[-1])


def linear(x, at):
    """x (*spatial, C), linear between its pixels and 0 outside, at a real position."""
    total = np.zeros(x.shape[-1])
    low = [math.floor(a) for a in at]
    for corner in itertools.product((0, 1), repeat=len(at)):
        position = [p + up for p, up in zip(low, corner, strict=True)]
        share = math.prod(1 - abs(a - p) for a, p in zip(at, position, strict=True))
        total = total + share * pixel(x, position)
    return total


def grid_sample(x, grid, mode, padding_mode, align_corners):
    """Each position of the grid by itself; its last axis is (x, y[, z])."""
    x, grid = np.asarray(x, np.float64), np.asarray(grid, np.float64)
    spatial = x.shape[1:-1]
    y = np.zeros((*grid.shape[:-1], x.shape[-1]))

    def inside(at):
        return [
            _inside(a, n, padding_mode, align_corners) for a, n in zip(at, spatial, strict=True)
        ]

    for index in np.ndindex(grid.shape[:-1]):
        image, g = x[index[0]], grid[index][::-1]
        if align_corners:
            at = [(v + 1) / 2 * (n - 1) for v, n in zip(g, spatial, strict=True)]
        else:
            at = [((v + 1) * n - 1) / 2 for v, n in zip(g, spatial, strict=True)]
        if mode == "nearest":
            y[index] = pixel(image, [np.round(a) for a in inside(at)])
        elif mode == "bilinear":
            y[index] = linear(image, inside(at))
        else:
            low = [math.floor(a) for a in at]
            for tap in itertools.product(range(-1, 3), repeat=2):
                position = [p + t for p, t in zip(low, tap, strict=True)]
                weight = math.prod(cubic(a - p, -0.75) for a, p in zip(at, position, strict=True))
                y[index] += weight * pixel(image, inside(position))
    return y


def _inside(at, n, padding_mode, align_corners):
    if padding_mode == "zeros":
        return at
    if padding_mode == "reflection":
        low, high = (0, n - 1) if align_corners else (-0.5, n - 0.5)
        while low < high and not low <= at <= high:
            at = 2 * low - at if at < low else 2 * high - at
    return min(max(at, 0), n - 1)


def affine_grid(theta, size, align_corners):
    """theta times (x, y[, z], 1) for the centre of every output pixel."""
    grid = np.zeros((len(theta), *size, len(size)))
    for index in np.ndindex(grid.shape[:-1]):
        position = []
        for i, n in zip(index[1:], size, strict=True):
            across = 2 * i / (n - 1) - 1 if n > 1 else 0.0
            position.append(across if align_corners else (2 * i + 1) / n - 1)
        grid[index] = theta[index[0]] @ np.array([*position[::-1], 1.0])
    return grid


def depth_to_space(x, factor, order):
    """Every number to its place, in two dimensions."""
    x, (r, s) = np.asarray(x), factor
    n, height, width, channels = x.shape
    c = channels // (r * s)
    y = np.zeros((n, height * r, width * s, c), x.dtype)
    for h, w, i, j, k in np.ndindex(height, width, r, s, c):
        channel = (k * r + i) * s + j if order == "CRD" else (i * s + j) * c + k
        y[:, h * r + i, w * s + j, k] = x[:, h, w, channel]
    return y


def roi_align(x, boxes, indices, output_size, spatial_scale, sampling_ratio, aligned):
    """Each bin the mean of its samples; sampling_ratio 0: ceil(bin size) of them."""
    x, boxes = np.asarray(x, np.float64), np.asarray(boxes, np.float64)
    y = np.zeros((len(boxes), *output_size, x.shape[-1]))
    for k, p, q in np.ndindex(y.shape[:-1]):
        axes = []
        for axis, bin, bins, n in ((1, p, output_size[0], x.shape[1]),
                                   (0, q, output_size[1], x.shape[2])):  # fmt: skip
            start = boxes[k, axis] * spatial_scale - 0.5 * aligned
            length = boxes[k, axis + 2] * spatial_scale - 0.5 * aligned - start
            size = (length if aligned else max(length, 1)) / bins
            count = sampling_ratio or math.ceil(size)
            axes.append([(start + bin * size + (i + 0.5) * size / count, n) for i in range(count)])
        for (h, height), (w, width) in itertools.product(*axes):
            if -1 <= h <= height and -1 <= w <= width:
                at = min(max(h, 0), height - 1), min(max(w, 0), width - 1)
                y[k, p, q] += linear(x[indices[k]], at) / (len(axes[0]) * len(axes[1]))
    return y


def roi_pool(x, boxes, indices, output_size, spatial_scale):
    """Each bin the largest of its pixels, 0 without any."""
    x, boxes = np.asarray(x, np.float64), np.asarray(boxes, np.float64)
    y = np.zeros((len(boxes), *output_size, x.shape[-1]))
    for k, p, q in np.ndindex(y.shape[:-1]):
        spans = []
        for axis, bin, bins, n in ((1, p, output_size[0], x.shape[1]),
                                   (0, q, output_size[1], x.shape[2])):  # fmt: skip
            scaled = boxes[k, axis] * spatial_scale, boxes[k, axis + 2] * spatial_scale
            start, end = (int(math.copysign(math.floor(abs(v) + 0.5), v)) for v in scaled)
            size = max(end - start + 1, 1) / bins
            first, last = start + math.floor(bin * size), start + math.ceil((bin + 1) * size)
            spans.append(slice(min(max(first, 0), n), min(max(last, 0), n)))
        held = x[indices[k]][tuple(spans)].reshape(-1, x.shape[-1])
        y[k, p, q] = held.max(0) if len(held) else 0
    return y


def deform_conv(x, offset, w, b, mask, stride, pads, dilation, groups):
    """Every output by its sum over taps and channels; any number of spatial axes."""
    x, offset, w = (np.asarray(a, np.float64) for a in (x, offset, w))
    size, axes = w.shape[:-2], w.ndim - 2
    taps = list(np.ndindex(size))
    offset_groups = offset.shape[-1] // (len(taps) * axes)
    y = np.zeros((*offset.shape[:-1], w.shape[-1]))
    for index in np.ndindex(offset.shape[:-1]):
        for (t, tap), g in itertools.product(enumerate(taps), range(offset_groups)):
            first = (g * len(taps) + t) * axes
            at = [
                index[a + 1] * stride[a] - pads[a][0] + tap[a] * dilation[a]
                + offset[index][first + a] for a in range(axes)
            ]  # fmt: skip
            factor = 1.0 if mask is None else float(mask[index][g * len(taps) + t])
            read = factor * linear(x[index[0]], at)
            for c in range(x.shape[-1]):
                if c * offset_groups // x.shape[-1] != g:
                    continue
                group, inner = divmod(c, w.shape[-2])
                features = w.shape[-1] // groups
                part = slice(group * features, (group + 1) * features)
                y[index][part] += read[c] * w[tap][inner, part]
    return y if b is None else y + np.asarray(b, np.float64)
