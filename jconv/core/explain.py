"""What ran and why: the choices behind a function, read off its jaxpr."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax

from jconv.core.dispatch import Choice
from jconv.core.primitive import OPERATIONS, Operation, default_platform

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


@dataclasses.dataclass(frozen=True)
class Call:
    """One call of an operation in a function's jaxpr.

    Attributes:
      static: the primitive's parameters, `implementation` among them.
    """

    operation: Operation
    avals: tuple[Any, ...]
    static: Mapping[str, Any]


def explain_choice(
    fn: Callable[..., Any], *args: Any, platform: str | None = None, **kwargs: Any
) -> list[Choice]:
    """Which implementation computes each jconv operation in `fn(*args)`, in order, and why.

    Nothing is computed: the arguments may be `jax.ShapeDtypeStruct`s. Print an entry to read it.
    Operations asked for with `implementation="lax"` are jax.lax's own and don't appear. The choices
    are those of the types that `fn` is traced with: for a gradient explain `jax.grad(fn)`, for a
    batched function `jax.vmap(fn)`. Inside `jconv.tuned` they follow its file.

    Args:
      kwargs: those that are no arrays, such as `stride=2`, are left as they are.
      platform: "cpu", "cuda", "rocm" or "tpu"; the default is the one JAX would run on.

    Raises:
      ValueError: no such platform.
      NotImplementedError: an implementation that was asked for by name does not run on that
        platform.
    """
    platform = platform or default_platform()
    if platform not in PLATFORMS:
        raise ValueError(
            f"explain_choice: platform must be one of {', '.join(PLATFORMS)}; got {platform!r}"
        )
    return [
        call.operation.choose(call.avals, platform, **call.static)[1]
        for call in calls(fn, args, kwargs)
    ]


def calls(fn: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Call]:
    """The calls of jconv's operations in `fn(*args, **kwargs)`, in order; nothing is computed.

    Args:
      kwargs: those that are no arrays are left as they are.
    """
    arrays, settings = {}, {}
    for name, value in kwargs.items():
        group = arrays if all(map(_is_array, jax.tree.leaves(value))) else settings
        group[name] = value
    jaxpr = jax.make_jaxpr(functools.partial(fn, **settings))(*args, **arrays)
    return [
        Call(operation, tuple(var.aval for var in eqn.invars), eqn.params)
        for eqn in _equations(jaxpr.jaxpr)
        if (operation := OPERATIONS.get(eqn.primitive))
    ]


def _is_array(value: Any) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype")


def _equations(jaxpr: Any) -> Iterator[Any]:
    """Every equation, those of inner jaxprs (jit, scan, cond, custom rules) at their place."""
    for eqn in jaxpr.eqns:
        yield eqn
        for value in jax.tree.leaves(eqn.params, is_leaf=lambda v: hasattr(v, "eqns")):
            if hasattr(value, "eqns"):
                yield from _equations(value)
