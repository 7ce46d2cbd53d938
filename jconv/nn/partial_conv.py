"""Partial convolution layer: an image and its mask in, an image and its mask out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

import jax
from flax import nnx

from jconv.nn.arguments import or_one, passes_on
from jconv.nn.convolution import Convolution, ConvolutionOptions, groups_of, sizes
from jconv.ops.partial_conv import partial_conv
from jconv.window import Padding, PerAxis, hashable, per_axis


class PartialConv(Convolution):
    """`jconv.partial_conv` with parameters kernel and bias, those of `Conv`.

    Arguments are those of `Conv`.

    Raises:
      ValueError: features that don't divide into groups; when called, inputs or a mask of another
        shape.

    Reference: Liu et al. 2018, arXiv:1804.07723.
    """

    @passes_on(Convolution)
    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: int | Sequence[int],
        strides: PerAxis | None = 1,
        *,
        padding: Padding = "SAME",
        kernel_dilation: PerAxis | None = 1,
        feature_group_count: int = 1,
        implementation: str | None = None,
        rngs: nnx.Rngs,
        **options: Unpack[ConvolutionOptions],
    ):
        name = "PartialConv"
        taps = sizes(name, kernel_size)
        groups = groups_of(name, in_features, out_features, feature_group_count)
        shape = (*taps, in_features // groups, out_features)
        super().__init__(in_features, out_features, taps, {"kernel": shape}, rngs, **options)
        self.strides = per_axis(or_one(strides), len(taps), "strides", name)
        self.padding = hashable(padding)
        self.kernel_dilation = per_axis(or_one(kernel_dilation), len(taps), "kernel_dilation", name)
        self.feature_group_count = groups
        self.implementation = implementation

    def __call__(self, inputs: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
        """(y, updated mask) from inputs (N, *spatial, in_features) and their mask."""
        x, kernel, bias = self._promoted(inputs)
        return partial_conv(
            x, mask, kernel, bias, stride=self.strides, padding=self.padding,
            dilation=self.kernel_dilation, groups=self.feature_group_count,
            precision=self.precision, implementation=self.implementation,
        )  # fmt: skip
