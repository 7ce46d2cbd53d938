"""DiffStride against strided convolution where the strides were chosen badly, on CIFAR-10.

    python experiments/receptive_field/diff_stride_cifar10.py --data-dir DIR

No claim yet: it has run at a size that says nothing (16 steps of 32 images, width 8, one seed:
18.75 % strided, 14.84 % DiffStride, on 128 images), to show that it runs.

Published, of a ResNet-18 after 400 epochs (Riad et al. 2022, arXiv:2202.01653): 94.2 % against
89.2 % for the strides (1, 1, 3, 2, 3).
"""

from __future__ import annotations

import statistics

import jax
import jax.numpy as jnp
import tyro
from flax import nnx

from jconv import data, nn, training


class Net(nnx.Module):
    """Four 3x3 convolutions with batch norm, three of which make the image smaller.

    Args:
      learned: a convolution of stride 1 and a DiffStride in the place of a strided one.
    """

    def __init__(self, strides: tuple[int, ...], learned: bool, width: int, *, rngs: nnx.Rngs):
        widths = [3, width, *[width * 2**i for i in range(len(strides))]]
        convs, norms = [], []
        for c, k, s in zip(widths[:-1], widths[1:], (1, *strides), strict=True):
            stride = 1 if learned else s
            convs.append(nn.Conv(c, k, (3, 3), stride, use_bias=False, padding=1, rngs=rngs))
            norms.append(nn.BatchNorm(k, activation="relu", rngs=rngs))
        self.convs, self.norms = nnx.List(convs), nnx.List(norms)
        self.pools = nnx.List([nn.DiffStride((s, s)) for s in strides] if learned else [])
        self.linear = nn.Linear(widths[-1], 10, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits (N, 10)."""
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = conv(x)
            if self.pools and i:
                x = self.pools[i - 1](x)
            x = norm(x)
        return self.linear(jnp.mean(x, (1, 2)))

    def fit(self, pixels: int = 32) -> list[tuple[int, ...]]:
        """Fits every size to its strides, and returns them."""
        spatial, sizes = (pixels, pixels), []
        for pool in self.pools:
            spatial = pool.fit(spatial)
            sizes.append(spatial)
        return sizes


def accuracy(strides, learned, width, steps, batch, seed, train, test):
    """Test accuracy; sizes are fitted anew four times."""
    model = Net(strides, learned, width, rngs=nnx.Rngs(seed))
    model.fit()
    tx = training.adamw(training.warmup_cosine(3e-3, steps, warmup_steps=steps // 10 + 1))
    loss, parts = training.cross_entropy(), 4
    graph, state = training.TrainState.create(model, tx, key=jax.random.key(seed))
    step, sizes = None, None
    epochs = -(-steps * batch // len(train.images))
    for done, each in enumerate(data.batches(train, batch, seed=seed, epochs=epochs)):
        if done == steps:
            break
        if done % max(steps // parts, 1) == 0:
            graph, sizes = refitted(graph, state)
            step = jax.jit(training.make_train_step(graph, tx, loss), donate_argnums=0)
        assert step is not None
        state, _ = step(state, each)
    evaluate = jax.jit(training.make_eval_step(graph))
    result = training.evaluate(evaluate, state, data.eval_batches(test, batch))
    pools = state.model(graph).pools
    learned_strides = [tuple(round(float(s), 2) for s in pool.strides[...]) for pool in pools]
    return result["accuracy"], learned_strides, sizes


def refitted(graph, state):
    """The graph with sizes that fit the strides of `state`."""
    model = nnx.merge(graph, state.params, state.rest, copy=True)
    sizes = model.fit()
    return nnx.split(model, nnx.Param, ..., graph=False)[0], sizes


def main(
    data_dir: str | None = None,
    strides: tuple[int, ...] = (3, 2, 3),
    width: int = 16,
    steps: int = 1500,
    batch: int = 128,
    seeds: int = 3,
    train_images: int = 50000,
    test_images: int = 10000,
) -> None:
    """Prints test accuracies of both kinds, mean and deviation over seeds, and learned strides."""
    train, test = data.load("cifar10", data_dir=data_dir)
    train = data.Dataset(
        train.name, train.images[:train_images], train.labels[:train_images], train.classes
    )
    test = data.Dataset(
        test.name, test.images[:test_images], test.labels[:test_images], test.classes
    )
    for learned in (False, True):
        found = []
        for seed in range(seeds):
            value, ends, sizes = accuracy(strides, learned, width, steps, batch, seed, train, test)
            found.append(float(value))
            if learned:
                print(f"  seed {seed}: strides {ends}, sizes {sizes}")
        spread = f" +- {statistics.stdev(found):.2%}" if len(found) > 1 else ""
        kind = "DiffStride" if learned else "strided convolution"
        print(f"{kind:20s} {statistics.mean(found):.2%}{spread} (n={seeds})", flush=True)


if __name__ == "__main__":
    tyro.cli(main)
