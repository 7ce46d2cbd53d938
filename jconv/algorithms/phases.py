"""Convolution of an image with zeros between its pixels, without the products with those zeros.

    y[p] = sum over r of x'[p + r*dilation - lo] w[r],    x'[i*e] = x[i], zeros elsewhere

Outputs p = q*e + a of one phase a meet pixels of x only at the taps with a + r*dilation = lo
(mod e). So the convolution is e of them, each with 1/e of the filter, on x as it is; their outputs
are interleaved. Over several axes the phases multiply. This is the input gradient of a convolution
with stride e, and so the transposed convolution.

Shapes: x N H W C, w R S C/G K, y N P Q K. On two cores XLA's own convolution takes half the time
in this way where the filter is larger than the stride and the features are few (stem7s2 dx 144 ms
to 70); with more, its sums are so much less exact that `rows` is taken for the parts. Where each
phase has one tap, as in transposed convolutions whose windows don't overlap, nothing is gained.

Beside operands and result: what the parts need and twice y, of a chunk of 2 MiB or one example.

Reference: Shi et al. 2016, "Is the deconvolution layer the same as a convolutional layer?",
arXiv:1609.07009.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jconv.algorithms import chunks
from jconv.window import Pair


class Phase(NamedTuple):
    """One axis of one of the convolutions: these taps of the filter, no taps for zeros."""

    taps: slice
    pads: Pair
    dilation: int


def conv(
    convolve: Callable[..., jax.Array],
    x: jax.Array,
    w: jax.Array,
    stride: Sequence[int],
    pads: Sequence[Pair],
    input_dilation: Sequence[int],
    dilation: Sequence[int],
    *,
    output: Sequence[int],
    **options: Any,
) -> jax.Array:
    """y (N, *output, K) from x (N, *spatial, C) and w (*window, C/G, K), in chunks of examples.

    Args:
      input_dilation: 1 on every axis, unless `stride` is: then there is but one phase.
      convolve: computes each phase; it has the parameters of this function.
      options: passed on to it.
    """
    ones = (1,) * len(stride)

    def phase(x, w, pads, dilation, output):
        return convolve(x, w, stride, pads, ones, dilation, output=output, **options)

    def some(x):
        return spread(phase, x, w, pads, input_dilation, dilation, output=output)

    bytes = (x[0].size + math.prod(output) * w.shape[-1]) * x.dtype.itemsize
    return chunks.each(some, x, length=chunks.length(x.shape[0], bytes))


def spread(
    convolve: Callable[..., jax.Array],
    x: jax.Array,
    w: jax.Array,
    pads: Sequence[Pair],
    input_dilation: Sequence[int],
    dilation: Sequence[int],
    *,
    output: Sequence[int],
) -> jax.Array:
    """y (N, *output, K) from x (N, *spatial, C) and w (*window, C/G, K), at stride 1.

    Args:
      convolve: `convolve(x, w, pads, dilation, output=...)`: the convolution at stride 1 of an
        image without zeros between its pixels.
    """
    if set(input_dilation) == {1}:
        return convolve(x, w, pads, dilation, output=output)
    axes = list(zip(w.shape, x.shape[1:-1], pads, input_dilation, dilation, output, strict=False))
    rows = [-(-p // e) for p, e in zip(output, input_dilation, strict=True)]
    parts = []
    for phase in itertools.product(*(_phases(*axis) for axis in axes)):
        part = w[tuple(axis.taps for axis in phase)]
        if 0 in part.shape:
            parts.append(None)
        else:
            pads, dilation = [axis.pads for axis in phase], [axis.dilation for axis in phase]
            parts.append(convolve(x, part, pads, dilation, output=rows))
    like = next(part for part in parts if part is not None)
    parts = [jnp.zeros_like(like) if part is None else part for part in parts]
    return _interleaved(parts, input_dilation, output)


def _phases(taps, n, pads, e, dilation, output):
    """The phases of one axis, each with ceil(output / e) outputs."""
    lo, rows = pads[0], -(-output // e)
    step = e // math.gcd(e, dilation)  # from one tap of a phase to the next
    for a in range(e):
        first = next((r for r in range(step) if (a + r * dilation - lo) % e == 0), taps)
        between = dilation * step // e
        before = (lo - a - first * dilation) // e
        extent = between * (len(range(first, taps, step)) - 1) + 1
        yield Phase(slice(first, taps, step), (before, rows - 1 + extent - before - n), between)


def _interleaved(parts, spread, output):
    """(N, *output, K) from one (N, *rows, K) for each phase, that of the last axis fastest."""
    axes, (n, *rows, k) = len(spread), parts[0].shape
    y = jnp.stack(parts).reshape(*spread, n, *rows, k)
    pairs = [axis for i in range(axes) for axis in (axes + 1 + i, i)]
    y = y.transpose(axes, *pairs, 2 * axes + 1)
    y = y.reshape(n, *(p * e for p, e in zip(rows, spread, strict=True)), k)
    return lax.slice(y, (0,) * y.ndim, (n, *output, k))
