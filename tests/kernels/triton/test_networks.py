"""Networks of `jconv.models` as steps of training compiled for an H200, without one.

A convolution, and each gradient of it, is one call of cuDNN or, where kernels are asked for and it
is depthwise, of Triton's; the images' gradient is not wanted. Nothing else is called.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from jax.sharding import PartitionSpec as P

from jconv import bench
from jconv.models.convnext import ConvNeXt
from jconv.models.mobilenet_v2 import STAGES, MobileNetV2
from jconv.models.resnet import ResNet
from tests.kernels.triton import h200

pytestmark = h200.needs_compiler
PIXELS, BATCH, CLASSES = 64, 16, 8
WIDTHS = (96, 192, 384, 768)


@dataclasses.dataclass(frozen=True)
class Network:
    """A network, and what stands in it.

    Attributes:
      make: `make(classes=..., input_shape=..., dtype=..., rngs=...)`.
      convolutions: how many, linear layers over every pixel among them.
      depthwise, pools, layer_norms, batch_norms: how many of them.
    """

    make: Callable[..., Any]
    convolutions: int
    depthwise: int = 0
    pools: int = 0
    layer_norms: int = 0
    batch_norms: int = 0


def convnext(*depths):
    blocks = sum(depths)
    return Network(
        lambda **options: ConvNeXt(depths, WIDTHS[: len(depths)], **options),
        convolutions=len(depths) + 3 * blocks, depthwise=blocks,
        layer_norms=blocks + len(depths) + 1,
    )  # fmt: skip


def mobilenet(stages):
    """The first block of all does not expand; a norm follows each convolution."""
    blocks = sum(count for _, _, count, _ in stages)
    convolutions = 2 + 3 * blocks - 1
    return Network(
        lambda **options: MobileNetV2(stages=stages, dropout=0.0, **options),
        convolutions=convolutions, depthwise=blocks, batch_norms=convolutions,
    )  # fmt: skip


KERNELS = {  # in a step, of each
    "depthwise": [f"depthwise_conv_{name}" for name in ("forward", "input_grad", "filter_grad")],
    "pools": ["max_pooling_largest_and_tap", "max_pooling_put"],
    "layer_norms": ["layer_norm_forward", "layer_norm_grad"],
    "batch_norms": [f"batch_norm_{name}" for name in ("measure", "map", "sums", "map_back")],
}
RESNET50 = Network(ResNet, convolutions=53, pools=1, batch_norms=53)
slow = pytest.mark.slow
NETWORKS = [
    pytest.param(convnext(1, 1), id="convnext_of_2_blocks"),
    pytest.param(mobilenet(STAGES[:2]), id="mobilenet_v2_of_3_blocks"),
    pytest.param(convnext(3, 3, 9, 3), id="convnext_tiny", marks=slow),
    pytest.param(mobilenet(STAGES), id="mobilenet_v2", marks=slow),
    pytest.param(
        Network(ResNet, convolutions=53, pools=1, batch_norms=53), id="resnet50", marks=slow
    ),
]
each_network = pytest.mark.parametrize("network", NETWORKS)


def compiled(network, context):
    """A step of SGD in bfloat16 on one GPU."""
    make = network.make
    model = nnx.eval_shape(
        lambda: make(
            classes=CLASSES, input_shape=(PIXELS, PIXELS, 3), dtype=jnp.bfloat16, rngs=nnx.Rngs(0)
        )
    )
    model.train()
    graph, params, rest = nnx.split(model, nnx.Param, ...)

    def loss_of(params, rest, images, labels):
        model = nnx.merge(graph, params, rest, copy=True)
        logs = jax.nn.log_softmax(model(images).astype("float32"))
        chosen = jnp.sum(logs * jax.nn.one_hot(labels, CLASSES), -1)
        return -jnp.mean(chosen), nnx.split(model, nnx.Param, ...)[2]

    def step(params, rest, images, labels):
        (loss, rest), grads = jax.value_and_grad(loss_of, has_aux=True)(
            params, rest, images, labels
        )
        return loss, rest, jax.tree.map(lambda p, g: p - 0.1 * g, params, grads)

    images = jax.ShapeDtypeStruct((BATCH, PIXELS, PIXELS, 3), jnp.bfloat16)
    labels = jax.ShapeDtypeStruct((BATCH,), jnp.int32)
    with context:
        return h200.compiled(step, *h200.on(h200.mesh(1), P(), (params, rest, images, labels)))


def by_library(program):
    """How often each kernel of ours is called, and together how often cuDNN's convolutions."""
    names = program.names()
    cudnn = sum(names.pop(name) for name in list(names) if name.startswith("__cudnn$conv"))
    return cudnn, names


@slow
@each_network
def test_on_xla_alone(network):
    cudnn, others = by_library(compiled(network, contextlib.nullcontext()))
    assert cudnn == 3 * network.convolutions - 1
    assert not others


@each_network
def test_with_kernels(network):
    kernels = bench.everywhere("triton", but=bench.DENSE)
    cudnn, others = by_library(compiled(network, kernels))
    assert cudnn == 3 * (network.convolutions - network.depthwise) - 1
    assert others == {
        f"jconv_{kernel}": getattr(network, what)
        for what, kernels in KERNELS.items()
        for kernel in kernels
        if getattr(network, what)
    }
