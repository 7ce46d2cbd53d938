"""The winner of each window: an integer argmax, and linear operations at the argmax.

Shapes (any number of spatial axes; written for two): x N H W C, y N P Q C, window R S.

The argmax `tap` (which of the R*S pixels won; the first of equals; NaN wins and stays) has no
derivative. At the argmax the pooling is a gather, linear in x, whose transpose is a scatter. These
two, each the transpose of the other, give every derivative of any order in both modes, for every
stride, dilation and ceil_mode, and the same numbers in every run where a pixel is in at most 64
windows (no atomic sums):

    take       y = T x     [N HW C] -> [N PQ C]     T has a single 1 per row, at the winner
    put        dx = T' dy  [N PQ C] -> [N HW C]
"""

from __future__ import annotations

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.interpreters import ad

from jconv.algorithms import pool_adjoint
from jconv.core import Implementation, Operation, linear, onednn, triton
from jconv.ops.dtypes import at_least_float32
from jconv.ops.pooling import (
    apart,
    at_windows,
    beats,
    fold,
    least,
    more_taps_than,
    more_windows_than,
    part,
    pixels,
    position,
    reach,
    tap_at,
    taps,
    transposed_by,
    xla_window,
)

# The shifted bodies write one term per tap, or per window that holds a pixel, into the program:
# beyond this, compiling takes seconds.
MOST_TERMS = 64
MOST_SIDE_BY_SIDE = 36


def _largest_shifted(x, *, window):
    return functools.reduce(
        jnp.maximum, (pixels(x, tap, window, least(x.dtype)) for tap in taps(window))
    )


def _largest_xla(x, *, window):
    return lax.reduce_window(x, least(x.dtype), lax.max, **xla_window(window))


def _largest_and_tap_shifted(x, *, window):
    """The maxima, then the first tap whose pixel equals its window's.

    The barriers keep XLA from computing one again for each tap of the next: without them it took 10
    times as long for a step with windows of 3x3 at stride 2.
    """
    largest_of = _largest_xla if _many_side_by_side(window=window) else _largest_shifted
    y = lax.optimization_barrier(largest_of(x, window=window))
    kind = tap_dtype(window)
    none = np.array(np.iinfo(kind).max, kind)  # no tap: there are fewer

    def candidate(t, tap):
        windows, read = reach(tap, window)
        pixel = part(x, read, window.stride)
        wins = (pixel == part(y, windows)) | (pixel != pixel)
        return at_windows(jnp.where(wins, kind(t), none), windows, window, none)

    tap = functools.reduce(jnp.minimum, itertools.starmap(candidate, enumerate(taps(window))))
    return y, lax.optimization_barrier(jnp.where(tap == none, 0, tap))


def _largest_and_tap_xla(x, *, window):
    """One reduction over pairs (pixel, its position): of equals the first position wins."""
    at = lax.broadcasted_iota(jnp.int32, (1, *window.input, 1), 1)
    for axis, n in enumerate(window.input[1:], 2):
        at = at * n + lax.broadcasted_iota(jnp.int32, at.shape, axis)

    def larger(a, b):
        first = beats(a[0], b[0]) | (~beats(b[0], a[0]) & (a[1] <= b[1]))
        return jnp.where(first, a[0], b[0]), jnp.where(first, a[1], b[1])

    nothing = (least(x.dtype), np.int32(2**31 - 1))
    pairs = (x, jnp.broadcast_to(at, x.shape))
    y, at = lax.reduce_window(pairs, nothing, larger, **xla_window(window))
    return y, tap_at(at, window).astype(tap_dtype(window))


# The linear operations


def _take_shifted(x, tap, *, window, dtype):
    zero = jnp.zeros((), x.dtype)
    total = jnp.zeros(tap.shape, x.dtype)
    for t, offsets in enumerate(taps(window)):
        total += jnp.where(tap == t, pixels(x, offsets, window, zero), zero)
    return total.astype(dtype)


def _put_shifted(dy, tap, *, window, dtype):
    return pool_adjoint.put(dy, tap, window, dtype=at_least_float32(dy.dtype)).astype(dtype)


def _take_gather(x, tap, *, window, dtype):
    n, c = tap.shape[0], tap.shape[-1]
    at = position(tap, window).reshape(n, math.prod(window.output), c)
    flat = x.reshape(n, math.prod(window.input), c)
    winners = jnp.take_along_axis(flat, jnp.maximum(at, 0), axis=1)
    return jnp.where(at >= 0, winners, 0).reshape(tap.shape).astype(dtype)


def _put_scatter(dy, tap, *, window, dtype):
    n, c = tap.shape[0], tap.shape[-1]
    at = position(tap, window).reshape(n, math.prod(window.output), c)
    nothing = jnp.zeros(math.prod(window.input), at_least_float32(dy.dtype))
    dy = jnp.where(at >= 0, dy.reshape(at.shape), 0).astype(nothing.dtype)
    # Image by image and channel by channel: so the type rule knows how the result is sharded.
    scattered = jax.vmap(lambda at, dy: nothing.at[at].add(dy), in_axes=-1, out_axes=-1)
    dx = jax.vmap(scattered)(jnp.maximum(at, 0), dy)
    return dx.reshape(n, *window.input, c).astype(dtype)


def too_many_taps(*avals, window, **static):
    return more_taps_than(window, MOST_TERMS)


def _winners(random, values, tap, *, window, **static):
    """Operands to measure with: numbers, and the winners of some image's windows."""
    image = random.standard_normal((tap.shape[0], *window.input, tap.shape[-1]), np.float32)
    _, winners = _largest_and_tap_xla(jnp.asarray(image), window=window)
    return random.standard_normal(values.shape, np.float32).astype(values.dtype), winners


def _many_side_by_side(*avals, window, **static):
    """Of 49 pixels side by side the shifted form took 1.5 times as long as a reduce_window, of 36
    as long; where windows overlap 0.2 to 1.0 times (float32, 112x112x64 and smaller).
    """
    if reason := too_many_taps(window=window):
        return reason
    count = math.prod(window.size)
    many = count > MOST_SIDE_BY_SIDE and pool_adjoint.terms(window) == 1
    return f"only windows of at most 36 pixels side by side, got {count}" if many else None


def _too_many_windows(*avals, window, **static):
    return more_windows_than(window, MOST_TERMS)


largest = Operation(
    "max_pool",
    (
        Implementation("lax", _largest_xla, by_name_only=True, inline=True),
        onednn("max_pool"),
        triton("max_pool", apart(1, 1)),
        Implementation("shifted", _largest_shifted, _many_side_by_side),
        Implementation("direct", _largest_xla),
    ),
    fold=lambda *a, **k: fold(largest, *a, **k),
)
largest_and_tap = Operation(
    "max_pool_argmax",
    (
        onednn("max_pool_argmax"),
        triton("max_pool_argmax", apart(1, 2)),
        Implementation("shifted", _largest_and_tap_shifted, too_many_taps),
        Implementation("direct", _largest_and_tap_xla),
    ),
    multiple_results=True,
    fold=lambda *a, **k: fold(largest_and_tap, *a, **k),
)
take = Operation(
    "pool_take",
    (
        onednn("pool_take"),
        triton("pool_take", apart(2, 1)),
        Implementation("shifted", _take_shifted, too_many_taps),
        Implementation("direct", _take_gather),
    ),
    fold=lambda *a, **k: fold(take, *a, **k),
    operands=_winners,
)
put = Operation(
    "pool_put",
    (
        onednn("pool_put"),
        triton("pool_put", apart(2, 1)),
        Implementation("shifted", _put_shifted, _too_many_windows),
        Implementation("direct", _put_scatter),
    ),
    fold=lambda *a, **k: fold(put, *a, **k),
    operands=_winners,
)

# Derivatives. `dtype` is that of the result: a transpose gives back the dtype of what it is the
# gradient of.


def _largest_jvp(primals, tangents, *, window, implementation):
    (x,), (dx,) = primals, tangents
    y, tap = largest_and_tap(
        x, window=window, implementation=largest_and_tap.offers(implementation)
    )
    return y, _take_tangent(dx, tap, window, implementation)


def _largest_and_tap_jvp(primals, tangents, *, window, implementation):
    (x,), (dx,) = primals, tangents
    y, tap = largest_and_tap(x, window=window, implementation=implementation)
    return (y, tap), (
        _take_tangent(dx, tap, window, implementation),
        _no_tangent(tap),
    )


def _no_tangent(tap):
    """Of integers. No array: its shape may be symbolic."""
    return ad.Zero(jax.typeof(tap).to_tangent_aval())


def _take_tangent(dx, tap, window, implementation):
    dx = ad.instantiate_zeros(dx)
    if dx.dtype == jax.dtypes.float0:
        return _no_tangent(tap)
    return take(dx, tap, window=window, dtype=dx.dtype, implementation=take.offers(implementation))


ad.primitive_jvps[largest.primitive] = _largest_jvp
ad.primitive_jvps[largest_and_tap.primitive] = _largest_and_tap_jvp
linear(take, transposed_by(put), data=1)
linear(put, transposed_by(take), data=1)


def tap_dtype(window):
    """One byte where it can count the taps: the residual that the gradient keeps."""
    return np.uint8 if math.prod(window.size) <= 256 else np.int32
