"""Sampling an image on a grid of positions, and the grids of affine maps (spatial transformers).

    y[n, p, q, c] = x[n, h, w, c] at (w, h) = pixels(grid[n, p, q])    positions are (x, y)

A coordinate g from -1 to 1 spans the image of n pixels,

    pixel = ((g + 1) n - 1) / 2     -1 and 1 are the outer edges of the corner pixels
    pixel = (g + 1) (n - 1) / 2     align_corners: -1 and 1 are the centres of the corner pixels

and a position outside reads 0, the nearest border pixel, or the image mirrored at its edge (at its
corner pixels' centres with align_corners). Shapes: x N H W C, grid N P Q 2, y N P Q C; or x N D H W
C, grid N O P Q 3, y N O P Q C, positions (x, y, z). Linear in x; the gradient in x is a scatter, on
a GPU in no fixed order (see `sample.py`).

Reference: Jaderberg et al. 2015, "Spatial transformer networks", arXiv:1506.02025;
torch.nn.functional.grid_sample.
"""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jconv.ops import sample
from jconv.ops.dtypes import at_least_float32, wider
from jconv.ops.pooling import check_positions
from jconv.window import per_axis

MODES = ("nearest", "bilinear", "bicubic")
PADDING_MODES = ("zeros", "border", "reflection")


def grid_sample(
    x: jax.Array,
    grid: jax.Array,
    *,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool = False,
) -> jax.Array:
    """x (N, H, W, C) at the positions of grid (N, P, Q, 2): (N, P, Q, C), of x's dtype.

    In three dimensions x is (N, D, H, W, C) and grid (N, O, P, Q, 3). As
    `torch.nn.functional.grid_sample`, with derivatives of every order in x and in grid.

    Args:
      grid: positions (x, y[, z]) from -1 to 1, of a dtype of their own: float32 positions serve a
        bfloat16 image. A NaN reads 0 with padding_mode "zeros" and the first pixel else; "bicubic"
        gives NaN for what is not finite.
      mode: "nearest" (halves to the even pixel), "bilinear" (linear in each axis), or "bicubic"
        (Keys, a = -3/4; in two dimensions).
      padding_mode: what lies outside: "zeros" | "border" | "reflection".
      align_corners: -1 and 1 are the centres of the corner pixels, not their outer edges.

    Raises:
      ValueError: shapes or dtypes that don't fit each other, or an unknown mode.
    """
    x, grid = jnp.asarray(x), jnp.asarray(grid)
    _check(x, grid, mode, padding_mode)
    wide = at_least_float32(x.dtype)
    spatial, shape = x.shape[1:-1], grid.shape[1:-1]
    real = wider(at_least_float32(grid.dtype), jnp.finfo(wide).dtype)
    at = grid.astype(real).reshape(grid.shape[0], np.prod(shape, dtype=int), 1, len(spatial))
    # Positions come as (x, y, z), the axes of an image as (D, H, W).
    each = list(zip(jnp.moveaxis(at[..., ::-1], -1, 0), spatial, strict=True))
    image = x.astype(wide)[..., None, :]
    inner = functools.partial(_inside, padding_mode=padding_mode, align_corners=align_corners)
    at = [_pixels(g, n, align_corners) for g, n in each]
    if mode == "bicubic":
        y = _bicubic(image, at, inner)
    else:
        at = [inner(p, n) for p, n in zip(at, spatial, strict=True)]
        y = (
            sample.pixels(image, tuple(map(jnp.round, at)))
            if mode == "nearest"
            else sample.linear(image, jnp.stack(at, -1))
        )
    return y.reshape(x.shape[0], *shape, x.shape[-1]).astype(x.dtype)


def affine_grid(
    theta: jax.Array, size: int | Sequence[int], *, align_corners: bool = False
) -> jax.Array:
    """The grid (N, P, Q, 2) on which theta (N, 2, 3) maps the output's positions to the input's.

        grid[n, p, q] = theta[n] (x, y, 1)'     x, y: the centre of pixel (p, q), from -1 to 1

    For `grid_sample`; with theta (N, 3, 4) the grid is (N, O, P, Q, 3). As
    `torch.nn.functional.affine_grid`, whose size has N and C too.

    Args:
      size: pixels of the output: (P, Q) or (O, P, Q), or one int for all.
      align_corners: -1 and 1 are the centres of the corner pixels, not their outer edges.

    Raises:
      ValueError: a theta of another shape or dtype, or a size that does not fit it.
    """
    theta = jnp.asarray(theta)
    if theta.shape[1:] not in ((2, 3), (3, 4)) or not jnp.issubdtype(theta.dtype, jnp.floating):
        raise ValueError(
            "affine_grid: theta must be floating point (N, 2, 3) or (N, 3, 4); got theta "
            f"{theta.shape} of {theta.dtype}"
        )
    axes = theta.shape[1]
    size = per_axis(size, axes, "size", "affine_grid")
    lines = [np.linspace(-1, 1, n) if n > 1 else np.zeros(1) for n in size]
    if not align_corners:
        lines = [line * (n - 1) / n for line, n in zip(lines, size, strict=True)]
    wide = at_least_float32(theta.dtype)
    columns = theta.astype(wide).reshape(theta.shape[0], *(1,) * axes, axes, axes + 1)
    grid = columns[..., axes]
    # x is the last axis. One line for each: no array of the grid's size is written into a program.
    for j, line in enumerate(reversed(lines)):
        shape = [-1 if a == axes - j else 1 for a in range(axes + 2)]
        grid = grid + columns[..., j] * line.astype(wide).reshape(shape)
    return grid.astype(theta.dtype)


def _pixels(g, n, align_corners):
    return (g + 1) / 2 * (n - 1) if align_corners else ((g + 1) * n - 1) / 2


def _inside(at, n, *, padding_mode, align_corners):
    """Positions in pixels, moved into the image as the padding mode has it.

    The derivative is PyTorch's: 0 at the border and beyond, +-1 under reflection.
    """
    if padding_mode == "zeros":
        return at
    if padding_mode == "reflection":
        at = _reflected(at, n, align_corners)
    first, last = jnp.zeros((), at.dtype), jnp.full((), n - 1, at.dtype)
    return jnp.where(
        at < last, jnp.where(at > first, at, first), jnp.where(at >= last, last, first)
    )


def _reflected(at, n, align_corners):
    low, span = (0.0, n - 1) if align_corners else (-0.5, n)
    if span == 0:
        return jnp.zeros_like(at)
    at = at - low
    at = jnp.where(at < 0, -at, at)
    turns = lax.stop_gradient(jnp.floor(at / span))
    rest = lax.rem(at, jnp.full(at.shape, span, at.dtype))
    return jnp.where(turns % 2 == 0, rest, span - rest) + low


def _bicubic(x, at, inner):
    """The 16 pixels around each position, each moved into the image by itself."""
    parts = []
    for p, n in zip(at, x.shape[1:-2], strict=True):
        low = lax.stop_gradient(jnp.floor(p))
        after = p - low
        taps = [(inner(low + tap, n), _keys(after, tap)) for tap in range(-1, 3)]
        parts.append([(lax.stop_gradient(position), weight) for position, weight in taps])
    total = jnp.zeros((), x.dtype)
    for corner in itertools.product(*parts):
        weight = functools.reduce(operator.mul, (weight for _, weight in corner))
        pixel = sample.pixels(x, tuple(p for p, _ in corner))
        total += pixel * weight[..., None].astype(x.dtype)
    return total


def _keys(after, tap, a=-0.75):
    """Keys' filter for the pixel `tap` steps from the one below a position, `after` beyond it."""
    t = after - tap if tap <= 0 else tap - after
    if tap in (0, 1):
        return ((a + 2) * t - (a + 3)) * t**2 + 1
    return ((t - 5) * t + 8) * t * a - 4 * a


def _check(x, grid, mode, padding_mode):
    axes = x.ndim - 2
    if axes not in (2, 3) or 0 in x.shape[1:-1] or not jnp.issubdtype(x.dtype, jnp.inexact):
        raise ValueError(
            "grid_sample: x must be floating point or complex (N, H, W, C) or (N, D, H, W, C), no "
            f"spatial axis empty; got x {x.shape} of {x.dtype}"
        )
    check_positions("grid_sample", x.shape[1:-1])
    if grid.ndim != x.ndim or grid.shape[0] != x.shape[0] or grid.shape[-1] != axes:
        raise ValueError(
            f"grid_sample: grid must be (N, {'P, Q' if axes == 2 else 'O, P, Q'}, {axes}) with "
            f"x's N={x.shape[0]}; got grid {grid.shape}, x {x.shape}"
        )
    if not jnp.issubdtype(grid.dtype, jnp.floating):
        raise ValueError(f"grid_sample: grid must be floating point; got grid of {grid.dtype}")
    if mode not in MODES or (mode == "bicubic" and axes == 3):
        raise ValueError(
            "grid_sample: mode must be nearest, bilinear or, in two dimensions, bicubic; "
            f"got {mode!r} for x {x.shape}"
        )
    if padding_mode not in PADDING_MODES:
        raise ValueError(
            f"grid_sample: padding_mode must be one of {', '.join(PADDING_MODES)}; got "
            f"{padding_mode!r}"
        )
