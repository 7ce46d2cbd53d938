"""Residual networks for small images: 6n + 2 layers in three stages of 16, 32 and 64 channels.

Reference: He, Zhang, Ren & Sun 2015, "Deep residual learning for image recognition", section 4.2,
arXiv:1512.03385. Shortcuts are the paper's option A: where a stage halves the image, every other
pixel, with zeros for the new channels; they have no parameters.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jconv import nn

MOMENTUM = 0.9  # of the running statistics: the paper's Caffe and PyTorch both move them by a tenth
KAIMING = nnx.initializers.variance_scaling(2.0, "fan_in", "normal")  # He et al. 2015, 1502.01852


class BasicBlock(nnx.Module):
    """Two 3x3 convolutions and a shortcut: (N, H, W, C) to (N, H/strides, W/strides, features)."""

    def __init__(self, channels: int, features: int, strides: int, *, dtype: Any, rngs: nnx.Rngs):
        self.strides, self.extra = strides, features - channels
        self.conv1 = _conv3x3(channels, features, strides, dtype, rngs)
        self.bn1 = nn.BatchNorm(features, momentum=MOMENTUM, dtype=dtype, rngs=rngs)
        self.conv2 = _conv3x3(features, features, 1, dtype, rngs)
        self.bn2 = nn.BatchNorm(features, momentum=MOMENTUM, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """relu(shortcut(x) + residual(x))."""
        y = nn.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return nn.relu(y + self._shortcut(x))

    def _shortcut(self, x):
        x = x[:, :: self.strides, :: self.strides]
        return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (self.extra // 2, self.extra - self.extra // 2)))


class ResNetCifar(nnx.Module):
    """ResNet of `depth` = 6n + 2 layers: x (N, H, W, C), 32x32 in the paper, to (N, classes).

    Parameters for 10 classes and 3 channels: depth 20 269,722; 32 464,154; 44 658,586; 56 853,018;
    110 1,727,962.

    Raises:
      ValueError: a depth that is not 6n + 2.
    """

    def __init__(
        self,
        depth: int,
        *,
        classes: int = 10,
        input_shape: tuple[int, int, int] = (32, 32, 3),
        dtype: Any = None,
        rngs: nnx.Rngs,
    ):
        if depth < 8 or (depth - 2) % 6:
            raise ValueError(
                f"resnet: depth must be 6n + 2, such as 20, 32 or 110; got depth={depth}"
            )
        self.conv1 = _conv3x3(input_shape[-1], 16, 1, dtype, rngs)
        self.bn1 = nn.BatchNorm(16, momentum=MOMENTUM, dtype=dtype, rngs=rngs)
        self.layer1 = _stage(16, 16, 1, (depth - 2) // 6, dtype, rngs)
        self.layer2 = _stage(16, 32, 2, (depth - 2) // 6, dtype, rngs)
        self.layer3 = _stage(32, 64, 2, (depth - 2) // 6, dtype, rngs)
        self.pool = nn.GlobalAvgPool()
        self.linear = nn.Linear(64, classes, kernel_init=KAIMING, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits (N, classes)."""
        return self.endpoints(x)["logits"]

    def endpoints(self, x: jax.Array) -> dict[str, jax.Array]:
        """The output of the stem, each stage and the pooling, in order; the last is "logits"."""
        out = {}
        out["conv1"] = x = nn.relu(self.bn1(self.conv1(x)))
        out["layer1"] = x = self.layer1(x)
        out["layer2"] = x = self.layer2(x)
        out["layer3"] = x = self.layer3(x)
        out["pooled"] = x = self.pool(x)
        out["logits"] = self.linear(x)
        return out


def _stage(channels, features, strides, blocks, dtype, rngs):
    first = BasicBlock(channels, features, strides, dtype=dtype, rngs=rngs)
    rest = (BasicBlock(features, features, 1, dtype=dtype, rngs=rngs) for _ in range(blocks - 1))
    return nn.Sequential(first, *rest)


def _conv3x3(channels, features, strides, dtype, rngs):
    # Padding 1 rather than "SAME": with stride 2 on an even image SAME pads at the end alone.
    return nn.Conv(
        channels, features, (3, 3), strides, padding=1, use_bias=False, kernel_init=KAIMING,
        dtype=dtype, rngs=rngs,
    )  # fmt: skip
