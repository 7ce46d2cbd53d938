"""Effective receptive fields: how much each pixel of the input moves one unit of a network.

    g[n]    = d y[n, p, q] / d x[n]            of a unit, its channels summed or one of them
    map[n]  = sum over c of |g[n, :, :, c]|    or the squares, the positive parts, g itself

Shapes (any number of spatial axes; written for two): x N H W C, y N P Q K, map N H W. The function
is any that JAX can differentiate; nothing is put into it or taken out of it. Every example is a
batch of its own, so that no example appears in the gradient of another.

Which magnitude: for weights that are all positive |g| itself is the field of the theory; for random
weights, whose gradients have mean 0, the theory speaks of the mean of g^2. In a smooth map squares
are narrower: a Gaussian of sigma has a square of sigma / sqrt(2).

Reference: Luo, Li, Urtasun & Zemel 2016, "Understanding the effective receptive field in deep
convolutional neural networks", arXiv:1701.04128.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jconv.ops.dtypes import at_least_float32
from jconv.window import whole

type Unit = Sequence[int | jax.Array]

MAGNITUDES: dict[str, Callable[[jax.Array], jax.Array]] = {
    "abs": jnp.abs,
    "square": jnp.square,
    "relu": lambda g: jnp.maximum(g, jnp.zeros((), g.dtype)),
    "signed": lambda g: g,
}


def gradient_maps(
    fn: Callable[[jax.Array], Any],
    x: jax.Array,
    *,
    unit: Unit | Any = None,
    channel: int | None = None,
    magnitude: str = "abs",
    chunk: int = 16,
) -> Any:
    """What moves a unit of fn(x), for x (N, *spatial, C): maps (N, *spatial), one per output.

    The result has the structure of what fn returns: an array gives an array of maps, a dict of
    endpoints a dict of them. The mean over N is the effective field; its measures are in
    `jconv.receptive_field.measures`. Differentiable once more, in x and in whatever fn closes over.

    Args:
      fn: takes (1, *spatial, C) and returns an array (1, *output, K), or a pytree of such; a
        network in evaluation mode, data or noise for x. Compiled anew in each call: inside a
        `jax.jit` of your own, with parameters as its arguments, once.
      unit: the position of the unit, one index per axis of *output, known or traced; None is
        size // 2 of each axis. For several outputs of different sizes a pytree of their structure.
      channel: of the unit; None is the sum of all.
      magnitude: "abs" | "square" | "relu" (the positive part) | "signed", summed over C.
      chunk: so many examples are held in memory at a time.

    Raises:
      ValueError: an x that is no floating-point batch of images, an output that is no floating
        point (1, *output, K), a unit or channel outside of it, or an unknown magnitude.
    """
    x = jnp.asarray(x)
    _check(x, magnitude)
    chunk = min(whole(chunk, "chunk", "gradient_maps"), x.shape[0])
    outputs = jax.eval_shape(fn, jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype))
    leaves, structure = jax.tree.flatten(outputs)
    names = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(outputs)]
    units = _units(unit, structure, len(leaves))
    places = [
        _place(name or "fn(x)", leaf, place, channel)
        for name, leaf, place in zip(names, leaves, units, strict=True)
    ]

    def one(example: jax.Array) -> list[jax.Array]:
        return [
            _map(
                lambda x, at=at: jax.tree.leaves(fn(x[None]))[at[0]][at[1]].sum(),
                example,
                magnitude,
            )
            for at in enumerate(places)
        ]

    maps = jax.jit(lambda x: _in_chunks(one, x, chunk))(x)
    return jax.tree.unflatten(structure, maps)


def _map(value, example, magnitude):
    g = jax.grad(value)(example)
    g = g.astype(at_least_float32(g.dtype))
    return MAGNITUDES[magnitude](g).sum(-1)


def _in_chunks(one, x, chunk):
    """`one` of every example, `chunk` at a time; examples that fill up the last chunk are dropped.

    `lax.map` alone would compile what is left over as a second program.
    """
    n = x.shape[0]
    missing = -n % chunk
    if missing:
        x = jnp.concatenate([x, jnp.broadcast_to(x[-1:], (missing, *x.shape[1:]))])
    return jax.tree.map(lambda maps: maps[:n], lax.map(one, x, batch_size=chunk))


def _units(unit, structure, count):
    """One unit for each output, from one for all or from a pytree of them."""
    if unit is None or _is_unit(unit):
        return [unit] * count
    units, given = jax.tree.flatten(unit, is_leaf=lambda u: u is None or _is_unit(u))
    if given != structure:
        raise ValueError(
            "gradient_maps: unit must be one index per axis, None, or a pytree of such with the "
            f"structure of fn's outputs; got {given} for {structure}"
        )
    return units


def _is_unit(unit):
    if getattr(unit, "ndim", None) == 1:
        return True
    return isinstance(unit, tuple | list) and all(jnp.ndim(u) == 0 and _whole(u) for u in unit)


def _whole(index):
    return isinstance(index, int) or jnp.issubdtype(
        getattr(index, "dtype", jnp.float32), jnp.integer
    )


def _place(name, leaf, unit, channel):
    """The index of a unit's numbers in (1, *output, K)."""
    if len(leaf.shape) < 2 or leaf.shape[0] != 1 or not jnp.issubdtype(leaf.dtype, jnp.floating):
        raise ValueError(
            "gradient_maps: fn must return floating point (N, *output, K) with the N of its "
            f"argument; got {name} {tuple(leaf.shape)} of {leaf.dtype} for N=1"
        )
    *output, k = leaf.shape[1:]
    unit = tuple(n // 2 for n in output) if unit is None else tuple(unit)
    known = [(u, n) for u, n in zip(unit, output, strict=False) if not isinstance(u, jax.Array)]
    if len(unit) != len(output) or not all(0 <= u < n for u, n in known):
        raise ValueError(
            "gradient_maps: unit must be one index per axis, inside of the output; got unit="
            f"{unit}, {name} {tuple(leaf.shape)}, (N, *output, K)"
        )
    if channel is not None and not 0 <= channel < k:
        raise ValueError(
            f"gradient_maps: channel must be one of K={k}; got channel={channel}, {name} "
            f"{tuple(leaf.shape)}, (N, *output, K)"
        )
    return (0, *unit, slice(None) if channel is None else channel)


def _check(x, magnitude):
    if x.ndim < 3 or 0 in x.shape or not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(
            "gradient_maps: x must be floating point (N, *spatial, C) with one or more spatial "
            f"axes, none empty; got x {x.shape} of {x.dtype}"
        )
    if magnitude not in MAGNITUDES:
        raise ValueError(
            f"gradient_maps: magnitude must be one of {', '.join(MAGNITUDES)}; got {magnitude!r}"
        )
