"""Gradient maps by differences, and measures of a field, pixel by pixel."""

from __future__ import annotations

import math

import numpy as np


def differences(value, x, step=1e-4):
    """d value(x) / d x by central differences, for a function of one array."""
    x = np.asarray(x, np.float64)
    g = np.zeros(x.shape)
    for index in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[index] += step
        down[index] -= step
        g[index] = (value(up) - value(down)) / (2 * step)
    return g


def moments(field):
    """Centre (axes,) and covariance (axes, axes)."""
    total = sum(field[index] for index in np.ndindex(field.shape))
    centre = np.zeros(field.ndim)
    for index in np.ndindex(field.shape):
        centre += field[index] / total * np.array(index)
    covariance = np.zeros((field.ndim, field.ndim))
    for index in np.ndindex(field.shape):
        away = np.array(index) - centre
        covariance += field[index] / total * np.outer(away, away)
    return centre, covariance


def radius(field, centre):
    """Root of the mean squared distance from `centre`, per axis."""
    total, squares = 0.0, 0.0
    for index in np.ndindex(field.shape):
        total += field[index]
        squares += field[index] * sum((i - c) ** 2 for i, c in zip(index, centre, strict=True))
    return math.sqrt(squares / total / field.ndim)


def area(field, share, peak):
    """Pixels above (1 - share) * peak."""
    return sum(field[index] > (1 - share) * peak for index in np.ndindex(field.shape))


def area_ratio(field, share, log):
    """Side and share of the image of the smallest odd centred square with more than `share`."""
    field = np.log10(field + 1) if log else field
    field = field / field.max()
    middle = [n // 2 for n in field.shape]
    for i in range(max(field.shape)):
        square = tuple(slice(max(m - i, 0), m + i + 1) for m in middle)
        if field[square].sum() / field.sum() > share or square == tuple(
            slice(0, n) for n in field.shape
        ):
            side = 2 * i + 1
            return side, min(1.0, math.prod(side / n for n in field.shape))
    return None


def gaussian(spatial, amplitude, centre, covariance):
    """amplitude * exp(-(i - centre)' covariance^-1 (i - centre) / 2) at every pixel i."""
    field = np.zeros(spatial)
    precision = np.linalg.inv(covariance)
    for index in np.ndindex(field.shape):
        away = np.array(index) - centre
        field[index] = amplitude * math.exp(-(away @ precision @ away) / 2)
    return field


def uniform_chain(layers, taps):
    """The gradient of the centre of `layers` uniform filters on a line, convolved one by one."""
    field = np.ones(1)
    for _ in range(layers):
        wider = np.zeros(len(field) + taps - 1)
        for i, value in enumerate(field):
            wider[i : i + taps] += value / taps
        field = wider
    return field
