"""Steps of training of two small networks whose operations run by one implementation.

They have the structure of real ones: a ConvNeXt with its stem, blocks and norms, and a network of
poolings and strided depthwise convolutions. Images are bfloat16, parameters float32.
"""

from __future__ import annotations

import collections
import functools
from typing import Any

import jax
import jax.numpy as jnp

import jconv

CLASSES, WIDTH = 8, 16
LEARNING_RATE = 0.1


def images(count: int) -> Any:
    """The types of a batch: images and labels."""
    return (
        jax.ShapeDtypeStruct((count, 32, 32, WIDTH), jnp.bfloat16),
        jax.ShapeDtypeStruct((count,), jnp.int32),
    )


def convnext(params: Any, x: jax.Array, implementation: str | None) -> jax.Array:
    """Stem, two blocks, head: logits (N, classes)."""
    named = {"implementation": implementation}
    x = jconv.conv(x, _low(params["stem"]), stride=4, padding="VALID")
    for block in params["blocks"]:
        y = jconv.conv(x, _low(block["depthwise"]), groups=WIDTH, **named)
        y = jconv.layer_norm(y, block["scale"], block["bias"], **named)
        y = jax.nn.gelu(y @ _low(block["wide"])) @ _low(block["narrow"])
        x = x + y
    x = jconv.layer_norm(jnp.mean(x, (1, 2)), params["scale"], params["bias"], **named)
    return x @ _low(params["head"])


def pooled(params: Any, x: jax.Array, implementation: str | None) -> jax.Array:
    """Stem, max pooling, a strided and a dilated depthwise convolution, with an excitation in
    between, average pooling, head.
    """
    named: dict[str, Any] = {"implementation": implementation}
    x = jconv.conv(x, _low(params["stem"]))
    x = jconv.max_pool(x, 3, stride=2, padding=1, **named)
    x = jconv.conv(x, _low(params["strided"]), stride=2, groups=WIDTH, **named)
    x = jconv.rms_norm(x, params["scale"], **named)
    gate = jax.nn.sigmoid(jnp.mean(x, (1, 2)))
    x = jconv.scale_bias_act(x, None, params["bias"], activation="silu", gate=gate, **named)
    x = jconv.conv(x, _low(params["dilated"]), dilation=2, groups=WIDTH, **named)
    x = jconv.avg_pool(x, 2, **named)
    return jnp.mean(x, (1, 2)) @ _low(params["head"])


def _types(**shapes: tuple[int, ...]) -> dict[str, Any]:
    return {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()}


_BLOCK = _types(
    depthwise=(7, 7, 1, WIDTH), scale=(WIDTH,), bias=(WIDTH,), wide=(WIDTH, 4 * WIDTH),
    narrow=(4 * WIDTH, WIDTH),
)  # fmt: skip
_ENDS = _types(scale=(WIDTH,), bias=(WIDTH,), head=(WIDTH, CLASSES))
NETWORKS = {
    "convnext": (
        convnext, {**_ENDS, **_types(stem=(4, 4, WIDTH, WIDTH)), "blocks": [_BLOCK, _BLOCK]}
    ),
    "pooled": (
        pooled,
        {
            **_ENDS, **_types(stem=(3, 3, WIDTH, WIDTH)),
            **_types(strided=(3, 3, 1, WIDTH), dilated=(3, 3, 1, WIDTH)),
        },
    ),
}  # fmt: skip
# Of one step. RMS norm is layer norm's kernel, not centred.
DEPTHWISE = collections.Counter(
    jconv_depthwise_conv_forward=2,
    jconv_depthwise_conv_input_grad=2,
    jconv_depthwise_conv_filter_grad=2,
)
KERNELS = {
    "convnext": DEPTHWISE + collections.Counter(
        jconv_layer_norm_forward=3, jconv_layer_norm_grad=3
    ),
    "pooled": DEPTHWISE + collections.Counter(
        jconv_max_pooling_largest_and_tap=1, jconv_max_pooling_put=1, jconv_layer_norm_forward=1,
        jconv_layer_norm_grad=1, jconv_avg_pooling_sum=1, jconv_avg_pooling_spread=1,
        jconv_epilogue_forward=1, jconv_epilogue_grad=1,
    ),
}  # fmt: skip


def step(name: str, implementation: str | None, axis: str | None = None) -> Any:
    """`(params, batch) -> (params, loss)` of a network of `NETWORKS`.

    Args:
      axis: of a shard_map that splits the batch, inside of which the step runs.
    """
    network, _ = NETWORKS[name]

    def loss(params, batch):
        x, labels = batch
        logs = jax.nn.log_softmax(network(params, x, implementation).astype(jnp.float32))
        chosen = jnp.sum(logs * jax.nn.one_hot(labels, CLASSES), -1)
        mean = -jnp.mean(chosen)
        return mean if axis is None else jax.lax.pmean(mean, axis)

    def one(params, batch):
        value, grads = jax.value_and_grad(loss)(params, batch)
        return jax.tree.map(lambda p, g: p - LEARNING_RATE * g, params, grads), value

    return one


@functools.cache
def parameters(name: str) -> Any:
    """The types of a network's parameters."""
    return NETWORKS[name][1]


def _low(w: jax.Array) -> jax.Array:
    return w.astype(jnp.bfloat16)
