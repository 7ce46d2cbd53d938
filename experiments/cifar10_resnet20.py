"""ResNet-20 on CIFAR-10 in half an hour of two CPU cores.

    python experiments/cifar10_resnet20.py --data-dir DIR

Claim: to be measured.
"""

from __future__ import annotations

import tyro

from jconv.runs import TrainConfig, train


def main(
    data_dir: str | None = None, epochs: int = 6, seed: int = 0, run_dir: str | None = None
) -> None:
    """Trains for a few epochs with a one-cycle learning rate and prints the test accuracy.

    Args:
      epochs: the paper takes 164; 6 fit into half an hour here.
    """
    config = TrainConfig("cifar10", data_dir=data_dir, epochs=epochs, seed=seed, run_dir=run_dir)
    result = train(config)
    print(f"test accuracy {result.test.accuracy:.2%} in {result.seconds:.0f} s; {result.report}")


if __name__ == "__main__":
    tyro.cli(main)
