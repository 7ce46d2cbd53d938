"""Values that are known without an input: indices, masks and matrices that a program computes.

What a gather reads is known when its indices are: literals, arrays that the function closes over,
or what a few operations of NumPy make of them and of iotas. They are evaluated when a rule asks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

MOST = 1 << 24  # elements: more are left unknown
SMALL = 64  # elements: at once, not when asked for


class Known:
    """An array of numbers that is computed when it is asked for."""

    __slots__ = ("_make", "_value", "size")

    def __init__(self, size: int, make: Callable[[], np.ndarray]):
        self.size = size
        self._make: Callable[[], np.ndarray] | None = make
        self._value: np.ndarray | None = None

    @property
    def value(self) -> np.ndarray:
        """The array."""
        if self._make is not None:
            self._value, self._make = self._make(), None
        assert self._value is not None
        return self._value


def known(array: Any) -> Known | None:
    """A constant of a program; None where it is traced, no array of numbers, or may be a weight.

    Weights are real numbers on a device. What is learned may be 0 now and something else tomorrow,
    so fields do not look at it.
    """
    if isinstance(array, Tracer):
        return None
    dtype = array.dtype if hasattr(array, "dtype") else np.asarray(array).dtype
    size = np.size(array)
    if size > MOST or not _numeric(dtype):
        return None
    if isinstance(array, jax.Array) and not _whole(dtype):
        return None
    return Known(size, lambda: np.asarray(array))


def fold(name: str, params: Mapping[str, Any], ins: Sequence[Known | None], out: Any) -> Any:
    """The known result of an operation on known operands, or None.

    Args:
      out: the type of the result.
    """
    operands = [operand for operand in ins if operand is not None]
    if name not in FOLDED or len(operands) < len(ins) or not _numeric(out.dtype):
        return None
    if out.size > MOST:
        return None
    rule = FOLDED[name]

    def make():
        with np.errstate(all="ignore"):
            value = rule(params, *(operand.value for operand in operands))
        return np.asarray(value, out.dtype).reshape(out.shape)

    result = Known(out.size, make)
    if max([result.size, *(operand.size for operand in operands)]) <= SMALL:
        _ = result.value  # the counter of a loop: later, it would be a long chain of calls
    return result


def _numeric(dtype):
    if jnp.issubdtype(dtype, jax.dtypes.extended):  # keys of random numbers
        return False
    return _whole(dtype) or np.issubdtype(dtype, np.floating)


def _whole(dtype):
    return jnp.issubdtype(dtype, np.bool_) or jnp.issubdtype(dtype, np.integer)


def _broadcast_in_dim(params, a):
    shape = params["shape"]
    where = params["broadcast_dimensions"]
    aligned = [a.shape[where.index(d)] if d in where else 1 for d in range(len(shape))]
    return np.broadcast_to(a.reshape(aligned), shape)


def _iota(params):
    shape, d = params["shape"], params["dimension"]
    line = np.arange(shape[d], dtype=params["dtype"])
    return np.broadcast_to(line.reshape([-1 if k == d else 1 for k in range(len(shape))]), shape)


def _div(params, a, b):
    if np.issubdtype(np.asarray(a).dtype, np.integer):
        return (np.sign(a) * np.sign(b) * (abs(a) // np.maximum(abs(b), 1))).astype(a.dtype)
    return a / b


def _select_n(params, which, *cases):
    return np.choose(np.asarray(which, np.intp), np.broadcast_arrays(*cases))


def _slice(params, a):
    strides = params["strides"] or (1,) * a.ndim
    limits = zip(params["start_indices"], params["limit_indices"], strides, strict=True)
    return a[tuple(slice(*limit) for limit in limits)]


def _cumsum(params, a):
    axis = params["axis"]
    if params["reverse"]:
        return np.flip(np.cumsum(np.flip(a, axis), axis), axis)
    return np.cumsum(a, axis)


def _reduce(function):
    return lambda params, a: function(a, axis=tuple(params["axes"]))


def _plain(function):
    return lambda params, *operands: function(*operands)


FOLDED: dict[str, Callable[..., Any]] = {
    name: _plain(function)
    for name, function in {
        "add": np.add, "sub": np.subtract, "mul": np.multiply, "neg": np.negative,
        "max": np.maximum, "min": np.minimum, "abs": np.abs, "sign": np.sign,
        "floor": np.floor, "ceil": np.ceil, "rem": np.fmod, "and": np.bitwise_and,
        "or": np.bitwise_or, "xor": np.bitwise_xor, "not": np.invert, "eq": np.equal,
        "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater,
        "ge": np.greater_equal, "square": np.square, "sqrt": np.sqrt, "sin": np.sin,
        "cos": np.cos, "exp": np.exp, "stop_gradient": np.asarray, "copy": np.asarray,
        "clamp": lambda low, a, high: np.minimum(np.maximum(a, low), high),
        "convert_element_type": np.asarray,
    }.items()
} | {
    "broadcast_in_dim": _broadcast_in_dim,
    "iota": _iota,
    "div": _div,
    "select_n": _select_n,
    "slice": _slice,
    "integer_pow": lambda params, a: a ** params["y"],
    "reshape": lambda params, a: a.reshape(params["new_sizes"]),
    "squeeze": lambda params, a: np.squeeze(a, tuple(params["dimensions"])),
    "expand_dims": lambda params, a: np.expand_dims(a, tuple(params["dimensions"])),
    "transpose": lambda params, a: a.transpose(params["permutation"]),
    "concatenate": lambda params, *parts: np.concatenate(parts, params["dimension"]),
    "rev": lambda params, a: np.flip(a, params["dimensions"]),
    "cumsum": _cumsum,
    "reduce_sum": _reduce(np.sum),
    "reduce_max": _reduce(np.max),
    "reduce_min": _reduce(np.min),
    "reduce_and": _reduce(np.all),
    "reduce_or": _reduce(np.any),
}  # fmt: skip
