"""Random networks in one and two dimensions, made of jconv's operations and plain JAX.

Each step is a function `(random, x) -> y` of an array (1, *spatial, C) of positive numbers; what it
draws, it draws before it is traced a second time alike. Weights are positive, so that nothing
cancels.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

import jconv
from jconv import nn

SPATIAL = {1: (40,), 2: (11, 10)}
MOST = {1: 90, 2: 24}  # pixels of an axis on the way
CHANNELS = 2


class Network(NamedTuple):
    steps: tuple[str, ...]
    fn: Callable[[jax.Array], jax.Array]
    x: jax.ShapeDtypeStruct


def network(seed: int, rank: int, steps: list[str] | None = None) -> Network:
    """A network of 2 to 6 steps."""
    q = random.Random(seed)
    drawn = steps or [q.choice(list(STEPS)) for _ in range(q.randint(2, 6))]
    seeds = [q.randrange(10**9) for _ in drawn]

    def fn(x):
        for name, number in zip(drawn, seeds, strict=True):
            x = _fitting(name, x)(random.Random(number), x)
        return x

    return Network(tuple(drawn), fn, jax.ShapeDtypeStruct((1, *SPATIAL[rank], CHANNELS), "float32"))


def _fitting(name, x):
    """The step, or a convolution where the image is too small or too large, or x too deep."""
    least = 7 if name in SHRINKING else 3
    grows = name in GROWING and max(x.shape[1:-1]) > MOST[x.ndim - 2] // 2
    return conv if min(x.shape[1:-1]) < least or grows or x.shape[-1] > 24 else STEPS[name]


def _weights(*shape):
    return (
        1
        / (2 + jnp.arange(shape[-1] * shape[-2], dtype=jnp.float32) % 3).reshape(shape[-2:])
        * jnp.ones(shape)
    )


def _padding(q, x, window):
    pads = [(q.randint(0, window), q.randint(0, window)) for _ in x.shape[1:-1]]
    return q.choice(["SAME", "SAME_LOWER", pads])


def conv(q, x, **options):
    window = q.randint(1, 4)
    w = _weights(*[window] * (x.ndim - 2), x.shape[-1], CHANNELS)
    return jconv.conv(x, w, padding=_padding(q, x, window), **options)


def dilated(q, x):
    w = _weights(*[q.randint(2, 3)] * (x.ndim - 2), x.shape[-1], CHANNELS)
    return jconv.conv(x, w, dilation=q.randint(2, 3))


def strided(q, x):
    return conv(q, x, stride=[q.randint(1, 3) for _ in x.shape[1:-1]])


def spread_out(q, x):
    return conv(q, x, input_dilation=2)


def modes(q, x):
    w = _weights(*[3] * (x.ndim - 2), x.shape[-1], CHANNELS)
    return jconv.conv(x, w, padding=1, padding_mode=q.choice(["reflect", "replicate", "circular"]))


def transposed(q, x):
    window, stride = q.randint(1, 4), q.randint(2, 3)
    w = _weights(*[window] * (x.ndim - 2), CHANNELS, x.shape[-1])
    return jconv.conv_transpose(x, w, stride=stride, padding="VALID" if window > 1 else "SAME")


def grouped(q, x):
    w = _weights(*[3] * (x.ndim - 2), 1, x.shape[-1])
    return jconv.depthwise_conv(x, w) if q.random() < 0.5 else jconv.conv(x, w, groups=x.shape[-1])


def separable(q, x):
    depthwise = _weights(*[3] * (x.ndim - 2), 1, x.shape[-1])
    pointwise = _weights(*[1] * (x.ndim - 2), x.shape[-1], CHANNELS)
    return jconv.separable_conv(x, depthwise, pointwise)


def local(q, x):
    w = _weights(*x.shape[1:-1], *[2] * (x.ndim - 2), x.shape[-1], CHANNELS)
    return jconv.conv_local(x, w)


def partial(q, x):
    w = _weights(*[3] * (x.ndim - 2), x.shape[-1], CHANNELS)
    return jconv.partial_conv(x, jnp.ones((*x.shape[:-1], 1)), w)[0]


def spectral(q, x):
    return jconv.fft_conv(x, _weights(*[3] * (x.ndim - 2), x.shape[-1], CHANNELS))


def max_pool(q, x):
    return jconv.max_pool(
        x, q.randint(2, 3), stride=q.randint(1, 2), padding=q.choice(["SAME", "VALID", 1]),
        dilation=q.randint(1, 2), ceil_mode=q.random() < 0.3,
    )  # fmt: skip


def min_pool(q, x):
    return jconv.min_pool(x, 2, stride=q.randint(1, 2))


def avg_pool(q, x):
    pooled = q.choice([jconv.avg_pool, jconv.lp_pool])
    return pooled(x, q.randint(2, 3), stride=q.randint(1, 3), ceil_mode=q.random() < 0.3)


def blur(q, x):
    return jconv.blur_pool(x, stride=2)


def adaptive(q, x):
    return jconv.adaptive_avg_pool(x, [q.randint(3, n) for n in x.shape[1:-1]])


def resize(q, x):
    size = [q.randint(max(3, n // 2), 2 * n) for n in x.shape[1:-1]]
    method = q.choice(["nearest", "nearest-exact", "linear", "cubic", "area"])
    return jconv.resize(x, size, method=method)


def nearest(q, x):
    size = [q.randint(3, 2 * n) for n in x.shape[1:-1]]
    return jax.image.resize(x, (1, *size, x.shape[-1]), "nearest")


def shuffle(q, x):
    factor = 2 ** (x.ndim - 2)
    return jconv.pixel_shuffle(jnp.concatenate([x] * factor, -1), 2)


def even(x):
    return x[(slice(None), *(slice(n // 2 * 2) for n in x.shape[1:-1]))]


def unshuffle(q, x):
    return jconv.pixel_unshuffle(even(x), 2)


def pad(q, x):
    mode = q.choice(["zeros", "reflect", "replicate", "circular"])
    return jconv.pad(x, [(q.randint(0, 2), q.randint(0, 2)) for _ in x.shape[1:-1]], mode)


def normed(q, x):
    ones, zeros = jnp.ones(x.shape[-1]), jnp.zeros(x.shape[-1])
    return jconv.layer_norm(x, ones, zeros) + 3


def globally(q, x):
    ones, zeros = jnp.ones(x.shape[-1]), jnp.zeros(x.shape[-1])
    if q.random() < 0.5:
        return jconv.instance_norm(x, ones, zeros) + 3
    return x * jax.nn.sigmoid(jconv.global_avg_pool(x, keepdims=True))


def response(q, x):
    return jconv.local_response_norm(x, 3)


def maxout(q, x):
    return jconv.maxout(jnp.concatenate([x, x + 1], -1), 2)


def branches(q, x):
    return same(x, 3) + same(same(x, 3), q.choice([1, 5]))


def same(x, window):
    return jconv.conv(x, _weights(*[window] * (x.ndim - 2), x.shape[-1], CHANNELS))


def skip(q, x):
    """A U: pooled, brought back, and beside itself."""
    x = even(x)
    small = same(jconv.max_pool(x, 2), 3)
    w = _weights(*[2] * (x.ndim - 2), CHANNELS, small.shape[-1])
    return jnp.concatenate([x, jconv.conv_transpose(small, w, stride=2, padding="VALID")], -1)


def misaligned(q, x):
    pooled = jconv.max_pool(x, 2)
    return pooled + x[(slice(None), *(slice(n) for n in pooled.shape[1:-1]))]


def beside(q, x):
    return jnp.concatenate([same(x, 1), same(x, q.choice([1, 3]))], 1)


def scanned(q, x):
    return lax.scan(lambda c, _: (same(c, 3), None), same(x, 1), None, length=3)[0]


def recurrent(q, x):
    """Along the first spatial axis, from either end."""
    lines = jnp.moveaxis(x, 1, 0)
    start = jnp.zeros_like(lines[0])
    _, out = lax.scan(lambda c, v: (c + v, c + v), start, lines, reverse=q.random() < 0.5)
    return jnp.moveaxis(out, 0, 1)


def looped(q, x):
    def turn(i, c):
        return c + lax.dynamic_slice_in_dim(x, i, 1, 1)

    return lax.fori_loop(0, 2, turn, x)


def attention(q, x):
    """In windows of 2 along the first spatial axis."""
    x = x[:, : x.shape[1] // 2 * 2]
    y = x.reshape(x.shape[0], x.shape[1] // 2, 2, *x.shape[2:])
    weights = jax.nn.softmax(jnp.einsum("nwi...,nwj...->nwij...", y, y), 3)
    return jnp.einsum("nwij...,nwj...->nwi...", weights, y).reshape(x.shape)


def sliced(q, x):
    cuts = (slice(q.randint(0, 2), None, q.choice([1, 2])) for _ in x.shape[1:-1])
    return x[(slice(None), *cuts)]


def turned(q, x):
    return q.choice([lambda: x[:, ::-1], lambda: jnp.roll(x, 2, 1), lambda: jnp.flip(x, -2)])()


def repeated(q, x):
    return q.choice([jnp.repeat, lambda x, n, axis: jnp.concatenate([x] * n, axis)])(x, 2, axis=1)


def gathered(q, x):
    at = [q.randrange(x.shape[1]) for _ in range(q.randint(3, 8))]
    return x[:, jnp.array(sorted(at) if q.random() < 0.7 else at)]


def updated(q, x):
    return x.at[:, 1:3].set(0.5).at[:, 0].add(x[:, -1])


def summed(q, x):
    return jnp.cumsum(x, 1, dtype=x.dtype)


def rectified(q, x):
    return jax.checkpoint(lambda v: nn.relu(same(v, 3)))(x)


def mapped(q, x):
    return jax.vmap(lambda v: same(v[None], 3)[0])(x)


def windows(q, x):
    found = jconv.unfold(x, 2, stride=q.randint(1, 2))
    return found.reshape(*found.shape[: x.ndim - 1], -1)


STEPS = {
    fn.__name__: fn
    for fn in (
        conv, conv, dilated, strided, spread_out, modes, transposed, grouped, separable, local,
        partial, spectral, max_pool, min_pool, avg_pool, blur, adaptive, resize, nearest, shuffle,
        unshuffle, pad, normed, globally, response, maxout, branches, skip, misaligned, beside,
        scanned, recurrent, looped, attention, sliced, turned, repeated, gathered, updated, summed,
        rectified, mapped, windows,
    )
}  # fmt: skip
SHRINKING = {
    "strided", "max_pool", "min_pool", "avg_pool", "blur", "unshuffle", "skip", "misaligned",
    "adaptive", "nearest", "resize", "attention", "sliced", "gathered", "windows", "dilated",
}  # fmt: skip
GROWING = {
    "transposed", "resize", "nearest", "shuffle", "repeated", "beside", "pad", "conv", "spread_out",
}  # fmt: skip


@functools.cache
def _probes(shape):
    """Base images, and the same with one pixel replaced: (probes, pixels, *shape)."""
    spatial, channels = shape[1:-1], shape[-1]
    pixels = functools.reduce(int.__mul__, spatial)
    key = jax.random.key(0)
    bases = jax.random.uniform(key, (3, *shape), minval=0.5, maxval=1.5)
    at = jnp.eye(pixels, dtype=bool).reshape(pixels, 1, *spatial, 1)
    at = jnp.broadcast_to(at, (pixels, 1, *spatial, channels))
    values = jnp.array([jnp.nan, 9.0, 0.01])
    changed = [jnp.where(at, v, base) for v, base in zip(values, bases, strict=True)]
    return bases, jnp.stack(changed)


def dependencies(net: Network):
    """bool (*output, *spatial): which pixels change which outputs, by three experiments.

    A NaN shows every path of arithmetic, and maxima; a selection among positions hides it, which
    shows where a pixel becomes the largest or the smallest. Both together are a lower bound, and
    all of it where weights are positive.
    """
    bases, changed = _probes(net.x.shape)
    run = jax.jit(jax.vmap(jax.vmap(net.fn)))
    before = run(bases[:, None])
    after = run(changed)
    moved = jnp.abs(after - before) > 1e-4 * jnp.abs(before)
    found = (moved | ~jnp.isfinite(after)).any(0)
    return jnp.moveaxis(found, 0, -1).reshape(*found.shape[1:], *net.x.shape[1:-1])
