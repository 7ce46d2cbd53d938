"""What ran and why: the choices behind a function, read off its jaxpr."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax

from jconv.core.dispatch import Choice
from jconv.core.primitive import OPERATIONS, default_platform

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def explain_choice(
    fn: Callable[..., Any], *args: Any, platform: str | None = None, **kwargs: Any
) -> list[Choice]:
    """Which implementation computes each jconv operation in `fn(*args)`, in order, and why.

    Nothing is computed: the arguments may be `jax.ShapeDtypeStruct`s. Print an entry to read it.
    Operations asked for with `implementation="lax"` are jax.lax's own and don't appear. The choices
    are those of the types that `fn` is traced with: for a gradient explain `jax.grad(fn)`, for a
    batched function `jax.vmap(fn)`.

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
    arrays, settings = {}, {}
    for name, value in kwargs.items():
        group = arrays if all(map(_is_array, jax.tree.leaves(value))) else settings
        group[name] = value
    jaxpr = jax.make_jaxpr(functools.partial(fn, **settings))(*args, **arrays)
    choices = []
    for eqn in _equations(jaxpr.jaxpr):
        if operation := OPERATIONS.get(eqn.primitive):
            avals = [var.aval for var in eqn.invars]
            choices.append(operation.choose(avals, platform, **eqn.params)[1])
    return choices


def _is_array(value: Any) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype")


def _equations(jaxpr: Any) -> Iterator[Any]:
    """Every equation, those of inner jaxprs (jit, scan, cond, custom rules) at their place."""
    for eqn in jaxpr.eqns:
        yield eqn
        for value in jax.tree.leaves(eqn.params, is_leaf=lambda v: hasattr(v, "eqns")):
            if hasattr(value, "eqns"):
                yield from _equations(value)
