"""A network is trained towards a field of a wanted width, through second-order gradients.

    python experiments/receptive_field/train_to_a_radius.py

Claim: from 2.334 pixels to 3.999 for a target of 4.0 (-0.03 %), 200 steps in 16 s on 2 cores of an
AMD EPYC beside other work, jax 0.12.0.1. For 1.2 the test of the same network (marked slow) holds
it within 2 %.
"""

from __future__ import annotations

import itertools
import time

import jax
import optax
import tyro

import jconv
from jconv import receptive_field as rf


def main(
    targets: tuple[float, ...] = (4.0, 1.2),
    layers: int = 8,
    channels: int = 8,
    size: int = 33,
    steps: int = 200,
) -> None:
    """Trains from one start towards each target, on noise; measures on other noise."""
    widths = [1, *[channels] * (layers - 1), 1]
    start = [
        jax.random.normal(jax.random.fold_in(jax.random.key(0), i), (3, 3, c, k))
        * (2 / 9 / c) ** 0.5
        for i, (c, k) in enumerate(itertools.pairwise(widths))
    ]

    def field(ws, key, examples):
        def network(x):
            for w in ws[:-1]:
                x = jax.nn.gelu(jconv.conv(x, w))
            return jconv.conv(x, ws[-1])

        x = jax.random.normal(key, (examples, size, size, 1))
        return rf.gradient_maps(network, x, magnitude="square").mean(0)

    tx = optax.adam(optax.cosine_decay_schedule(6e-3, steps, 0.03))

    @jax.jit
    def step(ws, state, key, target):
        loss = lambda ws: rf.radius_loss(field(ws, key, 8), target)  # noqa: E731
        updates, state = tx.update(jax.grad(loss)(ws), state)
        return optax.apply_updates(ws, updates), state

    measure = jax.jit(lambda ws: rf.radius(field(ws, jax.random.key(999), 32)))
    print(f"at the start {measure(start):.3f}")
    for target in targets:
        begun = time.perf_counter()
        ws, state = start, tx.init(start)
        for i in range(steps):
            ws, state = step(ws, state, jax.random.key(i), target)
        reached = float(measure(ws))
        print(f"target {target}: {reached:.3f} ({reached / target - 1:+.2%}) after {steps} steps, "
              f"{time.perf_counter() - begun:.0f} s", flush=True)  # fmt: skip


if __name__ == "__main__":
    tyro.cli(main)
