"""Derivative rules of linear and bilinear operations: say the transposes, and all else follows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jax.interpreters import ad

from jconv.core.primitive import Operation
from jconv.core.sharding import explicit_sharding


def bilinear(
    operation: Operation, for_first: Callable[..., Any], for_second: Callable[..., Any]
) -> None:
    """Declares `operation(a, b)` linear in each of its two operands.

    Args:
      for_first: `for_first(cotangent, b, dtype=..., **static)`: the transpose in a, with the dtype
        of a; if the operation has a parameter `out_sharding`, then with the sharding of a too.
      for_second: `for_second(cotangent, a, dtype=..., **static)`: the transpose in b.
    """

    def first(cotangent, a, b, **static):
        return for_first(cotangent, b, **_typed_as(a.aval, static))

    def second(cotangent, a, b, **static):
        return for_second(cotangent, a, **_typed_as(b.aval, static))

    ad.defbilinear(operation.primitive, first, second)


def linear(operation: Operation, transpose: Callable[..., Any], *, data: int = 0) -> None:
    """Declares `operation(x, *integers)` linear in x, with `data` integer operands.

    Args:
      transpose: `transpose(cotangent, *integers, dtype=..., **static)`: the transpose in x, with
        the dtype of x.
    """

    def rule(cotangent, x, *integers, **static):
        return [
            transpose(cotangent, *integers, **{**static, "dtype": x.aval.dtype}),
            *(None for _ in integers),
        ]

    def push(dx, x, *integers, **static):
        return operation.primitive.bind(dx, *integers, **static)

    ad.deflinear2(operation.primitive, rule)
    # In place of deflinear2's own rule, which would push tangents through the integers.
    ad.defjvp(operation.primitive, push, *[None] * data)


def _typed_as(aval, static):
    """The parameters of a gradient in an operand of this type."""
    like = {"dtype": aval.dtype}
    if "out_sharding" in static:
        like["out_sharding"] = explicit_sharding(aval)
    return {**static, **like}
