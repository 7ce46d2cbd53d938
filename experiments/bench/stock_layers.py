"""A network of `jconv.nn` as its twin of Flax NNX's own layers, with the very same parameters."""

from __future__ import annotations

import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

from jconv import nn
from jconv.window import Window

TWINS: dict[type, type] = {
    nn.Conv: nnx.Conv,
    nn.ConvTranspose: nnx.ConvTranspose,
    nn.BatchNorm: nnx.BatchNorm,
    nn.LayerNorm: nnx.LayerNorm,
    nn.GroupNorm: nnx.GroupNorm,
}
VARIABLES = ("kernel", "bias", "scale", "mean", "var")
# Arguments of Flax's constructors that a layer, once made, no longer has or that change no result.
GONE = {
    "kernel_init", "bias_init", "scale_init", "kernel_metadata", "bias_metadata", "scale_metadata",
    "conv_general_dilated", "axis_index_groups", "use_fast_variance", "rngs", "self", "group_size",
}  # fmt: skip


class MaxPool(nnx.Module):
    """The largest pixel of each window, by `lax.reduce_window`, as `flax.nnx.max_pool` does it."""

    def __init__(self, layer: nn.MaxPool):
        self.options = (layer.window_shape, layer.strides, layer.padding)

    def __call__(self, x: jax.Array) -> jax.Array:
        """(N, *spatial, C) to (N, *output, C)."""
        size, strides, padding = self.options
        window = Window.of(
            x.shape[1:-1], size, stride=size if strides is None else strides, padding=padding
        )
        return lax.reduce_window(
            x, np.array(-np.inf, x.dtype), lax.max, (1, *window.size, 1), (1, *window.stride, 1),
            ((0, 0), *window.pads, (0, 0)),
        )  # fmt: skip


class GlobalAvgPool(nnx.Module):
    """The mean of each channel, by `jnp.mean`."""

    def __call__(self, x: jax.Array) -> jax.Array:
        """(N, *spatial, C) to (N, C)."""
        return jnp.mean(x, tuple(range(1, x.ndim - 1)))


def with_stock_layers(model: nnx.Module) -> nnx.Module:
    """`model`, every layer of jconv's that computes replaced in place by Flax's.

    Raises:
      ValueError: a layer's argument that its twin must have is not kept by the layer.
    """
    for path, layer in list(nnx.iter_modules(model, graph=False)):
        if isinstance(layer, nnx.Linear):
            layer.dot_general = lax.dot_general
        twin = _twin(layer)
        if twin is None:
            continue
        parent: Any = model
        for part in path[:-1]:
            parent = _child(parent, part)
        if isinstance(path[-1], int):
            parent[path[-1]] = twin
        else:
            setattr(parent, str(path[-1]), twin)
    return model


def _twin(layer):
    if isinstance(layer, nn.MaxPool):
        return MaxPool(layer)
    if isinstance(layer, nn.GlobalAvgPool):
        return GlobalAvgPool()
    if type(layer) not in TWINS:
        return None
    make = TWINS[type(layer)]
    wanted = set(inspect.signature(make.__init__).parameters) - GONE
    if missing := sorted(name for name in wanted if not hasattr(layer, name)):
        raise ValueError(f"stock layers: {type(layer).__name__} does not keep {missing}")
    twin = make(**{name: getattr(layer, name) for name in wanted}, rngs=nnx.Rngs(0))
    for name in VARIABLES:
        if hasattr(layer, name):
            setattr(twin, name, getattr(layer, name))
    activation = getattr(layer, "activation", None)
    return twin if activation is None else nnx.Sequential(twin, getattr(jax.nn, activation))


def _child(parent, part):
    return parent[part] if isinstance(part, int) else getattr(parent, str(part))
