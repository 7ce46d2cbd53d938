"""The same bodies for programs that XLA splits over several devices, on automatic axes of a mesh.

XLA knows nothing of what a call does, so it would gather the operands on every device. Here a rule
in letters says along which axes a call may be split, each device calls oneDNN on its part, and sums
over an axis that is split are added up. Channels are split where there is one group. On one device,
and inside `jax.shard_map`, the body is called as it is. vmap does not pass through these functions:
`jconv.ops` folds the mapped axis first.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import NamedSharding, PartitionSpec

from . import conv, pool

type Letters = tuple[str, ...]  # of an array, one per axis


def conv_forward(x, w, *, window, dtype, precision=None, out_sharding=None):
    """As `conv.conv_forward`: split over N, and K where there is one group."""
    image, filter, output = _letters(window)
    split = ("n", "k") if window.groups == 1 else ("n",)
    return _run(conv.conv_forward, (image, filter), (output,), split, x, w,
                window=window, dtype=dtype)  # fmt: skip


def conv_input_grad(dy, w, *, window, dtype, precision=None, out_sharding=None):
    """As `conv.conv_input_grad`: split over N, and C where there is one group."""
    image, filter, output = _letters(window)
    split = ("n", "c") if window.groups == 1 else ("n",)
    return _run(conv.conv_input_grad, (output, filter), (image,), split, dy, w,
                window=window, dtype=dtype)  # fmt: skip


def conv_filter_grad(x, dy, *, window, dtype, precision=None, out_sharding=None):
    """As `conv.conv_filter_grad`: split over N, whose parts are added up, and over C and K where
    there is one group.
    """
    image, filter, output = _letters(window)
    split = ("n", "c", "k") if window.groups == 1 else ("n",)
    return _run(conv.conv_filter_grad, (image, output), (filter,), split, x, dy,
                window=window, dtype=dtype)  # fmt: skip


def max_pool(x, *, window):
    """As `pool.max_pool`: split over N and C."""
    return _pool(pool.max_pool, x, window=window)


def max_pool_argmax(x, *, window):
    """As `pool.max_pool_argmax`: split over N and C."""
    image, output = _pool_letters(window)
    return _run(pool.max_pool_argmax, (image,), (output, output), ("n", "c"), x, window=window)


def pool_take(x, tap, *, window, dtype):
    """As `pool.pool_take`: split over N and C."""
    image, output = _pool_letters(window)
    return _run(pool.pool_take, (image, output), (output,), ("n", "c"), x, tap,
                window=window, dtype=dtype)  # fmt: skip


def pool_put(dy, tap, *, window, dtype):
    """As `pool.pool_put`: split over N and C."""
    return _pool(pool.pool_put, dy, tap, adjoint=True, window=window, dtype=dtype)


def window_sum(x, *, window, dtype, divisor=None):
    """As `pool.window_sum`: split over N and C."""
    return _pool(pool.window_sum, x, window=window, dtype=dtype, divisor=divisor)


def window_spread(dy, *, window, dtype, divisor=None):
    """As `pool.window_spread`: split over N and C."""
    static = {"window": window, "dtype": dtype, "divisor": divisor}
    return _pool(pool.window_spread, dy, adjoint=True, **static)


def _letters(window):
    """Of the image, the filter and the output; c and i are one axis where there is one group."""
    axes = range(len(window.size))
    c, k = ("c", "k") if window.groups == 1 else ("i", "j")
    return (
        ("n", *(f"h{a}" for a in axes), "c"),
        (*(f"r{a}" for a in axes), c, k),
        ("n", *(f"p{a}" for a in axes), "k"),
    )


def _pool_letters(window):
    image, _, output = _letters(window)
    return image, (*output[:-1], "c")


def _pool(body, *operands, window, adjoint=False, **static):
    image, output = _pool_letters(window)
    come, go = (output, image) if adjoint else (image, output)
    return _run(
        body, (come,) * len(operands), (go,), ("n", "c"), *operands, window=window, **static
    )


def _run(body, operands, results, split, *arrays, **static):
    run = _partitioned(body, operands, results, split, tuple(static.items()))
    return run(*arrays)


@functools.lru_cache(maxsize=1024)
def _partitioned(
    body: Callable[..., Any],
    operands: tuple[Letters, ...],
    results: tuple[Letters, ...],
    split: Letters,
    static: tuple[tuple[str, Any], ...],
) -> custom_partitioning:
    """`body`, which XLA may split over the axes of `split`, as a function of arrays alone."""

    def whole(*arrays):
        return body(*arrays, **dict(static))

    # In the order in which they appear, as Shardy asks for.
    letters = dict.fromkeys(letter for array in (*operands, *results) for letter in array)
    summed = [s for s in split if not any(s in array for array in results)]

    def partition(mesh, arg_shapes, result_shape):
        given = [*arg_shapes, *jax.tree.leaves(result_shape)]
        axes = _axes(mesh, zip((*operands, *results), given, strict=True), split)

        def placed(array):
            return NamedSharding(mesh, PartitionSpec(*(axes.get(letter) for letter in array)))

        added = [name for letter in summed for name in _names(axes.get(letter))]

        def part(*arrays):
            out = whole(*arrays)
            return jax.lax.psum(out, tuple(added)) if added else out

        to = tuple(map(placed, results))
        return mesh, part, to[0] if len(results) == 1 else to, tuple(map(placed, operands))

    run = custom_partitioning(whole)
    run.def_partition(
        partition,
        sharding_rule=f"{_joined(operands)} -> {_joined(results)}",
        need_replication_factors=tuple(x for x in letters if x not in split),
        reduction_factors=tuple(summed),
    )
    return run


def _axes(mesh, arrays: Iterable[tuple[Letters, Any]], split: Letters) -> dict[str, Any]:
    """The axes of the mesh that each letter is split over: where an array already is, and evenly.

    An uneven part would hold padding, which a sum must not see.
    """
    axes, used = {}, set()
    for letters, array in arrays:
        for letter, size, entry in zip(letters, array.shape, _spec(array), strict=True):
            names = _names(entry)
            parts = math.prod(mesh.shape[name] for name in names)
            free = letter in split and letter not in axes and not used & set(names)
            if free and names and size % parts == 0:
                axes[letter] = entry
                used |= set(names)
    return axes


def _spec(array: Any) -> Sequence[Any]:
    spec = getattr(array.sharding, "spec", ())
    return (*spec, *[None] * (len(array.shape) - len(spec)))


def _names(entry: Any) -> tuple[str, ...]:
    if entry is None:
        return ()
    return entry if isinstance(entry, tuple) else (entry,)


def _joined(arrays: tuple[Letters, ...]) -> str:
    return ", ".join(" ".join(array) for array in arrays)
