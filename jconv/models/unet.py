"""U-Net: a class for every pixel, from a path that contracts and one that expands.

Reference: Ronneberger, Fischer & Brox 2015, "U-Net: convolutional networks for biomedical image
segmentation", arXiv:1505.04597.
"""

from __future__ import annotations

import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jconv import nn
from jconv.models.resnet_cifar import KAIMING

# Behind a pixel of an up-convolution stands one pixel, and not the 2x2 that the fan-in counts.
KAIMING_UP = nnx.initializers.variance_scaling(4 * 2.0, "fan_in", "normal")


class UNet(nnx.Module):
    """U-Net: x (N, H, W, C) to logits (N, P, Q, classes), of the inner pixels or of all.

    31,030,658 parameters for 1 channel and 2 classes. With the paper's padding="VALID" nothing is
    made up beyond the border: 572x572 gives the 388x388 in the middle, and a large image is cut
    into tiles that overlap. With "SAME" every pixel has its logits.

    Args:
      depth: poolings by 2.
      width: features of the first level; each level below has twice as many.
      padding: "VALID" or "SAME", of the 3x3 convolutions.
      dropout: probability that a feature is dropped at the end of the contracting path, after the
        last two levels; the paper does not give its own.

    Raises:
      ValueError: another padding, depth < 1, or an input_shape (when called, an x) of which a
        pooling meets an odd size or nothing is left; the message names the next size that fits.
    """

    def __init__(
        self,
        depth: int = 4,
        width: int = 64,
        *,
        padding: str = "VALID",
        dropout: float = 0.5,
        classes: int = 2,
        input_shape: tuple[int, int, int] = (572, 572, 1),
        dtype: Any = None,
        rngs: nnx.Rngs,
    ):
        if padding not in ("VALID", "SAME") or depth < 1:
            raise ValueError(
                'unet: padding must be "VALID" or "SAME" and depth at least 1; got '
                f"padding={padding!r}, depth={depth}"
            )
        self.depth, self.padding = depth, padding
        self._check(input_shape)
        widths = [input_shape[-1], *(width << i for i in range(depth + 1))]
        levels = list(itertools.pairwise(widths))
        convs = functools.partial(_convs, padding=padding, dtype=dtype, rngs=rngs)
        up = functools.partial(
            nn.ConvTranspose, kernel_size=(2, 2), strides=2, kernel_init=KAIMING_UP, dtype=dtype,
            rngs=rngs,
        )  # fmt: skip
        self.down = nnx.List([*(convs(*pair) for pair in levels[:-2]), convs(*levels[-2], dropout)])
        self.pool = nn.MaxPool(2)
        self.bottom = convs(*levels[-1], dropout)
        self.up = nnx.List([up(below, level) for level, below in levels[1:]])
        self.merge = nnx.List([convs(below, level) for level, below in levels[1:]])
        self.head = nn.Conv(width, classes, (1, 1), kernel_init=KAIMING, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits (N, P, Q, classes)."""
        return self.endpoints(x)["logits"]

    def endpoints(self, x: jax.Array) -> dict[str, jax.Array]:
        """Each level on the way down and on the way up, in order; the last is "logits"."""
        self._check(x.shape[1:])
        out = {}
        for i, down in enumerate(self.down, 1):
            out[f"down{i}"] = x = down(x)
            x = self.pool(x)
        out["bottom"] = x = self.bottom(x)
        for i in range(self.depth, 0, -1):
            x = self.up[i - 1](x)
            skip = _middle(out[f"down{i}"], *x.shape[1:3])
            out[f"up{i}"] = x = self.merge[i - 1](jnp.concatenate([skip, x], axis=-1))
        out["logits"] = self.head(x)
        return out

    def output_size(self, size: int) -> int:
        """Pixels along an axis of the logits for `size` of the image, 0 where that doesn't fit."""
        lost = 4 if self.padding == "VALID" else 0  # by two 3x3 convolutions
        for _ in range(self.depth):
            size -= lost
            if size < 2 or size % 2:
                return 0
            size //= 2
        size -= lost
        for _ in range(self.depth):
            size = 2 * size - lost
        return max(size, 0)

    def _check(self, shape):
        height, width, channels = shape
        if not (self.output_size(height) and self.output_size(width)):
            next_fit = [
                next(filter(self.output_size, itertools.count(size))) for size in (height, width)
            ]
            raise ValueError(
                f"unet: with padding={self.padding!r} and depth={self.depth}, each 2x2 pooling "
                "must meet an even size and pixels must be left; got images (H="
                f"{height}, W={width}, C={channels}); the next sizes that fit are "
                f"H={next_fit[0]}, W={next_fit[1]}"
            )


def _convs(channels, features, dropout=0.0, *, padding, dtype, rngs):
    """Two 3x3 convolutions, each with a ReLU, and dropout if there is any."""
    conv = functools.partial(
        nn.Conv, out_features=features, kernel_size=(3, 3), padding=padding, kernel_init=KAIMING,
        dtype=dtype, rngs=rngs,
    )  # fmt: skip
    drop = [nn.Dropout(dropout, rngs=rngs)] if dropout else []
    return nn.Sequential(conv(channels), nn.relu, conv(features), nn.relu, *drop)


def _middle(x, height, width):
    top, left = (x.shape[1] - height) // 2, (x.shape[2] - width) // 2
    return x[:, top : top + height, left : left + width]
