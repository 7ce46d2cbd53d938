"""LeNet-5, and the small network that lectures draw after it.

Reference: LeCun, Bottou, Bengio & Haffner 1998, "Gradient-based learning applied to document
recognition".
"""

from __future__ import annotations

from typing import Any

import jax
from flax import nnx

from jconv import nn


class LeNet5(nnx.Module):
    """LeNet-5 for x (N, H, W, C), 32x32 in the paper (28x28 is padded to it): logits (N, classes).

    As everybody draws it today, 61,706 parameters for 10 classes and one channel: C3 sees all maps
    of S2 (the paper's table leaves some out), subsampling is a plain mean (the paper scales and
    shifts it), and the output is linear (the paper's are Euclidean distances to drawn characters).

    Raises:
      ValueError: an input_shape too small for two 5x5 convolutions, each halved.
    """

    def __init__(
        self,
        *,
        classes: int = 10,
        input_shape: tuple[int, int, int] = (32, 32, 1),
        dtype: Any = None,
        rngs: nnx.Rngs,
    ):
        height, width, channels = input_shape
        padding = "VALID" if min(height, width) >= 32 else 2
        self.c1 = nn.Conv(channels, 6, (5, 5), padding=padding, dtype=dtype, rngs=rngs)
        self.s2 = nn.AvgPool(2)
        self.c3 = nn.Conv(6, 16, (5, 5), padding="VALID", dtype=dtype, rngs=rngs)
        self.s4 = nn.AvgPool(2)
        grow = 0 if padding == "VALID" else 4
        left = [((n + grow - 4) // 2 - 4) // 2 for n in (height, width)]
        if min(left) < 1:
            raise ValueError(
                "lenet5: input_shape must be at least 12x12 pixels for two 5x5 convolutions, "
                f"each halved; got input_shape (H={height}, W={width}, C={channels})"
            )
        self.flatten = nn.Flatten()
        self.c5 = nn.Linear(16 * left[0] * left[1], 120, dtype=dtype, rngs=rngs)
        self.f6 = nn.Linear(120, 84, dtype=dtype, rngs=rngs)
        self.output = nn.Linear(84, classes, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits (N, classes)."""
        return self.endpoints(x)["logits"]

    def endpoints(self, x: jax.Array) -> dict[str, jax.Array]:
        """The maps of every layer, named as in the paper, in order; the last is "logits"."""
        out = {}
        out["C1"] = x = nn.tanh(self.c1(x))
        out["S2"] = x = self.s2(x)
        out["C3"] = x = nn.tanh(self.c3(x))
        out["S4"] = x = self.s4(x)
        out["C5"] = x = nn.tanh(self.c5(self.flatten(x)))
        out["F6"] = x = nn.tanh(self.f6(x))
        out["logits"] = self.output(x)
        return out


class SimpleCNN(nnx.Module):
    """The lecture network for x (N, H, W, C), 28x28 in the lecture: logits (N, classes).

    Convolutions 1-6-16 that keep the size, ReLU, max pooling by 2 after each, then dense layers
    120-84-classes.

    Raises:
      ValueError: an input_shape smaller than 4x4, of which two poolings leave nothing.
    """

    def __init__(
        self,
        *,
        classes: int = 10,
        input_shape: tuple[int, int, int] = (28, 28, 1),
        dtype: Any = None,
        rngs: nnx.Rngs,
    ):
        height, width, channels = input_shape
        if min(height, width) < 4:
            raise ValueError(
                "simple_cnn: input_shape must be at least 4x4 pixels for two poolings by 2; got "
                f"input_shape (H={height}, W={width}, C={channels})"
            )
        self.conv1 = nn.Conv(channels, 6, (3, 3), dtype=dtype, rngs=rngs)
        self.conv2 = nn.Conv(6, 16, (3, 3), dtype=dtype, rngs=rngs)
        self.pool = nn.MaxPool(2)
        self.flatten = nn.Flatten()
        self.fc1 = nn.Linear(16 * (height // 4) * (width // 4), 120, dtype=dtype, rngs=rngs)
        self.fc2 = nn.Linear(120, 84, dtype=dtype, rngs=rngs)
        self.fc3 = nn.Linear(84, classes, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits (N, classes)."""
        return self.endpoints(x)["logits"]

    def endpoints(self, x: jax.Array) -> dict[str, jax.Array]:
        """The output of every layer, in order; the last is "logits"."""
        out = {}
        out["conv1"] = x = nn.relu(self.conv1(x))
        out["pool1"] = x = self.pool(x)
        out["conv2"] = x = nn.relu(self.conv2(x))
        out["pool2"] = x = self.pool(x)
        out["fc1"] = x = nn.relu(self.fc1(self.flatten(x)))
        out["fc2"] = x = nn.relu(self.fc2(x))
        out["logits"] = self.fc3(x)
        return out
