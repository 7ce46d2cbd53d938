"""What an activation and dropout do to the growth of the field with depth.

    python experiments/receptive_field/activations_and_dropout.py

Measured so far (40 draws, 95 % bounds): linear 1.82 (1.80 to 1.85), 2.63 (2.58 to 2.67) and 3.75
(3.69 to 3.81) pixels for 5, 10 and 20 layers, theory 1.83, 2.58, 3.65, slope 0.520; ReLU 1.84 (1.80
to 1.88) and 2.64 (2.58 to 2.69) for 5 and 10. No claim yet for tanh, dropout and deeper ReLU: the
run was not finished. jax 0.12.0.1.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from chain import Chain, radius_and_interval, text

KINDS = {
    "linear": {},
    "relu": {"activation": jax.nn.relu, "gain": 2.0},
    "tanh": {"activation": jnp.tanh},
    "linear, dropout 0.3": {"dropout": 0.3},
}


def main(layers: tuple[int, ...] = (5, 10, 20), draws: int = 40) -> None:
    """Prints the radius for each kind and depth beside sqrt(2 n / 3), and the slopes."""
    for kind, options in KINDS.items():
        radii = []
        for n in layers:
            chain = Chain(dilations=[1] * n, size=2 * n + 1, **options)
            found = radius_and_interval(chain, draws)
            radii.append(float(found.value))
            print(f"{kind:20s} {n:3d} layers: {text(found)}, theory {(2 * n / 3) ** 0.5:.2f}")
        slope = np.polyfit(np.log(layers), np.log(radii), 1)[0]
        print(f"{kind:20s} slope of log radius over log layers: {slope:.3f}", flush=True)


if __name__ == "__main__":
    tyro.cli(main)
