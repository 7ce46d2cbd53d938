"""Convolution layers whose taps learn where they lie: each for itself, or by one real dilation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Unpack

import jax
from flax import nnx
from jax.nn.initializers import Initializer

from jconv.nn.arguments import NONE, or_one, parameter, passes_on, value_of
from jconv.nn.convolution import (
    Convolution,
    ConvolutionOptions,
    groups_of,
    one_batch_axis,
    sizes,
)
from jconv.ops.dcls_conv import INTERPOLATIONS, dcls_conv, dilated_positions
from jconv.window import Padding, PerAxis, hashable, per_axis, whole

# Of the papers' code: positions close to the middle, and Gaussians of half a pixel.
position_init = nnx.initializers.normal(0.5)
SIGMAS = {"triangle": 0.0, "gaussian": 0.23}


class _Spaced(Convolution):
    """What both share: one call to `dcls_conv`."""

    window: tuple[int, ...]
    sigma: Any

    def _set_up(self, strides, padding, padding_mode, groups, interpolation, implementation):
        name = type(self).__name__
        if interpolation not in INTERPOLATIONS:
            raise ValueError(
                f"{name}: interpolation must be one of {', '.join(INTERPOLATIONS)}; got "
                f"{interpolation!r}"
            )
        self.strides = per_axis(or_one(strides), len(self.window), "strides", name)
        self.padding = hashable(padding)
        self.padding_mode = padding_mode
        self.feature_group_count = groups
        self.interpolation = interpolation
        self.implementation = implementation

    def _convolved(self, inputs, position, taps):
        name = type(self).__name__
        x, batch = one_batch_axis(name, inputs, len(self.window), self.in_features)
        x, kernel, bias = self._promoted(x)
        y = dcls_conv(
            x, kernel.reshape(taps, *kernel.shape[-2:]), position, bias, value_of(self.sigma),
            window=self.window, interpolation=self.interpolation, stride=self.strides,
            padding=self.padding, groups=self.feature_group_count, padding_mode=self.padding_mode,
            precision=self.precision, implementation=self.implementation,
        )  # fmt: skip
        return y.reshape(*batch, *y.shape[1:])

    def _widths(self, shape, param_dtype, rngs):
        """The parameter sigma, or None for bilinear taps, which have none."""
        used = self.interpolation != "bilinear"
        init = nnx.initializers.constant(SIGMAS.get(self.interpolation, 0.0))
        return parameter(used, init, shape, param_dtype, NONE, rngs)


class DCLSConv(_Spaced):
    """`jconv.dcls_conv` as a layer: (*batch, *spatial, in_features) to (..., out_features).

    Parameters: kernel (taps, in_features / feature_group_count, out_features); position (taps, ...,
    axes), pixels from the middle of the window; sigma, of the same shape, pixels, for "triangle"
    and "gaussian"; bias (out_features,). Positions want a learning rate of their own, some five
    times that of the kernels (Khalfaoui-Hassani et al.), and no weight decay.

    Args:
      window: pixels per axis that the taps may lie in; as many entries as spatial axes (an int is
        one axis). The taps cost what a dense filter of this size costs.
      taps: how many, wherever they lie.
      interpolation: "bilinear" | "triangle" | "gaussian"; see `jconv.ops.dcls_conv`.
      shared_positions: one set of positions for all channels instead of one for each pair.
      strides, padding, padding_mode, feature_group_count, implementation: as in `Conv`.
      position_init: of the positions; the default draws them within about a pixel of the middle.

    Raises:
      ValueError: features that don't divide into groups, an unknown interpolation; when called, an
        input of another rank or number of channels.
    """

    position: nnx.Param[jax.Array]

    @passes_on(Convolution)
    def __init__(
        self,
        in_features: int,
        out_features: int,
        window: int | Sequence[int],
        taps: int,
        strides: PerAxis | None = 1,
        *,
        interpolation: str = "bilinear",
        shared_positions: bool = False,
        padding: Padding = "SAME",
        padding_mode: str = "zeros",
        feature_group_count: int = 1,
        position_init: Initializer = position_init,
        implementation: str | None = None,
        rngs: nnx.Rngs,
        **options: Unpack[ConvolutionOptions],
    ):
        name = "DCLSConv"
        in_features = whole(in_features, "in_features", name)
        out_features = whole(out_features, "out_features", name)
        groups = groups_of(name, in_features, out_features, feature_group_count)
        self.window = sizes(name, window)
        self.taps = whole(taps, "taps", name)
        shape = (self.taps, in_features // groups, out_features)
        super().__init__(in_features, out_features, (), {"kernel": shape}, rngs, **options)
        self._set_up(strides, padding, padding_mode, groups, interpolation, implementation)
        channels = (1, 1) if shared_positions else shape[1:]
        places = (self.taps, *channels, len(self.window))
        self.position = parameter(True, position_init, places, self.param_dtype, NONE, rngs)
        self.sigma = self._widths(places, self.param_dtype, rngs)

    def __call__(self, inputs: jax.Array) -> jax.Array:
        """y (*batch, *output, out_features) from inputs (*batch, *spatial, in_features)."""
        return self._convolved(inputs, self.position[...], self.taps)


class LearnableDilationConv(_Spaced):
    """A convolution whose dilation is real and learned, between inputs and outputs as of `Conv`.

    Parameters: kernel and bias of `Conv`; dilation (axes,), pixels from one tap to the next; sigma
    (1, 1, 1, axes), pixels, for "triangle" and "gaussian".

    The optimum can be bad. The gradient of a dilation is made of those of the taps' positions,
    which see a pixel to each side (bilinear): between images of white noise a dilation of 2 does
    not find its way to 6. Smooth inputs lead it there; so does a Gaussian whose sigma starts wide
    and is *annealed*, not learned: a learned sigma stays wide instead of moving. Set it between
    steps, `layer.sigma[...] = ...`, and keep it out of the optimizer; or start from several
    dilations.

    Args:
      kernel_size: taps per axis, as in `Conv`.
      window: pixels per axis that the taps may lie in: at least 1 + (taps - 1) * the largest
        dilation wanted. The taps cost what a dense filter of this size costs.
      dilation: its first value, one number or one per axis.
      interpolation: "bilinear" | "triangle" | "gaussian"; see `jconv.ops.dcls_conv`.
      strides, padding, padding_mode, feature_group_count, implementation: as in `Conv`.

    Raises:
      ValueError: as `DCLSConv`, or a dilation that is not one number or one per axis.
    """

    dilation: nnx.Param[jax.Array]

    @passes_on(Convolution)
    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: int | Sequence[int],
        window: PerAxis,
        strides: PerAxis | None = 1,
        *,
        dilation: float | Sequence[float] = 1.0,
        interpolation: str = "bilinear",
        padding: Padding = "SAME",
        padding_mode: str = "zeros",
        feature_group_count: int = 1,
        implementation: str | None = None,
        rngs: nnx.Rngs,
        **options: Unpack[ConvolutionOptions],
    ):
        name = "LearnableDilationConv"
        in_features = whole(in_features, "in_features", name)
        out_features = whole(out_features, "out_features", name)
        groups = groups_of(name, in_features, out_features, feature_group_count)
        taps = sizes(name, kernel_size)
        self.window = per_axis(window, len(taps), "window", name)
        shape = (*taps, in_features // groups, out_features)
        super().__init__(in_features, out_features, taps, {"kernel": shape}, rngs, **options)
        self._set_up(strides, padding, padding_mode, groups, interpolation, implementation)
        first = _one_per_axis(dilation, len(taps))
        self.dilation = nnx.Param(jax.numpy.asarray(first, self.param_dtype))
        self.sigma = self._widths((1, 1, 1, len(taps)), self.param_dtype, rngs)

    def __call__(self, inputs: jax.Array) -> jax.Array:
        """y (*batch, *output, out_features) from inputs (*batch, *spatial, in_features)."""
        position = dilated_positions(self.kernel_size, self.dilation[...])
        return self._convolved(inputs, position, math.prod(self.kernel_size))


def _one_per_axis(dilation: Any, axes: int) -> tuple[float, ...]:
    many = dilation if isinstance(dilation, Sequence) else (dilation,) * axes
    if len(many) != axes:
        raise ValueError(
            f"LearnableDilationConv: dilation must be one number, or one for each of {axes} axes; "
            f"got {dilation!r}"
        )
    return tuple(map(float, many))
