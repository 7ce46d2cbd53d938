"""Filters at real positions, spectral pooling and continuous filters, number by number."""

from __future__ import annotations

import cmath
import itertools
import math

import numpy as np

from tests.oracles.conv import conv


def share(distance, sigma, interpolation):
    """What a pixel gets of a tap at a distance, before the shares are made to add up to 1."""
    if interpolation == "bilinear":
        return max(0.0, 1 - abs(distance))
    if interpolation == "triangle":
        return max(0.0, 1 + abs(sigma) - abs(distance))
    return math.exp(-((distance / (0.27 + abs(sigma))) ** 2) / 2)


def dcls_kernel(w, position, size, sigma, interpolation):
    """The filter (*size, C, K): every tap of every pair of channels over all pixels."""
    taps, channels, features = w.shape
    dense = np.zeros((*size, channels, features))
    full = (taps, channels, features, len(size))
    position = np.broadcast_to(np.asarray(position, np.float64), full)
    sigma = np.broadcast_to(0.0 if sigma is None else np.asarray(sigma, np.float64), full)
    for t, c, k in np.ndindex(w.shape):
        shares = np.zeros(size)
        for pixel in np.ndindex(*size):
            value = 1.0
            for axis, n in enumerate(size):
                middle = (n - 1) // 2
                at = min(max(middle + position[t, c, k, axis], 0.0), n - 1.0)
                value *= share(pixel[axis] - at, sigma[t, c, k, axis], interpolation)
            shares[pixel] = value
        dense[..., c, k] += w[t, c, k] * shares / shares.sum()
    return dense


def dcls_conv(x, w, position, b, sigma, *, size, interpolation, stride, pads, groups):
    """The convolution with that filter."""
    dense = dcls_kernel(np.asarray(w, np.float64), position, size, sigma, interpolation)
    y = conv(x, dense, stride=stride, pads=pads, dilation=(1,) * len(size), groups=groups)
    return y if b is None else y + np.asarray(b, np.float64)


def mask(f, n, stride, smoothness):
    """1 up to the frequency of the stride, then falling to 0 within `smoothness` frequencies."""
    least = n / (n - smoothness) if n > smoothness else n / 2
    stride = min(max(stride, min(least, max(n / 2, 1))), max(n / 2, 1))
    return min(max((smoothness + n / (2 * stride) - abs(f)) / smoothness, 0.0), 1.0)


def spectral_pool(x, stride, size, smoothness):
    """Each axis by its complex Fourier series, from -size/2 to size/2, the ends by half."""
    x = np.asarray(x, np.float64)
    for axis, m in enumerate(size, start=1):
        x = np.moveaxis(x, axis, 0)
        n = len(x)
        y = np.zeros((m, *x.shape[1:]), complex)
        for f in range(-(m // 2), m // 2 + 1):
            spectrum = sum(x[i] * cmath.exp(-2j * math.pi * f * i / n) for i in range(n)) / n
            if 2 * abs(f) == m:
                spectrum = spectrum / 2
            if stride is not None:
                spectrum = spectrum * mask(f, n, stride[axis - 1], smoothness)
            for p in range(m):
                y[p] += spectrum * cmath.exp(2j * math.pi * f * p / m)
        assert np.abs(y.imag).max() < 1e-12
        x = np.moveaxis(y.real, 0, axis)
    return x


def gaussian_mask(at, width, centre):
    """At every position by itself."""
    y = np.zeros(at.shape[:-1])
    for index in np.ndindex(y.shape):
        away = [(a - c) / w for a, w, c in zip(at[index], width, centre, strict=True)]
        y[index] = math.exp(-sum(d * d for d in away) / 2)
    return y


def linear(h, w, b):
    return [
        sum(h[i] * w[i][j] for i in range(len(h))) + b[j] for j in range(len(b))
    ]  # fmt: skip


def siren(at, layers, frequency):
    """One position (axes,)."""
    h = list(at)
    for w, b in layers[:-1]:
        h = [math.sin(frequency * v) for v in linear(h, w, b)]
    return linear(h, *layers[-1])


def magnet(at, gabors, layers):
    """One position (axes,)."""
    h = gabor(at, *gabors[0])
    for (w, b), each in zip(layers[:-1], gabors[1:], strict=True):
        h = [v * g for v, g in zip(linear(h, w, b), gabor(at, *each), strict=True)]
    return linear(h, *layers[-1])


def gabor(at, waves, phase, mu, gamma):
    values = []
    for j, p in enumerate(phase):
        square = sum((gamma[j][a] * (at[a] - mu[j][a])) ** 2 for a in range(len(at)))
        wave = sum(at[a] * waves[a][j] for a in range(len(at))) + p
        values.append(math.exp(-square / 2) * math.sin(wave))
    return values


def positions(size):
    """The pixels of a window with their positions in -1 ... 1."""
    for pixel in itertools.product(*(range(n) for n in size)):
        yield (
            pixel,
            [2 * i / (n - 1) - 1 if n > 1 else 0.0 for i, n in zip(pixel, size, strict=True)],
        )
