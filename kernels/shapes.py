"""Shapes and dtypes of what convolutions, poolings and their gradients give.

Shapes (written for two spatial axes): x N H W C, w R S C/G K, y and dy N P Q K; of pooling K is C.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import numpy as np


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


def windows(x: Any, window: Any, dtype: Any) -> jax.ShapeDtypeStruct:
    """One number for each window and channel of x."""
    return jax.ShapeDtypeStruct((x.shape[0], *window.output, x.shape[-1]), dtype)


def pixels(dy: Any, window: Any, dtype: Any) -> jax.ShapeDtypeStruct:
    """One number for each pixel and channel of what dy's windows lie on."""
    return jax.ShapeDtypeStruct((dy.shape[0], *window.input, dy.shape[-1]), dtype)


def taps(x: Any, window: Any) -> jax.ShapeDtypeStruct:
    """Which tap of each window of x, in the smallest dtype that counts them."""
    return windows(x, window, np.uint8 if math.prod(window.size) <= 256 else np.int32)
