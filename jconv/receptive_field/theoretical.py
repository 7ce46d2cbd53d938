"""The theoretical receptive field of any JAX function, from its jaxpr.

Reference: Araujo, Norris & Sim 2019, "Computing receptive fields of convolutional neural
networks", Distill, doi:10.23915/distill.00021, whose conventions for padding and centres these are.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jconv.receptive_field.affine import Affine
from jconv.receptive_field.field import field, line
from jconv.receptive_field.interpreter import interpret


def theoretical(
    fn: Callable[..., Any], x: Any, *args: Any, axes: int | Sequence[int] = (1, 2)
) -> Any:
    """The receptive field of every output of `fn(x, *args)`, along axes of x.

    Nothing is computed: `fn` is traced, and its program is followed operation by operation. It may
    be made of jconv, Flax, Haiku, Equinox or plain jax.lax; what it closes over counts as constant,
    and weights as unlike zero. The field is never too small. It is as it should be for
    convolutions, pooling, resizes and reshapes in any combination of branches, up to what happens
    at borders; too wide, perhaps, where branches are misaligned, where positions are picked by
    number, and after an operation that no rule knows, which is named (`unknown`).

    Args:
      fn: returns an array or a pytree of arrays.
      x: an array or a `jax.ShapeDtypeStruct`, such as (N, H, W, C).
      args: further arguments, which are not followed: pytrees of arrays or
        `jax.ShapeDtypeStruct`s, such as weights that have not been made.
      axes: the axes of x to follow, negative ones from the end.

    Returns:
      The same pytree, of `ReceptiveField`s, with one entry per axis.

    Raises:
      ValueError: x is no single array, or has not these axes.
    """
    axes = checked_axes("theoretical", x, axes)
    program, shapes = traced(fn, x, args)
    found = []
    for axis in axes:
        domain = Affine(x.shape[axis])
        found.append((domain, interpret(domain, program, domain.start(x.shape, axis))))
    fields = []
    for k in range(len(program.jaxpr.outvars)):
        deps = [outs[k] for _, outs in found]
        lines = tuple(line(domain, outs[k]) for domain, outs in found)
        fields.append(field(lines, deps))
    return jax.tree.unflatten(jax.tree.structure(shapes), fields)


def traced(fn: Callable[..., Any], x: Any, args: Sequence[Any]) -> tuple[Any, Any]:
    """The program of `fn(x, *args)` and the pytree of its results' types."""
    x = jax.ShapeDtypeStruct(x.shape, x.dtype)
    return jax.make_jaxpr(fn, return_shape=True)(x, *args)


def checked_axes(op: str, x: Any, axes: int | Sequence[int]) -> tuple[int, ...]:
    """The axes as numbers from 0.

    Raises:
      ValueError: x is no single array, or has not these axes.
    """
    if not (hasattr(x, "shape") and hasattr(x, "dtype")):
        raise ValueError(f"{op}: x must be an array or a jax.ShapeDtypeStruct; got {x!r}")
    given = tuple(operator.index(axis) for axis in np.atleast_1d(np.asarray(axes, object)))
    rank = len(x.shape)
    numbers = tuple(axis % rank if -rank <= axis < rank else axis for axis in given)
    wrong = any(not 0 <= axis < rank or not x.shape[axis] for axis in numbers)
    if wrong or not numbers or len(set(numbers)) != len(numbers):
        raise ValueError(
            f"{op}: axes must be different axes of x, none of extent 0; got axes {axes}, "
            f"x {tuple(x.shape)}"
        )
    return numbers
