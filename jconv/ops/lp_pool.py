"""Power-average pooling: the p-norm of each window.

    y[n, p, q, c] = (R*S / count * sum over r, s of x[n, p*stride + r - lo, q*stride + s - lo, c]^p)
                    ^ (1/p)

Shapes (any number of spatial axes; written for two): x N H W C, y N P Q C, window R S. `count` is
R*S but for windows that ceil_mode lets hang over the end: those count their pixels (PyTorch). It is
`avg_pool` between two powers, so every derivative follows from its; sums of float16 and bfloat16
are taken in float32.

Reference: Sermanet, Chintala & LeCun 2012, "Convolutional neural networks applied to house numbers
digit classification", arXiv:1204.3968.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax import lax

from jconv.ops.avg_pool import window_mean
from jconv.ops.dtypes import at_least_float32
from jconv.ops.max_pool import max_pool, min_pool
from jconv.ops.pooling import pooling_window
from jconv.window import Padding, PerAxis, hashable


def lp_pool(
    x: jax.Array,
    window: PerAxis,
    p: float = 2,
    *,
    stride: PerAxis | None = None,
    padding: Padding = "VALID",
    ceil_mode: bool = False,
    implementation: str | None = None,
) -> jax.Array:
    """The p-norm of each window of x (N, *spatial, C): y (N, *output, C).

    As in PyTorch: the powers are those of x, not of |x|, so an odd p keeps signs and the root of a
    negative sum is NaN; where a sum is 0 the gradient is 0, for p = 1 too; p = inf is the largest
    |x|, p = -inf the smallest. Below p = 1 a pixel of 0 has an infinite slope.

    Args:
      p: a number other than 0.
      window, stride, ceil_mode, implementation: as in `avg_pool`.
      padding: as in `avg_pool`; what it holds adds nothing to the sums. (PyTorch has none.)

    Raises:
      ValueError: arguments that don't fit each other, or an x that is not floating point.
      NotImplementedError: the implementation that was asked for can't compute this call.
    """
    x, p = jnp.asarray(x), _exponent(p)
    win = pooling_window(
        "lp_pool", x, window, stride, padding, 1, ceil_mode, kind="floating-point numbers"
    )
    options = {"stride": stride, "padding": padding, "ceil_mode": ceil_mode}
    if math.isinf(p):
        extremum = max_pool if p > 0 else min_pool
        size = x * lax.sign(x)  # |x|, with slope 0 at 0
        y = extremum(size, window, implementation=implementation, **options)
        assert isinstance(y, jax.Array)
        return jnp.where(y == -jnp.inf, 0, y).astype(x.dtype)  # A window of padding alone
    powers = _power(x.astype(at_least_float32(x.dtype)), p)
    mean = window_mean("lp_pool", powers, window, **options, implementation=implementation)
    return _root(mean * math.prod(win.size), p).astype(x.dtype)


def _power(x, p):
    return lax.integer_pow(x, int(p)) if p.is_integer() else lax.pow(x, jnp.asarray(p, x.dtype))


def _root(total, p):
    """total^(1/p), constant where total is 0."""
    nothing = total == 0
    total = jnp.where(nothing, 1, total)
    root = {1.0: lambda: total, 2.0: lambda: lax.sqrt(total)}.get(
        p, lambda: lax.pow(total, jnp.asarray(1 / p, total.dtype))
    )
    return jnp.where(nothing, 0.0 if p > 0 else jnp.inf, root())


def _exponent(p):
    number = hashable(p)
    real = isinstance(number, int | float) and not isinstance(number, bool)
    if not real or number == 0 or math.isnan(number):
        raise ValueError(f"lp_pool: p must be a number other than 0; got p={p!r}")
    return float(number)
