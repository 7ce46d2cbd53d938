"""Whole steps of training: jconv's models, the same with Flax's own layers, and PyTorch.

    python experiments/bench/train_steps.py [resnet18 mobilenet_v2 convnext] [--rounds 7]

One step is forward, backward and SGD with momentum in float32 on one batch; all three begin with
the same weights, and the loss of the second step must agree before anything is timed. jconv's row
is of many steps in one call (`lax.scan`), some seconds long, so that XLA allocates its temporary
memory, and the system clears it, once for all of them; "1 step a call" is beside it. Stock JAX
takes one step a call: in a scan its filter gradients take many times as long.

    resnet18      ResNet-18 with a 3x3 stem, 64 images of 32x32 pixels
    mobilenet_v2  MobileNetV2 without dropout, 16 images of 96x96 pixels
    convnext      one block of each of ConvNeXt-T's four stages, with stem and downsampling between
                  them, 16 images of 96x96 pixels; layer scale 1, or the blocks would hardly count

Writes results/<device>/train_steps.jsonl beside this script.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from flax import nnx
from processes import in_processes
from stock_layers import with_stock_layers

import jconv
from jconv import bench
from jconv.convert import from_pytorch
from jconv.models.convnext import ConvNeXt
from jconv.models.mobilenet_v2 import STAGES, MobileNetV2
from jconv.models.resnet import ResNet

RESULTS = Path(__file__).parent / "results"
TORCH_NETWORKS = Path(__file__).with_name("torch_networks.py")
LEARNING_RATE, MOMENTUM, CLASSES = 0.01, 0.9, 10
# Of the loss after one step. In float64 all three agree to 1e-13 (tests/bench/test_train_steps.py);
# in float32 MobileNetV2's rounding, through 52 batch norms, has been seen to change it by 3e-3.
TOLERANCE = 1e-2


@dataclasses.dataclass(frozen=True)
class Network:
    """A network to train.

    Attributes:
      make: `make(input_shape=..., classes=..., rngs=..., **options)`.
      batch: images.
      pixels: height and width.
      steps: in a call of jconv's.
      options: of jconv's constructor.
      torch_options: of the constructor in torch_networks.py.
    """

    make: Callable[..., Any]
    batch: int
    pixels: int
    steps: int
    options: Mapping[str, Any]
    torch_options: Mapping[str, Any]


BLOCKS = {"depths": (1, 1, 1, 1), "widths": (96, 192, 384, 768), "layer_scale": 1.0}
NETWORKS = {
    "resnet18": Network(ResNet, 64, 32, 8, {"depth": 18, "stem": "small"}, {}),
    "mobilenet_v2": Network(MobileNetV2, 16, 96, 32, {"dropout": 0.0}, {"stages": STAGES}),
    "convnext": Network(ConvNeXt, 16, 96, 16, BLOCKS, BLOCKS),
}


class Training:
    """A model in training on one batch, its step compiled.

    Attributes:
      losses: before each step of the two calls that were done when it was made.
      compile_seconds, temporary_bytes: as in `bench.Compiled`.
      runs: what computes jconv's operations in a step, "conv: direct"; empty without any.
    """

    def __init__(
        self, model: nnx.Module, images: np.ndarray, labels: np.ndarray, *, steps_per_call: int = 1
    ):
        graph, params, rest = nnx.split(model, nnx.Param, ...)
        self._state = (params, rest, jax.tree.map(jnp.zeros_like, params))
        step, self._steps = _step_of(graph), steps_per_call
        choices = jconv.explain_choice(step, self._state, (images, labels))
        self.runs = sorted({f"{choice.op}: {choice.implementation}" for choice in choices})
        program, batch = step, (jnp.asarray(images), jnp.asarray(labels))
        if steps_per_call > 1:
            program = functools.partial(jax.lax.scan, step)
            batch = jax.tree.map(lambda a: jnp.stack([a] * steps_per_call), batch)
        self._batch, started = batch, time.perf_counter()
        self._run = jax.jit(program, donate_argnums=0).lower(self._state, batch).compile()
        self.compile_seconds = time.perf_counter() - started
        memory = self._run.memory_analysis()
        self.temporary_bytes = None if memory is None else int(memory.temp_size_in_bytes)
        self.losses = np.ravel([np.asarray(self._call(), np.float64) for _ in range(2)])

    def _call(self) -> Any:
        self._state, losses = jax.block_until_ready(self._run(self._state, self._batch))
        return losses

    def seconds(self, calls: int) -> float:
        """How long so many steps take, from so many or a few more."""
        runs = math.ceil(calls / self._steps)
        started = time.perf_counter()
        for _ in range(runs):
            self._call()
        return (time.perf_counter() - started) * calls / (runs * self._steps)


def _step_of(graph):
    def loss_of(params, rest, images, labels):
        model = nnx.merge(graph, params, rest, copy=True)
        logs = jax.nn.log_softmax(model(images))
        loss = -jnp.mean(jnp.take_along_axis(logs, labels[:, None], -1))
        return loss, nnx.split(model, nnx.Param, ...)[2]

    def step(state, batch):
        (params, rest, velocity), (images, labels) = state, batch
        (loss, rest), grads = jax.value_and_grad(loss_of, has_aux=True)(
            params, rest, images, labels
        )
        velocity = jax.tree.map(lambda v, g: MOMENTUM * v + g, velocity, grads)
        params = jax.tree.map(lambda p, v: p - LEARNING_RATE * v, params, velocity)
        return (params, rest, velocity), loss

    return step


def measure(
    name: str, network: Network, now: bench.Session, rounds: int, peer: bench.Peer | None
) -> list[bench.Row]:
    """The rows of jconv, stock layers, and PyTorch if there is a peer."""
    load = os.getloadavg()[0]
    random = np.random.default_rng(0)
    images = random.standard_normal((network.batch, *[network.pixels] * 2, 3), np.float32)
    labels = random.integers(0, CLASSES, network.batch)
    arguments = {"network": name, "options": {**network.torch_options, "classes": CLASSES}}
    start = peer.prepare("weights", arguments) if peer else None
    entries, losses = {}, {}
    contenders = {"jconv": network.steps, "jconv:1 step a call": 1, "stock": 1}
    for contender, steps_per_call in contenders.items():
        model = _model(network, start)
        if contender == "stock":
            model = with_stock_layers(model)
        training = Training(model, images, labels.astype(np.int32), steps_per_call=steps_per_call)
        if contender == "stock" and training.runs:
            raise RuntimeError(f"stock layers still call jconv: {', '.join(training.runs)}")
        losses[contender] = float(training.losses[1])
        entries[contender] = bench.Entry(
            ", ".join(training.runs) or "Flax NNX", training,
            temporary_bytes=training.temporary_bytes, compile_seconds=training.compile_seconds,
        )  # fmt: skip
    if peer is not None:
        steps = {**arguments, "learning_rate": LEARNING_RATE, "momentum": MOMENTUM}
        losses["torch"] = float(peer.prepare("train_step", steps, [images, labels])["loss"])
        entries["torch"] = bench.Entry("torch", peer)
    _refuse_wrong(entries, losses)
    return bench.race(
        name, "train step", "step", entries, now, rounds=rounds, load=load,
        operand_bytes=_bytes(_model(network, None)) + images.nbytes,
    )  # fmt: skip


def _model(network: Network, start: Mapping[str, np.ndarray] | None) -> nnx.Module:
    model = network.make(
        input_shape=(network.pixels, network.pixels, 3), classes=CLASSES, rngs=nnx.Rngs(0),
        **network.options,
    )  # fmt: skip
    if start is not None:
        from_pytorch(model, start)
    model.train()
    return model


def _refuse_wrong(entries: Mapping[str, bench.Entry], losses: Mapping[str, float]) -> None:
    """Who is alone with its loss gets no time: of two that disagree, neither."""
    for contender, loss in losses.items():
        library = contender.partition(":")[0]
        others = [loss for name, loss in losses.items() if name.partition(":")[0] != library]
        if not any(abs(loss - other) <= TOLERANCE * abs(other) for other in others):
            entries[contender].timed = None
            said = ", ".join(f"{other:.6g}" for other in others)
            entries[contender].failure = f"wrong: loss {loss:.6g} after a step, others {said}"


def _bytes(model: nnx.Module) -> int:
    """Of parameters, statistics and the optimiser's velocities."""
    params, rest = nnx.split(model, nnx.Param, ...)[1:]
    total = [a.size * a.dtype.itemsize for a in jax.tree.leaves((params, params, rest))]
    return sum(total)


def main(
    networks: tyro.conf.Positional[tuple[str, ...]] = tuple(NETWORKS),
    rounds: int = 7,
    processes: int = 1,
    torch_python: Path | None = None,
    results: Path = RESULTS,
) -> None:
    """Measures and writes; Ctrl-C leaves what is done.

    Args:
      networks: of resnet18, mobilenet_v2, convnext.
      rounds: how often the contenders take turns; from 7 on, more where jconv's ratios are not
        known to 5 %.
      processes: how many do all this, one after the other; a row is then the median of theirs.
      torch_python: an interpreter with PyTorch; the default is .torch/bin/python, if it is there.
      results: the folder that the rows go to.
    """
    unknown: Sequence[str] = [name for name in networks if name not in NETWORKS]
    if unknown:
        raise SystemExit(f"networks: {', '.join(NETWORKS)}; got {', '.join(unknown)}")
    if processes > 1:
        measure_all = functools.partial(_measure_all, networks, rounds, torch_python)
        in_processes(measure_all, processes, results)
    else:
        _measure_all(networks, rounds, torch_python, results)


def _measure_all(networks, rounds, torch_python, results):
    with bench.torch_peer(torch_python, TORCH_NETWORKS) as peer:
        now = bench.session(**(peer.versions if peer else {}))
        for name in networks:
            rows = measure(name, NETWORKS[name], now, rounds, peer)
            bench.write_rows(results / now.device / "train_steps.jsonl", rows)
            print(bench.one_line(rows), flush=True)


if __name__ == "__main__":
    tyro.cli(main)
