"""Maxout: the maximum over groups of channels.

    y[..., k] = max over j < pieces of x[..., k*pieces + j]

Shapes: x ... C, y ... C/pieces. A chain of selections, whose transpose is a chain of selections.

Reference: Goodfellow, Warde-Farley, Mirza, Courville & Bengio 2013, "Maxout networks",
arXiv:1302.4389.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from jconv.ops.pooling import KINDS, first_largest
from jconv.window import whole


def maxout(x: jax.Array, pieces: int) -> jax.Array:
    """The largest of every `pieces` successive channels of x (..., C): (..., C/pieces).

    A NaN among them is the maximum. The gradient goes to the first of equal channels.

    Raises:
      ValueError: channels that don't divide into pieces, or an x that does not hold real numbers.
    """
    x, pieces = jnp.asarray(x), whole(pieces, "pieces", "maxout")
    if x.ndim < 1 or not KINDS["real numbers"](x.dtype):
        raise ValueError(f"maxout: x must be real numbers (..., C); got x {x.shape} of {x.dtype}")
    if x.shape[-1] == 0:
        return x
    if x.shape[-1] % pieces:
        raise ValueError(
            f"maxout: x's C={x.shape[-1]} does not divide into pieces={pieces}; got x {x.shape}"
        )
    x = x.reshape(*x.shape[:-1], x.shape[-1] // pieces, pieces)
    (y,) = first_largest([(lax.index_in_dim(x, j, -1, False),) for j in range(pieces)])
    return y
