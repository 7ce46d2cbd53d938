"""Max pooling whose gradient is shared among equal maxima.

Where k of a window's pixels equal its maximum y, each has the subgradient 1/k: with E, which has a
1 wherever a pixel equals its window's maximum,

    dy = E dx / E 1         dx = E' (dy / E 1)

Shapes (any number of spatial axes; written for two): x N H W C, y N P Q C, window R S. E depends on
x, yet is constant wherever it has a derivative, so two linear operations, each the transpose of the
other, give every derivative; no sum depends on the order in which a device works:

    take_equal     E t     [N HW C] -> [N PQ C]
    put_equal      E' d    [N PQ C] -> [N HW C]

Equal NaN share alike. Sums of float16 and bfloat16 are taken in float32.
"""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.interpreters import ad

from jconv.core import Implementation, Operation, linear
from jconv.ops.dtypes import at_least_float32
from jconv.ops.pooling import (
    at_pixels,
    at_windows,
    fold,
    least,
    part,
    reach,
    taps,
    transposed_by,
)
from jconv.ops.winner import largest, too_many_taps


def _take_equal_shifted(t, x, y, *, window, dtype):
    t = t.astype(at_least_float32(t.dtype))

    def term(tap):
        windows, read = reach(tap, window)
        pixel, tangent = (part(a, read, window.stride) for a in (x, t))
        return at_windows(_where_equal(pixel, part(y, windows), tangent), windows, window, 0)

    return functools.reduce(jnp.add, map(term, taps(window))).astype(dtype)


def _put_equal_shifted(dy, x, y, *, window, dtype):
    dy = dy.astype(at_least_float32(dy.dtype))

    def term(tap):
        windows, read = reach(tap, window)
        pixel = part(x, read, window.stride)
        return at_pixels(_where_equal(pixel, *(part(a, windows) for a in (y, dy))), read, window)

    return functools.reduce(jnp.add, map(term, taps(window))).astype(dtype)


# The same, in a loop over the taps: a program whose size does not grow with the window.


def _take_equal_loop(t, x, y, *, window, dtype):
    if 0 in window.output:
        return jnp.zeros(y.shape, dtype)
    t = t.astype(at_least_float32(t.dtype))
    x, t = _padded(x, least(x.dtype), window), _padded(t, _zero(t), window)

    def term(tap):
        return _where_equal(_pixels_at(x, tap, window), y, _pixels_at(t, tap, window))

    # Tap 0 outside the loop: the sum then varies over the mesh axes that its terms vary over.
    count = math.prod(window.size)
    return lax.fori_loop(1, count, lambda tap, sum: sum + term(tap), term(0)).astype(dtype)


def _put_equal_loop(dy, x, y, *, window, dtype):
    if 0 in window.output:
        return jnp.zeros(x.shape, dtype)
    dy = dy.astype(at_least_float32(dy.dtype))
    x = _padded(x, least(x.dtype), window)
    between = ((0, 0, 0), *((0, 0, s - 1) for s in window.stride), (0, 0, 0))

    def add(tap, dx):
        terms = _where_equal(_pixels_at(x, tap, window), y, dy)
        terms, start = lax.pad(terms, _zero(dy), between), _start_of(tap, window)
        old = lax.dynamic_slice(dx, start, terms.shape)
        return lax.dynamic_update_slice(dx, old + terms, start)

    dx = add(0, jnp.zeros_like(x, dy.dtype))
    dx = lax.fori_loop(1, math.prod(window.size), add, dx)
    crop = ((0, 0, 0), *((-lo, -hi, 0) for lo, hi in window.pads), (0, 0, 0))
    return lax.pad(dx, _zero(dy), crop).astype(dtype)


def _padded(x, fill, window):
    return lax.pad(x, fill, ((0, 0, 0), *((lo, hi, 0) for lo, hi in window.pads), (0, 0, 0)))


def _pixels_at(x, tap, window):
    """What the tap with a row-major number reads in every window of a padded x, N P Q C."""
    span = tuple((p - 1) * s + 1 for p, s in zip(window.output, window.stride, strict=True))
    shape = (x.shape[0], *span, x.shape[-1])
    part = lax.dynamic_slice(x, _start_of(tap, window), shape)
    return lax.slice(part, (0,) * x.ndim, shape, (1, *window.stride, 1))


def _start_of(tap, window):
    start, tap = [], jnp.asarray(tap, jnp.int32)
    for size, dilation in zip(reversed(window.size), reversed(window.dilation), strict=True):
        start.insert(0, tap % size * dilation)
        tap //= size
    zero = jnp.zeros((), jnp.int32)
    return (zero, *start, zero)


def _where_equal(pixel, y, value):
    return jnp.where((pixel == y) | (jnp.isnan(pixel) & jnp.isnan(y)), value, _zero(value))


def _zero(x):
    return jnp.zeros((), x.dtype)


def _table(shifted, loop):
    return (Implementation("shifted", shifted, too_many_taps), Implementation("direct", loop))


def _maxima(random, values, x, y, *, window, **static):
    """Operands to measure with: numbers, and an image with its windows' maxima."""
    values, x = (random.standard_normal(a.shape, np.float32).astype(a.dtype) for a in (values, x))
    return values, x, largest(x, window=window)


take_equal = Operation(
    "pool_take_equal", _table(_take_equal_shifted, _take_equal_loop),
    fold=lambda *a, **k: fold(take_equal, *a, **k), operands=_maxima,
)  # fmt: skip
put_equal = Operation(
    "pool_put_equal", _table(_put_equal_shifted, _put_equal_loop),
    fold=lambda *a, **k: fold(put_equal, *a, **k), operands=_maxima,
)  # fmt: skip
# The values of `largest`, but for its row "lax", whose gradient is XLA's: to any one of equals.
largest_tied = Operation(
    "max_pool_tied", [row for row in largest.table if not row.inline],
    fold=lambda *a, **k: fold(largest_tied, *a, **k),
)  # fmt: skip


def _largest_tied_jvp(primals, tangents, *, window, implementation):
    (x,), (dx,) = primals, tangents
    y = largest_tied(x, window=window, implementation=implementation)
    dx = ad.instantiate_zeros(dx)
    if dx.dtype == jax.dtypes.float0:
        return y, np.zeros(y.shape, jax.dtypes.float0)
    take = functools.partial(
        take_equal, window=window, dtype=at_least_float32(dx.dtype),
        implementation=take_equal.offers(implementation),
    )  # fmt: skip
    count = jnp.maximum(take(jnp.ones_like(x), x, y), 1)  # 0 in a window of padding alone
    return y, (take(dx, x, y) / count).astype(dx.dtype)


ad.primitive_jvps[largest_tied.primitive] = _largest_tied_jvp
linear(take_equal, transposed_by(put_equal), data=2)
linear(put_equal, transposed_by(take_equal), data=2)
