"""Some examples after the others, so that what a formulation writes in between stays in the cache.

What a program writes anew costs more on a CPU than the arithmetic: an array of many MB leaves the
cache, and the system maps and clears each of its pages again at every call. A loop over chunks of
about 2 MiB writes the same small arrays again and again.

XLA runs small operations on one thread, and the update of a loop's result always so. A barrier
behind each chunk keeps the arithmetic out of that update, which is then a copy within the cache.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

BYTES = 2**21


def length(examples: int, bytes: int, most: int = BYTES) -> int:
    """How many examples go into a chunk: the largest divisor of `examples` that fits, or 1.

    Args:
      bytes: of one example, in all operands.
      most: of a chunk.
    """
    fits = (n for n in range(min(examples, max(most // bytes, 1)), 1, -1) if examples % n == 0)
    return next(fits, 1)


def each(f: Callable[[jax.Array], jax.Array], x: jax.Array, *, length: int) -> jax.Array:
    """f(x) (N, ...) from x (N, ...), `length` examples at a time, which divides N."""
    if length == x.shape[0]:
        return f(x)
    y = lax.map(lambda part: lax.optimization_barrier(f(part)), _split(x, length))
    return y.reshape(x.shape[0], *y.shape[2:])


def total(
    f: Callable[[jax.Array, jax.Array], jax.Array], x: jax.Array, dy: jax.Array, *, length: int
) -> jax.Array:
    """The sum of f(x, dy) over chunks of `length` examples of both, which divides N."""
    if length == x.shape[0]:
        return f(x, dy)
    parts = _split(x, length), _split(dy, length)
    one = jax.eval_shape(f, *(jax.typeof(part).update(shape=part.shape[1:]) for part in parts))
    start = lax.full_like(x, 0, one.dtype, one.shape)  # varies over the mesh axes that x does
    return lax.scan(lambda sum, part: (sum + f(*part), None), start, parts)[0]


def _split(x, length):
    return x.reshape(x.shape[0] // length, length, *x.shape[1:])


def fenced(x: jax.Array) -> jax.Array:
    """x, written out: neither computed anew by each of its readers nor within a product."""
    return lax.optimization_barrier(x)


def pad(x: jax.Array, pads, input_dilation, *, axis: int = 1) -> jax.Array:
    """x with (lo, hi) zeros round the spatial axes from `axis` on; negative ones crop."""
    config = [(0, 0, 0)] * x.ndim
    for i, ((lo, hi), spread) in enumerate(zip(pads, input_dilation, strict=True)):
        config[axis + i] = (lo, hi, spread - 1)
    if all(entry == (0, 0, 0) for entry in config):
        return x
    return lax.pad(x, jnp.zeros((), x.dtype), config)


def pixels(x: jax.Array, starts, stride, count, *, axis: int = 1) -> jax.Array:
    """`count` pixels of x, `stride` apart from `starts` on, along the spatial axes from `axis`."""
    lo, hi, step = [0] * x.ndim, list(x.shape), [1] * x.ndim
    for i, (start, s, n) in enumerate(zip(starts, stride, count, strict=True)):
        lo[axis + i], hi[axis + i], step[axis + i] = start, start + s * (n - 1) + 1, s
    return lax.slice(x, lo, hi, step)
