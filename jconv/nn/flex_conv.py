"""Convolution with a filter that is a function of position, and learns its own size (FlexConv)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn.dtypes import promote_dtype as flax_promote_dtype

from jconv.nn.arguments import or_one, parameter, value_of, zeros_init
from jconv.nn.convolution import groups_of, one_batch_axis, sizes
from jconv.ops import conv
from jconv.ops.continuous_kernel import (
    Gabor,
    Linear,
    gaussian_mask,
    magnet,
    mask_extent,
    siren,
    unit_gain,
    window_positions,
)
from jconv.window import Padding, PerAxis, hashable, per_axis, whole

type Shape = tuple[int, ...]


class Siren(nnx.Module):
    """`siren` as a module: positions (..., axes) to (..., out_features).

    Initialised as Sitzmann et al. 2020: the first layer uniform in +-1, scaled by `frequency`; the
    others so that the arguments of the sines have the same spread in every layer.

    Args:
      layers: of sines; a linear one follows.
    """

    def __init__(
        self,
        axes: int,
        out_features: int,
        *,
        hidden: int = 32,
        layers: int = 3,
        frequency: float = 10.0,
        param_dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ):
        self.frequency = hashable(frequency)
        widths = [axes, *[hidden] * layers]
        bounds = [1.0, *[math.sqrt(6 / hidden) / frequency] * (layers - 1)]
        pairs = zip(widths[:-1], widths[1:], bounds, strict=True)
        made = [_linear(n, m, _uniform(bound), param_dtype, rngs) for n, m, bound in pairs]
        last = _linear(hidden, out_features, _fan_in(hidden), param_dtype, rngs)
        self.layers = nnx.List([*made, last])

    def __call__(self, at: jax.Array) -> jax.Array:
        """(..., out_features)."""
        return siren(at, [_of(layer) for layer in self.layers], frequency=self.frequency)


class MAGNet(nnx.Module):
    """`magnet` as a module: positions (..., axes) to (..., out_features).

    Initialised as Romero et al. 2022: the centres of the Gabor functions uniform within `extent` of
    the middle, gamma drawn from Gamma distributions of shape 6 / layer, waves in proportion to it,
    times `frequency`.

    Args:
      layers: of products of Gabor functions, one more than which there are.
    """

    def __init__(
        self,
        axes: int,
        out_features: int,
        *,
        hidden: int = 32,
        layers: int = 3,
        frequency: float = 10.0,
        extent: float = 1.0,
        param_dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ):
        spread = frequency / math.sqrt(layers + 1)
        self.gabors = nnx.List([
            _gabor(axes, hidden, 6 / (i + 1), spread, extent, param_dtype, rngs)
            for i in range(layers + 1)
        ])  # fmt: skip
        inner = [_linear(hidden, hidden, _fan_in(hidden), param_dtype, rngs) for _ in range(layers)]
        last = _linear(hidden, out_features, _fan_in(hidden), param_dtype, rngs)
        self.layers = nnx.List([*inner, last])

    def __call__(self, at: jax.Array) -> jax.Array:
        """(..., out_features)."""
        gabors = [Gabor(*(gabor[name][...] for name in Gabor._fields)) for gabor in self.gabors]
        return magnet(at, gabors, [_of(layer) for layer in self.layers])


NETWORKS: dict[str, Callable[..., Any]] = {"magnet": MAGNet, "siren": Siren}


class FlexConv(nnx.Module):
    """Convolution of x (*batch, *spatial, in_features) by a filter that learns its size.

    The filter (*kernel_size, in_features / feature_group_count, out_features) is a small network's
    values times a Gaussian mask; y is (*batch, *output, out_features). Parameters: those of
    `network`, which are no more for a larger window; mask_width and mask_centre (axes,), in half
    windows: along an axis of R pixels the sigma is mask_width * (R - 1) / 2 pixels; bias.

    Args:
      kernel_size: the largest filter, pixels per axis (an int is one axis).
      network: "magnet" | "siren", or a module of positions (..., axes) to (..., features), with
        features = in_features / feature_group_count * out_features.
      hidden, layers, frequency: of the network; see `MAGNet` and `Siren`.
      mask_width: its first value, in half windows.
      extent: the window that is convolved, pixels per axis, at most kernel_size: the filter is cut
        to its middle. None is all of it; `fit` takes what exceeds a tenth of the mask's height.
      strides, padding, padding_mode, feature_group_count, use_bias, dtype, param_dtype, precision,
        implementation: as in `Conv`; "fft" where filters are large.

    Raises:
      ValueError: features that don't divide into groups, an unknown network, or a mask_width that
        is not positive; when called, an input of another rank or number of channels.
    """

    mask_width: nnx.Param[jax.Array]
    mask_centre: nnx.Param[jax.Array]

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: int | Sequence[int],
        strides: PerAxis | None = 1,
        *,
        network: str | nnx.Module = "magnet",
        hidden: int = 32,
        layers: int = 3,
        frequency: float = 10.0,
        mask_width: float = 0.25,
        extent: PerAxis | None = None,
        padding: Padding = "SAME",
        padding_mode: str = "zeros",
        feature_group_count: int = 1,
        use_bias: bool = True,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        precision: jax.lax.PrecisionLike = None,
        implementation: str | None = None,
        rngs: nnx.Rngs,
    ):
        name = "FlexConv"
        self.in_features = whole(in_features, "in_features", name)
        self.out_features = whole(out_features, "out_features", name)
        self.feature_group_count = groups_of(name, in_features, out_features, feature_group_count)
        self.kernel_size = sizes(name, kernel_size)
        axes = len(self.kernel_size)
        if not mask_width > 0:
            raise ValueError(f"FlexConv: mask_width must be positive; got {mask_width}")
        self.mask_width = nnx.Param(jnp.full(axes, mask_width, param_dtype))
        self.mask_centre = nnx.Param(jnp.zeros(axes, param_dtype))
        self.network = self._network(
            network, axes, hidden=hidden, layers=layers, frequency=frequency,
            param_dtype=param_dtype, rngs=rngs,
        )  # fmt: skip
        shape = (self.out_features,)
        self.bias = parameter(use_bias, zeros_init, shape, param_dtype, {}, rngs)
        self.strides = per_axis(or_one(strides), axes, "strides", name)
        self.extent = None if extent is None else self._checked_extent(extent)
        self.padding = hashable(padding)
        self.padding_mode = padding_mode
        self.dtype = dtype
        self.precision = precision
        self.implementation = implementation

    def __call__(self, inputs: jax.Array) -> jax.Array:
        """y (*batch, *output, out_features) from inputs (*batch, *spatial, in_features)."""
        x, batch = one_batch_axis("FlexConv", inputs, len(self.kernel_size), self.in_features)
        arrays = (x, self.kernel(), value_of(self.bias))
        x, kernel, bias = flax_promote_dtype(arrays, dtype=self.dtype)
        y = conv(
            x, kernel, bias, stride=self.strides, padding=self.padding,
            groups=self.feature_group_count, padding_mode=self.padding_mode,
            precision=self.precision, implementation=self.implementation,
        )  # fmt: skip
        return y.reshape(*batch, *y.shape[1:])

    def kernel(self) -> jax.Array:
        """The filter (*extent, in_features / feature_group_count, out_features)."""
        at = jnp.asarray(self._positions(), self.mask_width[...].dtype)
        mask = gaussian_mask(at, self.mask_width[...], self.mask_centre[...])
        values = self.network(at)
        channels = (self.in_features // self.feature_group_count, self.out_features)
        return (mask[..., None] * values).reshape(*at.shape[:-1], *channels)

    def fit(self, threshold: float = 0.1) -> Shape:
        """Cuts the filter to what of a centred mask exceeds `threshold`; returns its extent.

        Outside of `jit`, between steps: every new extent is a new compilation. A mask that grows
        is cut off by the old extent until then.
        """
        self.extent = mask_extent(self.kernel_size, self.mask_width[...].tolist(), threshold)
        return self.extent

    def _positions(self):
        """Those of `extent` pixels; the output's own one, of "SAME" padding, stays what it was."""
        at = window_positions(self.kernel_size)
        extent = self.kernel_size if self.extent is None else self.extent
        starts = [
            (n - 1) // 2 - (e - 1) // 2 for n, e in zip(self.kernel_size, extent, strict=True)
        ]
        return at[tuple(slice(s, s + e) for s, e in zip(starts, extent, strict=True))]

    def _network(self, network, axes, **options):
        if not isinstance(network, str):
            return network
        if network not in NETWORKS:
            raise ValueError(
                f"FlexConv: network must be one of {', '.join(NETWORKS)}, or a module; got "
                f"{network!r}"
            )
        channels = self.in_features // self.feature_group_count
        made = NETWORKS[network](axes, channels * self.out_features, **options)
        # As strong as a convolution's kernel at the start, whatever the window and the mask.
        last, self.extent, self.network = made.layers[-1], None, made
        gain = unit_gain(self.kernel())
        for value in last.values():
            value[...] = value[...] * gain
        return made

    def _checked_extent(self, extent):
        extent = per_axis(extent, len(self.kernel_size), "extent", "FlexConv")
        if any(e > n for e, n in zip(extent, self.kernel_size, strict=True)):
            raise ValueError(
                f"FlexConv: extent must not exceed kernel_size={self.kernel_size}; got {extent}"
            )
        return extent


def _linear(inputs, outputs, init, dtype, rngs):
    w, b = (nnx.Param(init(rngs.params(), s, dtype)) for s in ((inputs, outputs), (outputs,)))
    return nnx.Dict(w=w, b=b)


def _of(layer):
    return Linear(layer["w"][...], layer["b"][...])


def _uniform(bound):
    return lambda key, shape, dtype: jax.random.uniform(key, shape, dtype, -bound, bound)


def _fan_in(inputs):
    return _uniform(math.sqrt(1 / inputs))


def _gabor(axes, hidden, shape, spread, extent, dtype, rngs):
    gamma = jax.random.gamma(rngs.params(), shape, (hidden, axes), dtype)
    waves = _fan_in(axes)(rngs.params(), (axes, hidden), dtype) * spread * gamma.T
    return nnx.Dict(
        waves=nnx.Param(waves),
        phase=nnx.Param(_uniform(math.pi)(rngs.params(), (hidden,), dtype)),
        mu=nnx.Param(_uniform(extent)(rngs.params(), (hidden, axes), dtype)),
        gamma=nnx.Param(gamma),
    )
