"""Resizing: along each axis of the image a linear map, which reads a few pixels for each output.

    y[.., i, ..] = sum over t of weight[i, t] * x[.., index[i, t], ..]

Shapes: x (N, *spatial, C), y (N, *size, C); index and weight (size, taps) for each axis of n
pixels, computed once, in float64. Output i, of m, looks at the input around

    (i + 1/2) n/m - 1/2      pixels are squares, the corners of the images meet
    i (n - 1)/(m - 1)        align_corners: pixels are points, the centres of the corner pixels meet

and `resize` with a `scale` takes 1/scale for n/m. float16 and bfloat16 are summed in float32.

One linear operation, whose transpose is itself with the entries of the matrix transposed. So every
derivative of every order is a gather, never a scatter: the same numbers in every run on a GPU too.

    resample     y = A x     [.. n ..] -> [.. m ..]

References: torch.nn.functional.interpolate; Keys 1981, "Cubic convolution interpolation for digital
image processing".
"""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jconv.core import Implementation, Operation, linear
from jconv.ops.dtypes import at_least_float32
from jconv.ops.pooling import check_positions
from jconv.ops.resize_line import CONTINUOUS, METHODS, Line, entries, taps
from jconv.window import PerAxis, per_axis
from jconv.window import entries as entries_of

# Taps are written into the program one by one: from here on one matrix product is faster (CPU).
MOST_TAPS = 32


def resize(
    x: jax.Array,
    size: PerAxis | None = None,
    *,
    scale: float | Sequence[float] | None = None,
    method: str = "nearest",
    align_corners: bool = False,
    antialias: bool = False,
    implementation: str | None = None,
) -> jax.Array:
    """x (N, *spatial, C) resized to (N, *size, C), as `torch.nn.functional.interpolate`.

    Args:
      size: pixels of the result, per axis.
      scale: instead of size: the result has floor(n * scale) pixels, and output pixels lie exactly
        1/scale apart in the input (PyTorch's `scale_factor` with `recompute_scale_factor=False`).
      method: "nearest" (the pixel at floor(i n/m)), "nearest-exact" (the pixel nearest to the
        centre, as in PIL and jax.image), "linear", "cubic" (Keys, a = -3/4; -1/2 with antialias),
        "area" (the mean over what the output pixel covers, as in adaptive average pooling).
      align_corners: the centres of the corner pixels meet; for "linear" and "cubic".
      antialias: widens the filter to the input's pixels per output pixel where x is made smaller,
        as PIL does; for "linear" and "cubic".
      implementation: None takes the table's choice (see `jconv.explain_choice`); a name runs that
        one or raises. Above 32 pixels per output pixel the choice is a matrix product, in which one
        NaN or infinity reaches its whole line of the image.

    Raises:
      ValueError: arguments that don't fit each other, or a sum of integers.
      NotImplementedError: the implementation that was asked for can't compute this call.
    """
    x = jnp.asarray(x)
    _check(x, size, scale, method, align_corners, antialias)
    n = x.shape[1:-1]
    if scale is None:
        assert size is not None
        m = per_axis(size, len(n), "size", "resize")
        scales = (None,) * len(n)
    else:
        scales = _scales(scale, len(n))
        m = tuple(math.floor(pixels * s) for pixels, s in zip(n, scales, strict=True))
        if min(m) < 1:
            raise ValueError(
                f"resize: scale must leave at least one pixel of each axis; got scale={scale!r}, x "
                f"{x.shape}"
            )
    lines = [
        Line(n[axis], m[axis], method, align_corners, antialias, scales[axis])
        for axis in range(len(n))
    ]
    for axis in (*n, *m):
        check_positions("resize", (axis,), "an axis")
    y = x.astype(at_least_float32(x.dtype))
    # What becomes smaller first: the other axes have less to do.
    for axis in sorted(range(len(n)), key=lambda axis: m[axis] / n[axis]):
        if not lines[axis].identity:
            y = resample(y, line=lines[axis], axis=axis + 1, implementation=implementation)
    return y.astype(x.dtype)


# Two bodies, one operation


def _resample_taps(x, *, line, axis):
    index, weight = taps(line)
    y = jnp.zeros((), x.dtype)
    for t in range(index.shape[1]):
        pixels = jnp.take(x, index[:, t], axis, mode="clip")
        factor = _along(weight[:, t], axis, x.ndim)
        if (factor == 1).all():
            term = pixels
        else:
            term = pixels * factor.astype(x.dtype)
            if not factor.all():  # A pixel of weight 0 is not read: it may be infinite.
                term = jnp.where(factor != 0, term, jnp.zeros((), x.dtype))
        y = term if t == 0 else y + term
    return y


def _resample_matrix(x, *, line, axis):
    i, j, value = entries(line)
    matrix = np.zeros((line.output, x.shape[axis]))
    matrix[i, j] = value
    y = jnp.tensordot(x, matrix.astype(x.dtype), ((axis,), (1,)), precision=lax.Precision.HIGHEST)
    return jnp.moveaxis(y, -1, axis)


def _along(values, axis, rank):
    return values.reshape([-1 if a == axis else 1 for a in range(rank)])


def _too_many_taps(x, *, line, axis):
    count = int(np.bincount(entries(line)[0]).max())
    return f"only up to {MOST_TAPS} taps, got {count}" if count > MOST_TAPS else None


RESAMPLE = (
    Implementation("taps", _resample_taps, _too_many_taps),
    Implementation("matrix", _resample_matrix),
)

resample = Operation(
    "resample", RESAMPLE, fold=lambda size, args, mapped, *, axis, **static: resample(
        *args, axis=axis + 1, **static
    ),
)  # fmt: skip


def _transposed(cotangent, *, line, dtype, **static):
    line = dataclasses.replace(line, transposed=not line.transposed)
    return resample(cotangent, line=line, **static)


linear(resample, _transposed)


def _scales(scale, axes):
    given = entries_of(scale) or (scale,) * axes
    real = [isinstance(s, numbers.Real) and not isinstance(s, bool) for s in given]
    if len(given) != axes or not all(real) or not all(0 < s < math.inf for s in given):
        raise ValueError(
            f"resize: scale must be a positive number or one for each of {axes} spatial axes; got "
            f"{scale!r}"
        )
    return tuple(map(float, given))


def _check(x, size, scale, method, align_corners, antialias):
    if x.ndim < 3 or 0 in x.shape[1:-1]:
        raise ValueError(
            "resize: x must be (N, *spatial, C) with one or more spatial axes, none empty; got x "
            f"{x.shape}"
        )
    if (size is None) == (scale is None):
        raise ValueError(f"resize: give size or scale, one of them; got size={size}, scale={scale}")
    if method not in METHODS:
        raise ValueError(
            f"resize: method must be one of {', '.join(METHODS)} (PyTorch's bilinear and trilinear "
            f"are linear, its bicubic is cubic); got {method!r}"
        )
    for name, given in (("align_corners", align_corners), ("antialias", antialias)):
        if given and method not in CONTINUOUS:
            raise ValueError(
                f'resize: {name} is for method="linear" or "cubic"; got method="{method}"'
            )
    if not method.startswith("nearest") and not jnp.issubdtype(x.dtype, jnp.inexact):
        raise ValueError(
            f'resize: method="{method}" takes means, so x must be floating point or complex; got x '
            f"of {x.dtype}"
        )
