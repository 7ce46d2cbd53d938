"""A ResNet-20 that PyTorch users trained on CIFAR-10, in jconv.

    python experiments/cifar10_pretrained.py WEIGHTS.npz --data-dir DIR [--logits LOGITS.npy]

WEIGHTS.npz holds the state dict of `resnet20-12fca82f` of
github.com/akamaster/pytorch_resnet_cifar10 as arrays by name; its author documents 91.73 % on the
test set, with ImageNet's means and deviations.

Claim: 91.73 %, as documented; logits within 1.9e-5 of those that PyTorch gave, of values up to
46. 2 cores of an AMD EPYC, jax 0.12.0.1, jconv 9eb20b5.
"""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
import tyro
from flax import nnx
from tyro.conf import Positional

from jconv import data, models
from jconv.convert import from_pytorch
from jconv.data.augment import normalize

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def main(
    weights: Positional[Path], data_dir: Path | None = None, logits: Path | None = None
) -> None:
    """Prints the accuracy on the test set, and how far the logits lie from stored ones.

    Args:
      weights: the arrays by name, .npz.
      data_dir: where CIFAR-10 lies.
      logits: (10000, 10), of the same images in the same order, .npy.
    """
    model = models.make("resnet20", classes=10, input_shape=(32, 32, 3), rngs=nnx.Rngs(0))
    with np.load(weights, allow_pickle=False) as arrays:
        from_pytorch(model, arrays)
    model.eval()
    test = data.load("cifar10", data_dir=data_dir).test
    apply = jax.jit(lambda images: model(normalize(images, *IMAGENET)))
    batches = data.batches(test, 500, seed=0, epochs=1, shuffle=False)
    found = np.concatenate([np.asarray(apply(batch["image"])) for batch in batches])
    print(f"test accuracy {(found.argmax(-1) == test.labels).mean():.2%} of {len(test):,} images")
    if logits is not None:
        stored = np.load(logits, allow_pickle=False)
        print(
            f"logits: largest difference {np.abs(found - stored).max():.2e}, of values up to "
            f"{np.abs(stored).max():.1f}"
        )


if __name__ == "__main__":
    tyro.cli(main)
