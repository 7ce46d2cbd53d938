"""MobileNetV2: inverted residuals, wide inside and thin where they meet.

Reference: Sandler, Howard, Zhu, Zhmoginov & Chen 2018, "MobileNetV2: inverted residuals and linear
bottlenecks", arXiv:1801.04381. Layers are named as in torchvision: `jconv.convert.from_pytorch`
reads its weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
from flax import nnx

from jconv import nn
from jconv.models.resnet import KAIMING_OUT
from jconv.models.resnet_cifar import MOMENTUM
from jconv.ops.norm_arguments import Activation

# The paper's table 2: expansion t, channels c, blocks n, and the strides s of the first of them.
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class InvertedResidual(nnx.Module):
    """1x1 convolution to expansion * C channels, 3x3 depthwise, 1x1 without activation.

    x (N, H, W, C) to (N, H/strides, W/strides, features), with x added where the shapes agree.
    """

    def __init__(
        self,
        channels: int,
        features: int,
        expansion: int,
        strides: int,
        *,
        dtype: Any,
        rngs: nnx.Rngs,
    ):
        wide = expansion * channels
        expand = [] if expansion == 1 else [_conv(channels, wide, 1, dtype=dtype, rngs=rngs)]
        depthwise = _conv(wide, wide, 3, strides, groups=wide, dtype=dtype, rngs=rngs)
        project = _conv(wide, features, 1, act=None, dtype=dtype, rngs=rngs)
        self.conv = nn.Sequential(*expand, depthwise, *project.layers)
        self.adds = strides == 1 and channels == features

    def __call__(self, x: jax.Array) -> jax.Array:
        """The three convolutions, and the shortcut if there is one."""
        return x + self.conv(x) if self.adds else self.conv(x)


class MobileNetV2(nnx.Module):
    """MobileNetV2: x (N, H, W, C), 224x224 in the paper, to logits (N, classes).

    3,504,872 parameters and 300 million multiply-adds for 1000 classes and 224x224x3.

    Args:
      width: multiplies the channels of every layer, rounded to multiples of 8; the 1280 of the last
        convolution grow with it and never shrink.
      stages: rows (expansion, channels, blocks, strides of the first block).
      dropout: probability that a feature is dropped before the linear layer.

    Raises:
      ValueError: a width of 0 or less.
    """

    def __init__(
        self,
        width: float = 1.0,
        *,
        stages: Sequence[tuple[int, int, int, int]] = STAGES,
        dropout: float = 0.2,
        classes: int = 1000,
        input_shape: tuple[int, int, int] = (224, 224, 3),
        dtype: Any = None,
        rngs: nnx.Rngs,
    ):
        if width <= 0:
            raise ValueError(f"mobilenet_v2: width must be above 0; got width={width}")
        channels = multiple_of_8(32 * width)
        layers: list[nnx.Module] = [_conv(input_shape[-1], channels, 3, 2, dtype=dtype, rngs=rngs)]
        names = ["stem"]
        for number, (expansion, base, blocks, first) in enumerate(stages, 1):
            for strides in (first, *[1] * (blocks - 1)):
                features = multiple_of_8(base * width)
                layers.append(
                    InvertedResidual(channels, features, expansion, strides, dtype=dtype, rngs=rngs)
                )
                names.append(f"stage{number}")
                channels = features
        last = multiple_of_8(1280 * max(width, 1.0))
        self.features = nnx.List([*layers, _conv(channels, last, 1, dtype=dtype, rngs=rngs)])
        self.names = (*names, "last")
        self.pool = nn.GlobalAvgPool()
        self.classifier = nn.Sequential(
            nn.Dropout(dropout, rngs=rngs),
            nn.Linear(
                last, classes, kernel_init=nnx.initializers.normal(0.01), dtype=dtype, rngs=rngs
            ),
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits (N, classes)."""
        return self.endpoints(x)["logits"]

    def endpoints(self, x: jax.Array) -> dict[str, jax.Array]:
        """The output of the stem, each stage (a row of the paper's table), the last convolution
        and the pooling, in order; the last is "logits"."""
        out = {}
        for name, layer in zip(self.names, self.features, strict=True):
            out[name] = x = layer(x)
        out["pooled"] = x = self.pool(x)
        out["logits"] = self.classifier(x)
        return out


def multiple_of_8(channels: float) -> int:
    """The nearest multiple of 8, at least 8, and the next one where that loses more than a tenth.

    As in the authors' code: hardware is made for such sizes.
    """
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def _conv(
    channels, features, size, strides=1, *, groups=1, act: Activation | None = "relu6", dtype, rngs
):
    """Convolution, batch norm, activation."""
    conv = nn.Conv(
        channels, features, (size, size), strides, padding=size // 2, feature_group_count=groups,
        use_bias=False, kernel_init=KAIMING_OUT, dtype=dtype, rngs=rngs,
    )  # fmt: skip
    norm = nn.BatchNorm(features, momentum=MOMENTUM, activation=act, dtype=dtype, rngs=rngs)
    return nn.Sequential(conv, norm)
