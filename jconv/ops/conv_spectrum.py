"""How much a convolution can stretch an image: its singular values, and a bound on the largest.

With circular padding and stride 1 the matrix of a convolution is block-diagonal in the Fourier
basis, with a C x K block for each frequency f of the image:

    W(f) = sum over r, s of w[r, s] * exp(2 pi i (f1 r dilation / H + f2 s dilation / W))

so its singular values are those of the H*W blocks (Sedghi et al.). Whatever the frequency, W(f) is
a matrix of the filter's own numbers between two vectors of phases: with the taps of some axes in
rows (A) and those of the others in columns (B),

    W(f) = phases_A' [A K x B C] phases_B,   |phases_A| |phases_B| = sqrt(R S)

so sqrt(R S) times the norm of any such matrix bounds the norm at every frequency (Singla & Feizi:
four ways to lay out two axes). Zero padding and stride cut rows and columns out of the circular
matrix of a larger image, so they can't exceed it.

References: Sedghi, Gupta & Long 2019, "The singular values of convolutional layers",
arXiv:1805.10408; Singla & Feizi 2021, "Fantastic four: differentiable bounds on singular values of
convolution layers", arXiv:1911.10258.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jconv.ops.conv_matrix import check_filter
from jconv.ops.dtypes import at_least_float32, wider
from jconv.window import PerAxis, per_axis


def conv_singular_values(
    w: jax.Array,
    spatial: int | Sequence[int],
    *,
    dilation: PerAxis = 1,
    groups: int = 1,
) -> jax.Array:
    """All singular values of a circular convolution with w (*window, C/groups, K) at stride 1.

    They are (*spatial, groups * min(C/groups, K/groups)), one row for each frequency, descending
    within a group; unsorted otherwise. The matrix of the convolution, `conv_matrix` with
    padding_mode="circular", has the same. Differentiable where they are positive, and more than
    once where those of one frequency and group differ from one another.

    Args:
      spatial: extent of the images, pixels.

    Raises:
      ValueError: arguments that don't fit each other.
    """
    w = jnp.asarray(w)
    groups = check_filter("conv_singular_values", w, groups)
    axes = w.ndim - 2
    spatial = per_axis(spatial, axes, "spatial", "conv_singular_values")
    dilation = per_axis(dilation, axes, "dilation", "conv_singular_values")
    blocks = w.astype(wider(at_least_float32(w.dtype), jnp.complex64))
    for n, size, d in zip(spatial, w.shape[:-2], dilation, strict=True):
        turns = np.arange(n)[:, None] * np.arange(size) * d % n / n
        phases = jnp.asarray(np.exp(2j * np.pi * turns), blocks.dtype)
        blocks = jnp.tensordot(blocks, phases, (0, 1), precision="highest")
    c, k = w.shape[-2:]
    blocks = blocks.reshape(c, groups, k // groups, *spatial)
    blocks = jnp.moveaxis(blocks, (1, 0, 2), (-3, -2, -1))
    values = jnp.linalg.svd(blocks, compute_uv=False)
    return values.reshape(*spatial, -1).astype(_real(w.dtype))


def conv_norm_bound(w: jax.Array, *, groups: int = 1) -> jax.Array:
    """A number that no convolution with w (*window, C/groups, K) exceeds in norm.

    It holds for zero and circular padding of any width, any stride and dilation, and images of
    every size; where an image holds a whole window it is at most sqrt(prod(window)) times too
    large. Differentiable.

    Raises:
      ValueError: a w that is no filter of so many groups.
    """
    w = jnp.asarray(w)
    groups = check_filter("conv_norm_bound", w, groups)
    *size, c, k = w.shape
    axes, dtype = len(size), at_least_float32(w.dtype)
    if 0 in w.shape:
        return jnp.zeros((), _real(w.dtype))
    taps = w.astype(dtype).reshape(*size, c, groups, k // groups)
    taps = jnp.moveaxis(taps, -2, 0)  # G R S C/G K/G
    norms = []
    for in_rows in itertools.product((True, False), repeat=axes):
        rows = [axis + 1 for axis in range(axes) if in_rows[axis]]
        columns = [axis + 1 for axis in range(axes) if not in_rows[axis]]
        matrix = taps.transpose(0, *rows, axes + 2, *columns, axes + 1)
        height = math.prod(taps.shape[axis] for axis in (*rows, axes + 2))
        matrix = matrix.reshape(groups, height, -1)
        norms.append(jnp.linalg.svd(matrix, compute_uv=False)[:, 0])
    # The norm of a block-diagonal matrix is that of its largest block.
    bound = math.sqrt(math.prod(size)) * functools.reduce(jnp.minimum, norms).max()
    return _rounded_up(bound, _real(w.dtype))


def _real(dtype):
    return jnp.finfo(dtype).dtype


def _rounded_up(value, dtype):
    """In a narrower dtype no smaller than it was."""
    if jnp.finfo(dtype).bits >= jnp.finfo(value.dtype).bits:
        return value.astype(dtype)
    return (value * (1 + float(jnp.finfo(dtype).eps))).astype(dtype)
