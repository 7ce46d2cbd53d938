"""The dtypes of sums. Every conversion is explicit, so that strict promotion has nothing to object
to.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp


def at_least_float32(dtype: Any) -> Any:
    """The dtype in which numbers of `dtype` are summed: float32 for float16 and bfloat16, else
    `dtype` itself.
    """
    return wider(dtype, jnp.float32) if jnp.issubdtype(dtype, jnp.floating) else jnp.dtype(dtype)


def wider(a: Any, b: Any) -> Any:
    """The smallest dtype that holds the numbers of both, by JAX's standard rules, whatever the
    user's setting.
    """
    with jax.numpy_dtype_promotion("standard"):
        return jnp.promote_types(a, b)
