"""Accuracy against receptive field, where parameters, depth and multiply-adds are the same.

    python experiments/receptive_field/accuracy_against_field.py --data-dir DIR

No claim yet: it has run at a size that says nothing, to show that it runs (tests/experiments/).

Six 3x3 convolutions of stride 1 and the mean over all pixels. Dilation makes the field larger than
the plain network's 13 pixels; a network that is applied to every tile of the image alone, padding
each with zeros, has a field no larger than the tile (as BagNets: Brendel & Bethge 2019,
arXiv:1904.00760). Published, of networks that differ in much else too: accuracy on ImageNet grows
with the logarithm of the field (Araujo, Norris & Sim 2019, doi:10.23915/distill.00021).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from flax import nnx

from jconv import data, nn, runs, training
from jconv import receptive_field as rf
from jconv.data.augment import to_float
from jconv.summary import summarize

DILATIONS = ((1, 1, 1, 1, 1, 1), (1, 1, 1, 2, 2, 2), (1, 1, 2, 2, 4, 4), (1, 2, 4, 8, 8, 8))


@dataclasses.dataclass(frozen=True)
class Kind:
    """What sets the field: dilations of the layers, and the side of a tile (None: no tiles)."""

    dilations: tuple[int, ...] = DILATIONS[0]
    tile: int | None = None

    def __str__(self) -> str:
        tile = f", tiles of {self.tile}" if self.tile else ""
        return f"dilations {' '.join(map(str, self.dilations))}{tile}"


class Net(nnx.Module):
    """3x3 convolutions with batch norm and ReLU, the mean over all pixels, and a linear layer."""

    def __init__(self, kind: Kind, channels: int, width: int, classes: int, *, rngs: nnx.Rngs):
        self.tile = kind.tile
        convs = []
        for i, d in enumerate(kind.dilations):
            c = width if i else channels
            conv = nn.Conv(c, width, (3, 3), kernel_dilation=d, use_bias=False, rngs=rngs)
            convs += [conv, nn.BatchNorm(width, momentum=0.9, activation="relu", rngs=rngs)]
        self.convs = nn.Sequential(*convs)
        self.linear = nn.Linear(width, classes, rngs=rngs)

    def features(self, x: jax.Array) -> jax.Array:
        """Features (N, H, W, width) of x (N, H, W, C); of every tile by itself."""
        if self.tile is None:
            return self.convs(x)
        n, h, w, c = x.shape
        t = self.tile
        tiles = x.reshape(n, h // t, t, w // t, t, c).swapaxes(2, 3).reshape(-1, t, t, c)
        y = self.convs(tiles).reshape(n, h // t, w // t, t, t, -1)
        return y.swapaxes(2, 3).reshape(n, h, w, -1)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits (N, classes)."""
        return self.linear(jnp.mean(self.features(x), (1, 2)))


def kinds(side: int) -> list[Kind]:
    """From the smallest field to the largest, for images of `side` pixels."""
    tiles = sorted({side // 8, side // 4} if side % 8 == 0 else {side // 7, side // 4})
    return [*(Kind(tile=t) for t in tiles), *map(Kind, DILATIONS)]


def pixels_read(model: Net, shape: Sequence[int]) -> int:
    """The most pixels from first to last, along the rows' axis, that a pixel of features reads.

    The exact field: where tiles end, padding is no part of it.
    """
    x = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    reads = rf.exact(model.features, x, axes=1).pixels(1)
    first, last = reads.argmax(1), reads.shape[1] - 1 - reads[:, ::-1].argmax(1)
    return int((last - first).max()) + 1


def recognised(
    kind: Kind, width: int, steps: int, batch: int, seed: int, train: Any, test: Any
) -> np.ndarray:
    """bool (test images,), after training."""
    channels, classes = train.image_shape[2], len(train.classes)
    model = Net(kind, channels, width, classes, rngs=nnx.Rngs(seed))
    tx = training.adamw(training.warmup_cosine(1e-2, steps, warmup_steps=steps // 10 + 1))
    graph, state = training.TrainState.create(model, tx, key=jax.random.key(seed))
    step = jax.jit(training.make_train_step(graph, tx, training.cross_entropy()), donate_argnums=0)
    epochs = -(-steps // (len(train) // batch))
    for i, each in enumerate(data.batches(train, batch, seed=seed, epochs=epochs)):
        if i == steps:
            break
        state, _ = step(state, each)
    found = runs.classify(state.model(graph), to_float, test).probabilities
    return found.argmax(-1) == test.labels


def interval(correct: np.ndarray, draws: int = 1000) -> tuple[float, float]:
    """95 % bounds of the mean of correct (seeds, images): a bootstrap over both at once."""
    random = np.random.default_rng(0)
    seeds, images = correct.shape
    drawn = random.multinomial(images, np.full(images, 1 / images), draws) / images
    weights = random.multinomial(seeds, np.full(seeds, 1 / seeds), draws) / seeds
    means = ((drawn @ correct.T) * weights).sum(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def main(
    dataset: str = "cifar10",
    data_dir: str | None = None,
    width: int = 16,
    steps: int = 400,
    batch: int = 128,
    seeds: int = 3,
    test_images: int = 10000,
) -> None:
    """Prints pixels read, test accuracy and its bounds for each network, and what they share."""
    train, test = data.load(dataset, data_dir=data_dir)
    test = test.subset(np.arange(min(test_images, len(test))))
    shape = train.image_shape
    for kind in kinds(shape[0]):
        model = Net(kind, shape[2], width, len(train.classes), rngs=nnx.Rngs(0))
        model.eval()
        summary = summarize(model, jax.ShapeDtypeStruct((1, *shape), jnp.float32), fields=False)
        correct = np.stack(
            [recognised(kind, width, steps, batch, seed, train, test) for seed in range(seeds)]
        )
        low, high = interval(correct)
        print(
            f"{pixels_read(model, shape):3d} pixels: {correct.mean():.2%} ({low:.2%} to {high:.2%},"
            f" {seeds} seeds), {kind}; {summary.parameters:,} parameters, "
            f"{summary.multiply_adds:,} multiply-adds", flush=True,
        )  # fmt: skip


if __name__ == "__main__":
    tyro.cli(main)
