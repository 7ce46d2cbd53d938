"""Residual networks for photographs: ResNet-18, -34, -50, -101 and -152.

Reference: He, Zhang, Ren & Sun 2015, "Deep residual learning for image recognition", table 1,
arXiv:1512.03385. Shortcuts are the paper's option B: a strided 1x1 convolution where the shape
changes. A bottleneck that halves the image does so in its 3x3 convolution, as in torchvision
("v1.5"), where the first 1x1 convolution would never read three pixels of four; the paper's
placement is an argument. Layers are named as in torchvision: `jconv.convert.from_pytorch` reads
its weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
from flax import nnx
from jax.nn.initializers import ones, zeros

from jconv import nn
from jconv.models.resnet_cifar import MOMENTUM
from jconv.ops.norm_arguments import Activation

DEPTHS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
# He et al. 2015, arXiv:1502.01852, equation 14, which keeps the size of gradients.
KAIMING_OUT = nnx.initializers.variance_scaling(2.0, "fan_out", "normal")
# PyTorch's for linear layers: uniform within 1 / sqrt(fan_in). Biases start at 0.
UNIFORM = nnx.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


class _Block(nnx.Module):
    """relu(shortcut(x) + residual(x)): (N, H, W, C) to (N, H/strides, W/strides, features)."""

    downsample: nn.Sequential | None

    def __call__(self, x: jax.Array) -> jax.Array:
        """The sum of both branches, rectified."""
        shortcut = x if self.downsample is None else self.downsample(x)
        return nn.relu(self.residual(x) + shortcut)

    def residual(self, x: jax.Array) -> jax.Array:
        """What is added to the shortcut."""
        raise NotImplementedError


class BasicBlock(_Block):
    """Two 3x3 convolutions of `width` features, the first with strides."""

    expansion = 1

    def __init__(self, channels: int, width: int, strides: int, *, make: _Make):
        self.conv1 = make.conv(channels, width, 3, strides)
        self.bn1 = make.norm(width, activation="relu")
        self.conv2 = make.conv(width, width, 3)
        self.bn2 = make.norm(width, last=True)
        self.downsample = make.shortcut(channels, width, strides)

    def residual(self, x: jax.Array) -> jax.Array:
        """x through both convolutions."""
        return self.bn2(self.conv2(self.bn1(self.conv1(x))))


class Bottleneck(_Block):
    """1x1, 3x3 and 1x1 convolution of width, width and 4 * width features, one with strides."""

    expansion = 4

    def __init__(self, channels: int, width: int, strides: int, *, make: _Make):
        first, second = (strides, 1) if make.bottleneck_stride == "1x1" else (1, strides)
        self.conv1 = make.conv(channels, width, 1, first)
        self.bn1 = make.norm(width, activation="relu")
        self.conv2 = make.conv(width, width, 3, second)
        self.bn2 = make.norm(width, activation="relu")
        self.conv3 = make.conv(width, 4 * width, 1)
        self.bn3 = make.norm(4 * width, last=True)
        self.downsample = make.shortcut(channels, 4 * width, strides)

    def residual(self, x: jax.Array) -> jax.Array:
        """x through the three convolutions."""
        x = self.bn1(self.conv1(x))
        return self.bn3(self.conv3(self.bn2(self.conv2(x))))


class ResNet(nnx.Module):
    """ResNet of `depth` layers: x (N, H, W, C), 224x224 in the paper, to logits (N, classes).

    Parameters for 1000 classes and 3 channels: depth 18 11,689,512; 34 21,797,672; 50 25,557,032;
    101 44,549,160; 152 60,192,808.

    Args:
      depth: 18 and 34 are made of basic blocks, 50, 101 and 152 of bottlenecks.
      width: channels of the stem and of the first stage's 3x3 convolutions; 64 in the paper.
      stem: "imagenet": a 7x7 convolution and a max pooling, which leave a quarter of H and W;
        "small": one 3x3 convolution and no pooling, for images of a few dozen pixels.
      bottleneck_stride: the convolution that halves the image: "3x3", or "1x1" as in the paper.
      zero_init_residual: the last scale of each block starts at 0, so each block at its shortcut
        (Goyal et al. 2017, arXiv:1706.02677).

    Raises:
      ValueError: another depth, stem or bottleneck_stride.
    """

    def __init__(
        self,
        depth: int = 50,
        width: int = 64,
        *,
        stem: str = "imagenet",
        bottleneck_stride: str = "3x3",
        zero_init_residual: bool = False,
        classes: int = 1000,
        input_shape: tuple[int, int, int] = (224, 224, 3),
        dtype: Any = None,
        rngs: nnx.Rngs,
    ):
        _check(depth, stem, bottleneck_stride)
        block = BasicBlock if depth < 50 else Bottleneck
        make = _Make(bottleneck_stride, zero_init_residual, dtype, rngs)
        size, strides = (7, 2) if stem == "imagenet" else (3, 1)
        self.conv1 = make.conv(input_shape[-1], width, size, strides)
        self.bn1 = make.norm(width, activation="relu")
        self.maxpool = nn.MaxPool(3, 2, padding=1) if stem == "imagenet" else None
        self.layer1, self.layer2, self.layer3, self.layer4 = make.stages(
            block, width, DEPTHS[depth]
        )
        self.pool = nn.GlobalAvgPool()
        self.fc = nn.Linear(
            8 * width * block.expansion, classes, kernel_init=UNIFORM, dtype=dtype, rngs=rngs
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits (N, classes)."""
        return self.endpoints(x)["logits"]

    def endpoints(self, x: jax.Array) -> dict[str, jax.Array]:
        """The output of the first convolution, each stage and the pooling; the last is "logits"."""
        out = {}
        out["conv1"] = x = self.bn1(self.conv1(x))
        out["layer1"] = x = self.layer1(x if self.maxpool is None else self.maxpool(x))
        out["layer2"] = x = self.layer2(x)
        out["layer3"] = x = self.layer3(x)
        out["layer4"] = x = self.layer4(x)
        out["pooled"] = x = self.pool(x)
        out["logits"] = self.fc(x)
        return out


class _Make(NamedTuple):
    """Makes layers with what those of one network share."""

    bottleneck_stride: str
    zero_init_residual: bool
    dtype: Any
    rngs: nnx.Rngs

    def conv(self, channels: int, features: int, size: int, strides: int = 1) -> nn.Conv:
        # Padding on both sides: with stride 2 on an even image "SAME" pads at the end alone.
        return nn.Conv(
            channels, features, (size, size), strides, padding=size // 2, use_bias=False,
            kernel_init=KAIMING_OUT, dtype=self.dtype, rngs=self.rngs,
        )  # fmt: skip

    def norm(
        self, features: int, *, activation: Activation | None = None, last: bool = False
    ) -> nn.BatchNorm:
        init = zeros if last and self.zero_init_residual else ones
        return nn.BatchNorm(
            features, momentum=MOMENTUM, scale_init=init, activation=activation, dtype=self.dtype,
            rngs=self.rngs,
        )  # fmt: skip

    def shortcut(self, channels: int, features: int, strides: int) -> nn.Sequential | None:
        if strides == 1 and channels == features:
            return None
        return nn.Sequential(self.conv(channels, features, 1, strides), self.norm(features))

    def stages(
        self, block: type[BasicBlock | Bottleneck], width: int, depths: Sequence[int]
    ) -> Iterator[nn.Sequential]:
        channels = width
        for i, blocks in enumerate(depths):
            stage = []
            for j in range(blocks):
                strides = 2 if i > 0 and j == 0 else 1
                stage.append(block(channels, width << i, strides, make=self))
                channels = (width << i) * block.expansion
            yield nn.Sequential(*stage)


def _check(depth, stem, bottleneck_stride):
    for name, value, known in (
        ("depth", depth, tuple(DEPTHS)),
        ("stem", stem, ("imagenet", "small")),
        ("bottleneck_stride", bottleneck_stride, ("3x3", "1x1")),
    ):
        if value not in known:
            raise ValueError(f"resnet: {name} must be one of {known}; got {name}={value!r}")
