"""Shapes and dtypes of what the three passes of a convolution give.

Shapes (written for two spatial axes): x N H W C, w R S C/G K, y and dy N P Q K.
"""

from __future__ import annotations

from typing import Any

import jax


def output(x: Any, w: Any, window: Any, dtype: Any = None) -> jax.ShapeDtypeStruct:
    """y of a forward pass; a dtype of None is that of x."""
    return jax.ShapeDtypeStruct((x.shape[0], *window.output, w.shape[-1]), dtype or x.dtype)


def input_grad(dy: Any, w: Any, window: Any, dtype: Any = None) -> jax.ShapeDtypeStruct:
    """dx; a dtype of None is that of dy."""
    shape = dy.shape[0], *window.input, w.shape[-2] * window.groups
    return jax.ShapeDtypeStruct(shape, dtype or dy.dtype)


def filter_grad(x: Any, dy: Any, window: Any, dtype: Any = None) -> jax.ShapeDtypeStruct:
    """dw; a dtype of None is that of x."""
    shape = *window.size, x.shape[-1] // window.groups, dy.shape[-1]
    return jax.ShapeDtypeStruct(shape, dtype or x.dtype)
