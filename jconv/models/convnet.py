"""A small plain network in the style of VGG: convolution, batch norm, ReLU, pooling, repeated.

References: Simonyan & Zisserman 2014, arXiv:1409.1556; Ioffe & Szegedy 2015, arXiv:1502.03167;
Srivastava et al. 2014, "Dropout".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
from flax import nnx

from jconv import nn


class ConvNet(nnx.Module):
    """Blocks of 3x3 convolution, batch norm, ReLU and max pooling by 2, one for each of `widths`.

    Then dropout and a linear layer: x (N, H, W, C) to logits (N, classes).
    The network to start with on images of a few dozen pixels: 104,426 parameters for 10 classes of
    28x28 pixels and one channel.

    Args:
      widths: channels of each block.
      dropout: probability that a feature is dropped before the linear layer.

    Raises:
      ValueError: no widths, or an input_shape that the poolings leave nothing of.
    """

    def __init__(
        self,
        widths: Sequence[int] = (32, 64, 128),
        dropout: float = 0.2,
        *,
        classes: int = 10,
        input_shape: tuple[int, int, int] = (28, 28, 1),
        dtype: Any = None,
        rngs: nnx.Rngs,
    ):
        height, width, channels = input_shape
        if not widths or min(height, width) < 2 ** len(widths):
            raise ValueError(
                f"convnet: {len(widths)} widths need images of at least {2 ** len(widths)} pixels "
                f"a side; got widths={tuple(widths)}, input_shape (H={height}, W={width}, "
                f"C={channels})"
            )
        convs, norms = [], []
        for features in widths:
            convs.append(
                nn.Conv(channels, features, (3, 3), use_bias=False, dtype=dtype, rngs=rngs)
            )
            norms.append(nn.BatchNorm(features, momentum=0.9, dtype=dtype, rngs=rngs))
            channels = features
        self.convs, self.norms = nnx.List(convs), nnx.List(norms)
        self.pool = nn.MaxPool(2)
        self.flatten = nn.Flatten()
        self.dropout = nn.Dropout(dropout, rngs=rngs)
        left = (height >> len(widths)) * (width >> len(widths))
        self.linear = nn.Linear(left * channels, classes, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits (N, classes)."""
        return self.endpoints(x)["logits"]

    def endpoints(self, x: jax.Array) -> dict[str, jax.Array]:
        """Each block before its pooling, and the features, in order; the last is "logits"."""
        out = {}
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True), 1):
            out[f"block{i}"] = x = nn.relu(norm(conv(x)))
            x = self.pool(x)
        out["features"] = x = self.flatten(x)
        out["logits"] = self.linear(self.dropout(x))
        return out
