"""What every norm asks of its arguments, and the affine map where no operation has it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp

from jconv.ops.relu import relu, relu6
from jconv.window import entries, hashable, whole

type Activation = Literal["relu", "relu6"]

# What they compute, and between which numbers they hold their argument.
ACTIVATIONS = {"relu": (relu, (0.0, math.inf)), "relu6": (relu6, (0.0, 6.0))}


def arrays_of(
    op: str, x: Any, epsilon: float, *parameters: Any, name: str = "x"
) -> tuple[Any, ...]:
    """x, which the caller calls `name`, and the parameters as arrays; None stays None.

    Raises:
      ValueError: x is not floating point, or of the float8 that has neither 0 nor negative
        numbers; epsilon is no number, or negative.
    """
    x = floating(op, x, name)
    if not isinstance(hashable(epsilon), int | float):
        raise ValueError(f"{op}: epsilon must be one real number; got epsilon={epsilon!r}")
    if not epsilon >= 0:
        raise ValueError(f"{op}: epsilon must not be negative; got epsilon={epsilon}")
    return x, *(None if value is None else jnp.asarray(value) for value in parameters)


def floating(op: str, x: Any, name: str = "x") -> jax.Array:
    """x, which the caller calls `name`, as an array.

    Raises:
      ValueError: it is not floating point, or of the float8 that has neither 0 nor negative
        numbers.
    """
    x = jnp.asarray(x)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"{op}: {name} must be floating point; got {name} {x.shape} of {x.dtype}")
    if x.dtype == jnp.float8_e8m0fnu:
        raise ValueError(
            f"{op}: {name} must be of a dtype that has 0 and negative numbers; got {name} "
            f"{x.shape} of {x.dtype}"
        )
    return x


def check_per_channel(op: str, x: jax.Array, least: int, **parameters: jax.Array | None) -> None:
    """Refuses an x of less than `least` axes, and parameters that are not (C,)."""
    if x.ndim < least:
        raise ValueError(
            f"{op}: x must be (N, {'*spatial' if least > 2 else '...'}, C) with at least {least} "
            f"axes; got x {x.shape}"
        )
    for name, value in parameters.items():
        if value is not None and value.shape != x.shape[-1:]:
            raise ValueError(
                f"{op}: {name} must be (C,) = ({x.shape[-1]},); got {name} {value.shape}, x "
                f"{x.shape}"
            )


def axes_of(
    op: str, axes: int | Sequence[int], x: jax.Array, *, name: str = "axes", of: str = "x"
) -> tuple[int, ...]:
    """`axes` of x as distinct numbers from 0, in order.

    Args:
      name, of: what the caller calls the axes and the array, for the error messages.

    Raises:
      ValueError: an axis is no int, is out of range or is named twice.
    """
    many = entries(axes)
    named: list[Any] = [axes] if many is None else list(many)
    numbers = [whole(axis, name, op, least=-x.ndim) for axis in named]
    distinct = tuple(sorted({axis % x.ndim for axis in numbers if axis < x.ndim}))
    if len(distinct) != len(numbers):
        raise ValueError(
            f"{op}: {name} must be different axes of {of}, from {-x.ndim} to {x.ndim - 1}; got "
            f"{name}={axes}, {of} {x.shape}"
        )
    return distinct


def bounds_of(op: str, activation: str | None) -> tuple[float, float] | None:
    """Between which numbers an activation holds its argument, or None.

    Raises:
      ValueError: another activation.
    """
    if activation is not None and hashable(activation) not in ACTIVATIONS:
        raise ValueError(
            f"{op}: activation must be {', '.join(map(repr, ACTIVATIONS))} or None; got "
            f"activation={activation!r}"
        )
    return None if activation is None else ACTIVATIONS[activation][1]


def activated(y: jax.Array, activation: Activation | None) -> jax.Array:
    """The activation of y, where no operation has it."""
    return y if activation is None else ACTIVATIONS[activation][0](y)


def affine(y: jax.Array, scale: jax.Array | None, bias: jax.Array | None) -> jax.Array:
    """y * scale + bias, of y's dtype; None leaves one out."""
    y = y if scale is None else y * beside(scale, y)
    return y if bias is None else y + beside(bias, y)


def beside(value: jax.Array, y: jax.Array) -> jax.Array:
    """`value`, which has y's last axes, with y's rank and dtype."""
    return value.astype(y.dtype).reshape((1,) * (y.ndim - value.ndim) + value.shape)
