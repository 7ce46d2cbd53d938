"""Small operations that only these tests know.

Their rows differ in what they compute, so that a result tells which row ran.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jconv.core import Implementation, Operation


def odd_rows(*avals, **static):
    """Supports an even number of rows only."""
    rows = avals[0].shape[0]
    return f"only an even number of rows, got {rows}" if rows % 2 else None


def scale(name: str) -> Operation:
    """x times 10, 100, 1000, 1: one factor per row of the table; `by` multiplies it."""

    def times(factor):
        return lambda x, *, by: x * jnp.asarray(factor * by, x.dtype)

    operation = Operation(
        name,
        (
            Implementation("named", times(1000), by_name_only=True),
            Implementation("elsewhere", times(100), platforms=("cuda",)),
            Implementation("even", times(10), odd_rows),
            Implementation("inline", times(1), by_name_only=True, inline=True),
            Implementation("always", times(1)),
        ),
        fold=lambda size, args, mapped, **static: fold(operation, size, args, mapped, **static),
    )
    return operation


def fold(operation, size, args, mapped, **static):
    """Into the first axis: what is not mapped is repeated."""
    args = [
        a if m else jnp.broadcast_to(a, (size, *a.shape)) for a, m in zip(args, mapped, strict=True)
    ]
    out = operation(*(a.reshape(-1, *a.shape[2:]) for a in args), **static)
    return jax.tree.map(lambda a: a.reshape(size, -1, *a.shape[1:]), out)
