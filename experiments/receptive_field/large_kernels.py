"""One large filter sees further than a stack of small ones with the same theoretical field.

    python experiments/receptive_field/large_kernels.py

Claim: theoretical field 31: one layer of 31x31 8.94 pixels (95 % bounds over 20 draws 8.92 to
8.95), theory 8.94; fifteen of 3x3 3.26 (3.17 to 3.33), theory 3.16. In 36 s on 2 cores of an AMD
EPYC beside other work, jax 0.12.0.1.

Theory: a filter of k taps has sigma sqrt((k^2 - 1) / 12); (k - 1) / 2 filters of three taps have
sqrt((k - 1) / 3). The reason for networks such as RepLKNet (Ding et al. 2022, arXiv:2203.06717).
"""

from __future__ import annotations

import math

import tyro
from chain import Chain, radius_and_interval, text


def main(kernel: int = 31, draws: int = 20) -> None:
    """Prints the radius of one layer of `kernel` taps, and of the 3x3 layers of the same field."""
    for taps, layers in ((kernel, 1), (3, (kernel - 1) // 2)):
        chain = Chain(dilations=[1] * layers, size=kernel, kernel=taps)
        theory = math.sqrt(layers * (taps**2 - 1) / 12)
        found = radius_and_interval(chain, draws)
        print(f"{layers:2d} x {taps}x{taps}, theoretical field {kernel}: {text(found)}, theory "
              f"{theory:.2f}", flush=True)  # fmt: skip


if __name__ == "__main__":
    tyro.cli(main)
