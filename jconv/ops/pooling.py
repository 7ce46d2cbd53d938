"""What the poolings share: checks, which pixels a tap of a window reads, and how vmap folds.

Shapes (any number of spatial axes; written for two): x N H W C, y N P Q C, window R S. A *tap* is
one of the R*S pixels of a window, row-major; a *position* is a pixel of the image, row-major.
"""

from __future__ import annotations

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jconv.algorithms import pool_adjoint
from jconv.core import Parts
from jconv.ops.dtypes import MOST_INT32
from jconv.window import Window, per_axis

KINDS = {
    "numbers": lambda dtype: jnp.issubdtype(dtype, jnp.number),
    "real numbers": lambda dtype: (
        jnp.issubdtype(dtype, jnp.integer) or jnp.issubdtype(dtype, jnp.floating)
    ),
    "floating-point numbers": lambda dtype: jnp.issubdtype(dtype, jnp.floating),
    "floating-point or complex numbers": lambda dtype: jnp.issubdtype(dtype, jnp.inexact),
}


def pooling_window(op, x, window, stride, padding, dilation, ceil_mode, *, kind="real numbers"):
    """The window of a call on x (N, *spatial, C), which must hold numbers of a kind (`KINDS`)."""
    check_image(op, x, kind)
    size = per_axis(window, x.ndim - 2, "window", op)
    return Window.of(
        x.shape[1:-1], size, stride=size if stride is None else stride, padding=padding,
        dilation=dilation, ceil_mode=ceil_mode, op=op,
    )  # fmt: skip


def check_image(op, x, kind, name="x"):
    if x.ndim < 3:
        raise ValueError(
            f"{op}: {name} must be (N, *spatial, C) with one or more spatial axes; got {name} "
            f"{x.shape}"
        )
    if not KINDS[kind](x.dtype):
        raise ValueError(f"{op}: {name} must hold {kind}; got {name} {x.shape} of {x.dtype}")
    if x.dtype == jnp.float8_e8m0fnu:
        raise ValueError(
            f"{op}: {name} must be of a dtype that has 0 and negative numbers; got {name} "
            f"{x.shape} of {x.dtype}"
        )


def check_positions(op, spatial, what="an image"):
    """Positions are int32; the sizes that jax.export leaves open can't be compared."""
    known = all(isinstance(n, int) for n in spatial)
    if known and math.prod(spatial) > MOST_INT32:
        raise ValueError(
            f"{op}: {what} must have fewer than 2**31 pixels, whose positions are int32; got "
            f"spatial axes {tuple(spatial)}"
        )


def check_windows(op, window):
    """So are taps, and places in the image with its padding."""
    check_positions(op, window.input)
    padded = (n + lo + hi for n, (lo, hi) in zip(window.input, window.pads, strict=True))
    sizes = (math.prod(window.size), *window.stride, *window.dilation, *padded)
    if any(isinstance(size, int) and size > MOST_INT32 for size in sizes):
        raise ValueError(
            f"{op}: a window, its steps and an axis with its padding must have fewer than 2**31 "
            f"pixels, whose positions are int32; got window {window.size}, stride {window.stride}, "
            f"dilation {window.dilation}, padding {window.pads}, spatial axes {window.input}"
        )


def check_not_empty(op, x):
    if 0 in x.shape[1:-1]:
        raise ValueError(
            f"{op}: every spatial axis must have a pixel; got x {x.shape}, (N, *spatial, C)"
        )


def least(dtype):
    """The identity of maxima: -inf, or the smallest number where there is none."""
    if not jnp.issubdtype(dtype, jnp.floating):
        return np.array(jnp.iinfo(dtype).min, dtype)
    infinite = np.array(-np.inf, dtype)  # NaN, or the smallest number, in the float8 without it
    return infinite if np.isinf(infinite) else np.array(jnp.finfo(dtype).min, dtype)


def beats(a, b):
    """a is larger, or the first NaN."""
    return (
        (a > b) | (jnp.isnan(a) & ~jnp.isnan(b)) if jnp.issubdtype(a.dtype, jnp.floating) else a > b
    )


def first_largest(candidates):
    """The largest of tuples (array, arrays that belong to it), entry by entry, the first of equals.

    By selection, so its transpose is one too.
    """
    best, *others = candidates
    for other in others:
        wins = beats(lax.stop_gradient(other[0]), lax.stop_gradient(best[0]))
        best = tuple(jnp.where(wins, b, a) for a, b in zip(best, other, strict=True))
    return best


def fold(op, size, args, mapped, **static):
    """The mapped axis goes into N: what is not mapped is repeated."""
    args = [
        a if m else jnp.broadcast_to(a, (size, *a.shape)) for a, m in zip(args, mapped, strict=True)
    ]
    out = op(*(a.reshape(-1, *a.shape[2:]) for a in args), **static)
    return jax.tree.map(lambda a: a.reshape(size, -1, *a.shape[1:]), out)


def apart(operands, results):
    """For kernels: every array of a call falls into parts along N and along C."""

    def parts(image, *_, **static):
        axes = ("n", *[None] * (image.ndim - 2), "c")
        return Parts((axes,) * operands, (axes,) * results)

    return parts


def transposed_by(op):
    def rule(cotangent, *data, implementation, **static):
        return op(cotangent, *data, implementation=op.offers(implementation), **static)

    return rule


def taps(window):
    """The taps' indices (r, s), row-major."""
    return itertools.product(*map(range, window.size))


def pixels(x, tap, window, fill):
    """What one tap of every window reads, N P Q C; `fill` where that is padding."""
    windows, read = reach(tap, window)
    return at_windows(part(x, read, window.stride), windows, window, fill)


def reach(tap, window):
    """The windows whose tap reads a pixel of the image, and the pixels: (first, stop) per axis.

    Padding goes round what is computed of the pixels, not round x: a padded x, shared by several
    taps, XLA stores, which took as long as all the rest (3x3 windows at stride 2, 112x112x64).
    """
    windows, read = [], []
    axes = zip(
        tap, window.input, window.output, window.stride, window.dilation, window.pads, strict=True
    )
    for r, n, p, s, d, (lo, _) in axes:
        start = r * d - lo  # what the first window reads, be it in the image or not
        first = min(max(0, -(start // s)), p)
        stop = max(first, min(p, (n - 1 - start) // s + 1))
        windows.append((first, stop))
        read.append((first * s + start, (stop - 1) * s + start + 1) if first < stop else (0, 0))
    return windows, read


def part(a, ends, stride=None):
    """a (N, *spatial, C) from the first entry up to the one before `stop` on each spatial axis."""
    start, stop = zip(*ends, strict=True)
    steps = None if stride is None else (1, *stride, 1)
    return lax.slice(a, (0, *start, 0), (a.shape[0], *stop, a.shape[-1]), steps)


def at_windows(a, windows, window, fill):
    """N P Q C: a where the windows are that it belongs to, and `fill` at the others."""
    edges = ((first, p - stop, 0) for (first, stop), p in zip(windows, window.output, strict=True))
    return lax.pad(a, jnp.asarray(fill, a.dtype), [(0, 0, 0), *edges, (0, 0, 0)])


def at_pixels(a, read, window):
    """N H W C: a at the pixels that it belongs to, as `reach` has them, and 0 at the others."""
    axes = zip(read, window.input, window.stride, strict=True)
    edges = ((start, n - stop, s - 1) for (start, stop), n, s in axes)
    return lax.pad(a, jnp.zeros((), a.dtype), [(0, 0, 0), *edges, (0, 0, 0)])


def position(tap, window):
    """Row-major position in the image, int32, of the pixel that `tap` reads; -1: padding."""
    tap = tap.astype(jnp.int32)
    position, inside = jnp.zeros((), jnp.int32), jnp.ones((), bool)
    for axis, n in enumerate(window.input):
        r = tap // math.prod(window.size[axis + 1 :]) % window.size[axis]
        pixel = _window_start(axis, tap.shape, window) + r * window.dilation[axis]
        inside &= (pixel >= 0) & (pixel < n)
        position = position * n + pixel
    return jnp.where(inside, position, -1)


def tap_at(position, window):
    """The tap that reads the pixel at a row-major position; 0 where there is none."""
    tap = jnp.zeros((), jnp.int32)
    for axis, n in enumerate(window.input):
        pixel = position // math.prod(window.input[axis + 1 :]) % n
        r = (pixel - _window_start(axis, position.shape, window)) // window.dilation[axis]
        tap = tap * window.size[axis] + r
    return jnp.where(position < math.prod(window.input), tap, 0)


def _window_start(axis, shape, window):
    """The first pixel of each window along a spatial axis."""
    return (
        lax.broadcasted_iota(jnp.int32, shape, axis + 1) * window.stride[axis]
        - window.pads[axis][0]
    )


def more_taps_than(window, most):
    """Why a body with a term for each tap can't take the windows, or None."""
    count = math.prod(window.size)
    too_many = f"only windows of at most {most} pixels, got {count}" if count > most else None
    return symbolic(window) or too_many


def more_windows_than(window, most):
    """Why a body with a term for each window that holds a pixel can't take them, or None."""
    if reason := symbolic(window):
        return reason
    count = pool_adjoint.terms(window)
    return f"only where at most {most} windows hold a pixel, got {count}" if count > most else None


def symbolic(window):
    """Why a body that compares the sizes can't take the windows, or None."""
    sizes = (*window.input, *itertools.chain.from_iterable(window.pads))
    known = all(isinstance(n, int) for n in sizes)
    return None if known else "not for symbolic sizes"


def xla_window(window):
    return {
        "window_dimensions": (1, *window.size, 1),
        "window_strides": (1, *window.stride, 1),
        "padding": ((0, 0), *window.pads, (0, 0)),
        "window_dilation": (1, *window.dilation, 1),
    }
