"""The field of a ResNet-20 before and after training on CIFAR-10.

    python experiments/receptive_field/cifar10_training.py --data-dir DIR

No claim yet: the script has not been run to its end.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from flax import nnx

from jconv import data, models, training, visualize
from jconv import receptive_field as rf


def main(
    data_dir: str | None = None,
    steps: int = 2000,
    batch: int = 128,
    images: int = 64,
    seed: int = 0,
    out: str | None = None,
) -> None:
    """Trains for `steps` and prints the radius of each endpoint's middle unit, with its interval.

    Args:
      images: of the test set, that fields are measured on.
      out: a folder for heat maps before and after.
    """
    train, test = data.load("cifar10", data_dir=data_dir)
    shown = jnp.asarray(test.images[:images], jnp.float32) / 255
    schedule = training.warmup_cosine(0.1, steps, warmup_steps=min(100, steps // 5))
    tx = training.sgd(schedule, weight_decay=5e-4)
    graph, state = training.TrainState.create(
        models.ResNetCifar(20, rngs=nnx.Rngs(seed)), tx, key=jax.random.key(seed)
    )
    step = jax.jit(training.make_train_step(graph, tx, training.cross_entropy()), donate_argnums=0)
    before = measured(state.model(graph), shown, "before", out)
    epochs = -(-steps * batch // len(train.images))
    metrics: dict[str, jax.Array] = {}
    for i, each in enumerate(data.batches(train, batch, seed=seed, epochs=epochs)):
        if i == steps:
            break
        state, metrics = step(state, each)
    print(f"training loss {metrics['loss']:.3f}, accuracy {metrics['accuracy']:.1%}")
    after = measured(state.model(graph), shown, "after", out)
    for name in before:
        print(f"{name:8s} before {before[name]}, after {after[name]}", flush=True)


def measured(model: Any, shown: jax.Array, name: str, out: str | None) -> dict[str, str]:
    """Radius of every convolutional endpoint, pixels, with 95 % bounds over images."""
    maps = rf.gradient_maps(model.endpoints, shown, chunk=32)
    maps = {stage: m for stage, m in maps.items() if stage not in ("pooled", "logits")}
    if out is not None:
        Path(out).mkdir(parents=True, exist_ok=True)
        pictures = visualize.field_heat_maps({k: np.asarray(m.mean(0)) for k, m in maps.items()})
        (Path(out) / f"{name}.png").write_bytes(visualize.encode_png(pictures))
    found = {k: rf.bootstrap(rf.radius, m, key=jax.random.key(0)) for k, m in maps.items()}
    return {k: f"{i.value:.2f} ({i.low:.2f} to {i.high:.2f})" for k, i in found.items()}


if __name__ == "__main__":
    tyro.cli(main)
