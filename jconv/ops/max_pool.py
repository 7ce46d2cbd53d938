"""Max and min pooling: the largest, or smallest, pixel of each window.

    y[n, p, q, c] = max over r, s of x[n, p*stride + r*dilation - lo, q*stride + s*dilation - lo, c]

Shapes (any number of spatial axes; written for two): x N H W C, y N P Q C, window R S.

Away from ties the pooling is a gather at the winners. At a tie there is a choice of subgradient,
the first winner alone (`winner.py`) or all winners alike (`tied.py`), each exact to any order and
the same in every run. A minimum is the maximum of the order turned round.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from jconv.ops.pooling import check_windows, pooling_window, position
from jconv.ops.tied import largest_tied
from jconv.ops.winner import largest, largest_and_tap
from jconv.window import Padding, PerAxis

TIES = ("first", "shared")


def max_pool(
    x: jax.Array,
    window: PerAxis,
    *,
    stride: PerAxis | None = None,
    padding: Padding = "VALID",
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    ties: str = "first",
    implementation: str | None = None,
) -> jax.Array | tuple[jax.Array, jax.Array]:
    """The largest pixel of each window of x (N, *spatial, C): y (N, *output, C).

    A NaN in a window is its maximum. A window that holds padding alone is -inf (the smallest
    number of a dtype without infinity: integers, some float8).

    Args:
      window: pixels per axis.
      stride: pixels from one window to the next; None means the window.
      padding: "SAME" | "SAME_LOWER" | "VALID" | "CAUSAL" | int | one entry per axis, each int or
        (lo, hi), in pixels.
      dilation: pixels from one tap of the window to the next.
      ceil_mode: lets the last window hang over the end, if it starts inside the input or its left
        padding (PyTorch).
      return_indices: also returns int32 (N, *output, C), each winner's row-major position in the
        unpadded image (PyTorch); -1 for a window that holds padding alone. Of equal pixels, and of
        several NaN, it is the first.
      ties: which of equal pixels the gradient goes to: the "first" in row-major order, or all of
        them, in equal parts that are "shared".
      implementation: None takes the table's choice (see `jconv.explain_choice`); a name runs that
        one or raises.

    Raises:
      ValueError: arguments that don't fit each other.
      NotImplementedError: the implementation that was asked for can't compute this call.
    """
    x = jnp.asarray(x)
    win = pooling_window("max_pool", x, window, stride, padding, dilation, ceil_mode)
    return _max_pool("max_pool", x, win, ties, return_indices, implementation)


def min_pool(
    x: jax.Array,
    window: PerAxis,
    *,
    stride: PerAxis | None = None,
    padding: Padding = "VALID",
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    ties: str = "first",
    implementation: str | None = None,
) -> jax.Array | tuple[jax.Array, jax.Array]:
    """The smallest pixel of each window of x (N, *spatial, C): y (N, *output, C).

    A NaN in a window is its minimum. A window that holds padding alone is inf (the largest number
    of a dtype without infinity). Arguments and indices as in `max_pool`.

    Raises:
      ValueError, NotImplementedError: as `max_pool`.
    """
    x = jnp.asarray(x)
    win = pooling_window("min_pool", x, window, stride, padding, dilation, ceil_mode)
    y = _max_pool("min_pool", _reversed(x), win, ties, return_indices, implementation)
    return (_reversed(y[0]), y[1]) if isinstance(y, tuple) else _reversed(y)


def _max_pool(op, x, window, ties, return_indices, implementation):
    if ties not in TIES:
        raise ValueError(f'{op}: ties must be "first" or "shared"; got {ties!r}')
    check_windows(op, window)
    value = largest if ties == "first" else largest_tied
    if not return_indices:
        return value(x, window=window, implementation=implementation)
    if ties == "first":
        y, tap = largest_and_tap(x, window=window, implementation=implementation)
    else:
        name = largest_and_tap.offers(implementation)
        y = value(x, window=window, implementation=implementation)
        _, tap = largest_and_tap(lax.stop_gradient(x), window=window, implementation=name)
    return y, position(tap, window)


def _reversed(x):
    """x in reversed order, without overflow: of integers -x - 1, whose bits are those of x turned
    over.
    """
    return -x if jnp.issubdtype(x.dtype, jnp.floating) else ~x
