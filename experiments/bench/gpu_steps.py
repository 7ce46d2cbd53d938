"""Part "steps" of gpu.py: images a second in training, on whole networks.

A step is forward, backward and SGD with momentum, computed in bfloat16 with parameters in float32.
jconv runs with its kernels wherever they can compute a call, but for dense convolutions, which stay
with cuDNN ("jconv:triton"), and on XLA alone ("jconv"); "stock" has the layers of Flax instead,
with the same parameters; PyTorch is compiled. What JAX's losses differ by after a step says whether
they compute the same.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from gpu_timing import Work, attempt, rows
from stock_layers import with_stock_layers
from train_steps import BLOCKS, Training

from jconv import bench
from jconv.models.convnext import ConvNeXt
from jconv.models.mobilenet_v2 import STAGES, MobileNetV2
from jconv.models.resnet import ResNet
from jconv.models.unet import UNet

CLASSES = 10
TOLERANCE = 0.05  # of the loss after one step, between programs that round otherwise


class Segmenter(nnx.Module):
    """A U-Net whose logits are averaged over the pixels."""

    def __init__(self, **options: Any):
        self.unet = UNet(padding="SAME", dropout=0.0, **options)

    def __call__(self, x: jax.Array) -> jax.Array:
        """(N, H, W, C) to (N, classes)."""
        return jnp.mean(self.unet(x), (1, 2))


@dataclasses.dataclass(frozen=True)
class Network:
    """A network to train.

    Attributes:
      make: `make(input_shape=..., classes=..., dtype=..., rngs=..., **options)`.
      pixels: height and width.
      options: of jconv's constructor.
      torch_options: of the constructor in gpu_torch.py.
      small: options, and those of PyTorch, for a rehearsal.
    """

    make: Callable[..., Any]
    pixels: int
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    torch_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    small: tuple[Mapping[str, Any], Mapping[str, Any]] | None = None


TINY_BLOCKS = {**BLOCKS, "depths": (1, 1), "widths": (8, 16)}
CONVNEXT_T = {**BLOCKS, "depths": (3, 3, 9, 3)}
NETWORKS = {
    "convnext_tiny": Network(ConvNeXt, 224, CONVNEXT_T, CONVNEXT_T, (TINY_BLOCKS, TINY_BLOCKS)),
    "mobilenet_v2": Network(MobileNetV2, 224, {"dropout": 0.0}, {"stages": STAGES}),
    "resnet50": Network(ResNet, 224, {"depth": 50}),
    "unet": Network(Segmenter, 128),
}
IMAGES = 256


def measure_steps(work: Work, peer: bench.Peer | None) -> None:
    """A row per contender and network; the contenders are compiled side by side."""
    for name, network in NETWORKS.items():
        if not work.time_left():
            return
        if work.tiny and network.small is None:
            continue
        _measure(work, name, network, peer)


def _measure(work, name, network, peer):
    options, torch_options = network.options, network.torch_options
    batch, pixels = IMAGES, network.pixels
    if work.tiny:
        (options, torch_options), batch, pixels = network.small, 2, 32
    random = np.random.default_rng(0)
    images = random.standard_normal((batch, pixels, pixels, 3), np.float32)
    labels = random.integers(0, CLASSES, batch).astype(np.int32)

    def training(contender):
        model = network.make(
            input_shape=(pixels, pixels, 3), classes=CLASSES, dtype=jnp.bfloat16,
            rngs=nnx.Rngs(0), **options,
        )  # fmt: skip
        model = with_stock_layers(model) if contender == "stock" else model
        model.train()
        kernels = contender == "jconv:triton"
        with bench.everywhere("triton", but=bench.DENSE) if kernels else contextlib.nullcontext():
            return Training(model, images, labels)

    def pytorch():
        peer.prepare("train_step", {
            "network": name, "options": {**torch_options, "classes": CLASSES}, "batch": batch,
            "pixels": pixels, "compiled": not work.tiny,
        })  # fmt: skip
        return peer

    makers: dict[str, Callable[[], Any]] = {
        contender: functools.partial(training, contender)
        for contender in ("jconv:triton", "jconv", "stock")
    }
    if peer is not None:
        makers["torch"] = pytorch
    with concurrent.futures.ThreadPoolExecutor(1 if work.tiny else len(makers)) as pool:
        made = {who: pool.submit(attempt, who, make) for who, make in makers.items()}
        entries = {who: future.result() for who, future in made.items()}
    for entry in entries.values():
        if isinstance(entry.timed, Training):
            entry.implementation = ", ".join(entry.timed.runs) or "Flax NNX"
    refuse_wrong(entries)
    found = rows(work, name, "train step", "step", entries, least_bytes=images.nbytes)
    for row in found:
        if row.seconds is not None:
            print(f"steps: {name} {row.contender} {batch / row.seconds.median:,.0f} images a "
                  "second", flush=True)  # fmt: skip


def refuse_wrong(entries: Mapping[str, bench.Entry]) -> None:
    """Who of JAX's is far from the stock layers' loss gets no time."""
    stock = entries["stock"].timed
    if not isinstance(stock, Training):
        return
    right = float(stock.losses[1])
    for entry in entries.values():
        if isinstance(entry.timed, Training):
            loss = float(entry.timed.losses[1])
            if not abs(loss - right) <= TOLERANCE * abs(right):
                entry.timed = None
                entry.failure = (
                    f"wrong: loss {loss:.6g} after a step, with stock layers {right:.6g}"
                )
