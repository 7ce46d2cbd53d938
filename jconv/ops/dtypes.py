"""The dtypes of sums; conversions are explicit, so strict promotion has nothing to object to."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

MOST_INT32 = 2**31 - 1  # positions and counts are int32: the widest integers without jax_enable_x64


def at_least_float32(dtype: Any) -> Any:
    """The dtype in which `dtype` is summed: float32 for float16 and bfloat16, else itself."""
    return wider(dtype, jnp.float32) if jnp.issubdtype(dtype, jnp.floating) else jnp.dtype(dtype)


def wider(a: Any, b: Any) -> Any:
    """The smallest dtype that holds both, by JAX's standard rules, whatever the user's setting.

    JAX has no rule for float8 beside another dtype: it counts as float16, which holds its numbers.
    """
    a, b = jnp.dtype(a), jnp.dtype(b)
    if a != b:
        a, b = (jnp.dtype(jnp.float16) if _is_float8(dtype) else dtype for dtype in (a, b))
    with jax.numpy_dtype_promotion("standard"):
        return jnp.promote_types(a, b)


def _is_float8(dtype: Any) -> bool:
    return dtype.itemsize == 1 and jnp.issubdtype(dtype, jnp.floating)


def comparable(positions: jax.Array) -> jax.Array:
    """Positions that can be compared with any size: int8 knows nothing of a 400th pixel."""
    narrow = jnp.issubdtype(positions.dtype, jnp.integer) and positions.dtype.itemsize < 4
    return positions.astype(jnp.int32) if narrow else positions
