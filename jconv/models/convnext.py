"""ConvNeXt: a convolutional network with the layout of a transformer.

Reference: Liu, Mao, Wu, Feichtenhofer, Darrell & Xie 2022, "A ConvNet for the 2020s",
arXiv:2201.03545; layer scale is Touvron et al. 2021, arXiv:2103.17239, stochastic depth Huang et
al. 2016, arXiv:1603.09382. Layers are named as in the authors' code: `jconv.convert.from_pytorch`
reads their weights.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jconv import nn

# The authors cut the tails off at +-2, a hundred standard deviations: that cuts nothing off.
NORMAL = nnx.initializers.normal(0.02)
EPSILON = 1e-6  # of the layer norms, the authors' (PyTorch's own is 1e-5)


class Block(nnx.Module):
    """x + gamma * mlp(norm(7x7 depthwise convolution of x)): (N, H, W, C) to (N, H, W, C).

    gamma (C,) starts at `layer_scale`; in training the sum is x alone with probability `drop`.
    """

    def __init__(
        self, channels: int, drop: float, layer_scale: float, *, dtype: Any, rngs: nnx.Rngs
    ):
        linear = functools.partial(
            nn.Linear, kernel_init=NORMAL, dot_general=nn.pointwise_dot, dtype=dtype, rngs=rngs
        )
        self.dwconv = nn.Conv(
            channels, channels, (7, 7), feature_group_count=channels, kernel_init=NORMAL,
            dtype=dtype, rngs=rngs,
        )  # fmt: skip
        self.norm = nn.LayerNorm(channels, epsilon=EPSILON, dtype=dtype, rngs=rngs)
        self.pwconv1 = linear(channels, 4 * channels)
        self.pwconv2 = linear(4 * channels, channels)
        self.gamma = nnx.Param(jnp.full((channels,), layer_scale, jnp.float32))
        self.drop_path = nn.StochasticDepth(drop, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """x and the residual branch."""
        y = self.pwconv1(self.norm(self.dwconv(x)))
        y = self.pwconv2(nn.gelu(y, approximate=False))
        return x + self.drop_path(y * self.gamma[...].astype(y.dtype))


class ConvNeXt(nnx.Module):
    """ConvNeXt of any size: x (N, H, W, C), 224x224 in the paper, to logits (N, classes).

    The paper's are `convnext_tiny`, `convnext_small`, `convnext_base` and `convnext_large`.
    Parameters for 1000 classes and 3 channels: tiny 28,589,128; small 50,223,688; base 88,591,464;
    large 197,767,336.

    Args:
      depths: blocks of each stage.
      widths: channels of each stage.
      stochastic_depth: probability that the last block is skipped in training; it rises from 0 at
        the first block.
      layer_scale: what the factors of the residual branches start at.

    Raises:
      ValueError: depths and widths of different number, or an input_shape that the strides, 4 and
        then 2 from stage to stage, leave nothing of.
    """

    def __init__(
        self,
        depths: Sequence[int],
        widths: Sequence[int],
        *,
        stochastic_depth: float = 0.0,
        layer_scale: float = 1e-6,
        classes: int = 1000,
        input_shape: tuple[int, int, int] = (224, 224, 3),
        dtype: Any = None,
        rngs: nnx.Rngs,
    ):
        _check(depths, widths, input_shape)
        norm = functools.partial(nn.LayerNorm, epsilon=EPSILON, dtype=dtype, rngs=rngs)
        conv = functools.partial(
            nn.Conv, padding="VALID", kernel_init=NORMAL, dtype=dtype, rngs=rngs
        )
        rise = stochastic_depth / max(sum(depths) - 1, 1)
        stem = nn.Sequential(conv(input_shape[-1], widths[0], (4, 4), 4), norm(widths[0]))
        downsample, stages = [stem], []
        for i, (depth, width) in enumerate(zip(depths, widths, strict=True)):
            if i > 0:
                before = widths[i - 1]
                downsample.append(nn.Sequential(norm(before), conv(before, width, (2, 2), 2)))
            first = sum(depths[:i])
            blocks = (
                Block(width, rise * j, layer_scale, dtype=dtype, rngs=rngs)
                for j in range(first, first + depth)
            )
            stages.append(nn.Sequential(*blocks))
        self.downsample_layers, self.stages = nnx.List(downsample), nnx.List(stages)
        self.pool = nn.GlobalAvgPool()
        self.norm = norm(widths[-1])
        self.head = nn.Linear(widths[-1], classes, kernel_init=NORMAL, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits (N, classes)."""
        return self.endpoints(x)["logits"]

    def endpoints(self, x: jax.Array) -> dict[str, jax.Array]:
        """The output of the stem, each stage and the pooling (normalised), in order; the last is
        "logits"."""
        out = {}
        for i, (downsample, stage) in enumerate(
            zip(self.downsample_layers, self.stages, strict=True), 1
        ):
            x = downsample(x)
            if i == 1:
                out["stem"] = x
            out[f"stage{i}"] = x = stage(x)
        out["pooled"] = x = self.norm(self.pool(x))
        out["logits"] = self.head(x)
        return out


def _check(depths, widths, input_shape):
    if not depths or len(depths) != len(widths):
        raise ValueError(
            "convnext: depths and widths must have one entry per stage; got "
            f"depths={tuple(depths)}, widths={tuple(widths)}"
        )
    height, width, channels = input_shape
    if min(height, width) < (least := 2 ** (len(depths) + 1)):
        raise ValueError(
            f"convnext: {len(depths)} stages need images of at least {least} pixels a side; got "
            f"input_shape (H={height}, W={width}, C={channels})"
        )


# Sizes from section 3 of the paper, stochastic depth from its table 5.
convnext_tiny = functools.partial(ConvNeXt, (3, 3, 9, 3), (96, 192, 384, 768), stochastic_depth=0.1)
convnext_small = functools.partial(
    ConvNeXt, (3, 3, 27, 3), (96, 192, 384, 768), stochastic_depth=0.4
)
convnext_base = functools.partial(
    ConvNeXt, (3, 3, 27, 3), (128, 256, 512, 1024), stochastic_depth=0.5
)
convnext_large = functools.partial(
    ConvNeXt, (3, 3, 27, 3), (192, 384, 768, 1536), stochastic_depth=0.5
)
