"""Uniform filters, one after the other: the field is as wide as the root of their number.

    python experiments/receptive_field/square_root_law.py

Claim: 3x3 filters, n = 5, 10, 20, 40: the fitted sigma is 1.8257, 2.5820, 3.6515, 5.1640, within
1 % of the theory's sqrt(n (k^2 - 1) / 12), in fact equal to it to five digits; a slope of 0.500
between the logarithms. The root of the area above 1 - 95.45 % of the peak is 8.31, 11.70, 16.16,
22.74 pixels, a slope of 0.482; as a share of the theoretical field, -0.478. In 11 s on 2 cores of
an AMD EPYC beside other work, jax 0.12.0.1.
"""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np
import tyro

import jconv
from jconv import receptive_field as rf


def main(kernel: int = 3, layers: tuple[int, ...] = (5, 10, 20, 40)) -> None:
    """Prints sigma and the 95.45 % side of chains of uniform filters, and slopes over `layers`."""
    w = jnp.full((kernel, kernel, 1, 1), 1 / kernel**2)
    rows = []
    for n in layers:
        size = n * (kernel - 1) + 1

        def chain(x, n=n):
            for _ in range(n):
                x = jconv.conv(x, w, padding="VALID")
            return x

        field = rf.gradient_maps(chain, jnp.ones((1, size, size, 1)))[0]
        sigma = float(rf.gaussian_fit(field).sigma.mean())
        theory = math.sqrt(n * (kernel**2 - 1) / 12)
        side = math.sqrt(float(rf.area(field)))
        rows.append((n, sigma, side, side / size))
        print(f"{n:3d} layers: sigma {sigma:.4f}, theory {theory:.4f}, side {side:.2f} of {size}")
    numbers, *measures = np.log(np.array(rows)).T
    for name, values in zip(("sigma", "side", "side / field"), measures, strict=True):
        print(f"slope of log {name} over log layers: {np.polyfit(numbers, values, 1)[0]:.3f}")


if __name__ == "__main__":
    tyro.cli(main)
