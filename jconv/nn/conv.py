"""Convolution layers: parameters, and one call to `jconv.ops.conv`.

Constructor arguments, parameter names, shapes and initialisers are those of `flax.nnx`, so a
checkpoint of one loads into the other, and swapping the import swaps the core.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

import jax
from flax import nnx

from jconv.nn.arguments import or_one, passes_on
from jconv.nn.convolution import (
    FLAX_MODES,
    Convolution,
    ConvolutionOptions,
    checked_mask,
    groups_of,
    one_batch_axis,
    sizes,
)
from jconv.ops import conv
from jconv.ops.pad import wrap
from jconv.window import Padding, PerAxis, centred, hashable, per_axis, transposed_pads, whole


class Conv(Convolution):
    """Convolution of x (*batch, *spatial, in_features): y (*batch, *output, out_features).

    Parameters: kernel (*kernel_size, in_features / feature_group_count, out_features), bias
    (out_features,). Arguments are those of `flax.nnx.Conv`, and:

    Args:
      kernel_size: taps per axis; as many entries as there are spatial axes (an int is one axis, as
        in Flax).
      padding: what `jconv.conv` takes, and Flax's "CIRCULAR" and "REFLECT". "CAUSAL" works on any
        number of axes.
      padding_mode: "zeros" | "reflect" | "replicate" | "circular": what the padding holds.
      implementation: which code runs, as in `jconv.conv`.

    Raises:
      ValueError: features that don't divide into groups, a mask of another shape; when called, an
        input of another rank or number of channels, or what `jconv.conv` refuses.
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
        padding_mode: str = "zeros",
        input_dilation: PerAxis | None = 1,
        kernel_dilation: PerAxis | None = 1,
        feature_group_count: int = 1,
        mask: jax.Array | None = None,
        preferred_element_type: Any = None,
        implementation: str | None = None,
        rngs: nnx.Rngs,
        **options: Unpack[ConvolutionOptions],
    ):
        padding = hashable(padding)
        if padding_mode != "zeros" and padding in FLAX_MODES:
            raise ValueError(
                f"Conv: padding={padding!r} is a padding_mode of its own; got "
                f"padding_mode={padding_mode!r} beside it"
            )
        in_features = whole(in_features, "in_features", "Conv")
        out_features = whole(out_features, "out_features", "Conv")
        groups = groups_of("Conv", in_features, out_features, feature_group_count)
        taps = sizes("Conv", kernel_size)
        axes = len(taps)
        shape = (*taps, in_features // groups, out_features)
        self.mask = nnx.data(checked_mask("Conv", mask, shape))
        super().__init__(in_features, out_features, taps, {"kernel": shape}, rngs, **options)
        self.strides = per_axis(or_one(strides), axes, "strides", "Conv")
        self.padding = padding
        self.padding_mode = padding_mode
        self.input_dilation = per_axis(or_one(input_dilation), axes, "input_dilation", "Conv")
        self.kernel_dilation = per_axis(or_one(kernel_dilation), axes, "kernel_dilation", "Conv")
        self.feature_group_count = groups
        self.preferred_element_type = preferred_element_type
        self.implementation = implementation

    def __call__(self, inputs: jax.Array) -> jax.Array:
        """y (*batch, *output, out_features) from inputs (*batch, *spatial, in_features)."""
        x, batch = one_batch_axis("Conv", inputs, len(self.kernel_size), self.in_features)
        x, kernel, bias = self._promoted(x, self.mask)
        padding, mode = self._padding()
        y = conv(
            x, kernel, bias, stride=self.strides, padding=padding, padding_mode=mode,
            dilation=self.kernel_dilation, input_dilation=self.input_dilation,
            groups=self.feature_group_count, precision=self.precision,
            preferred_element_type=self.preferred_element_type, implementation=self.implementation,
        )  # fmt: skip
        return y.reshape(*batch, *y.shape[1:])

    def _padding(self) -> tuple[Padding, str]:
        """Flax's words for a mode stand for padding that is half the kernel on each side."""
        if isinstance(self.padding, str) and (mode := FLAX_MODES.get(self.padding)):
            return centred(self.kernel_size, self.kernel_dilation), mode
        return self.padding, self.padding_mode


class ConvTranspose(Convolution):
    """Transposed convolution: (*batch, *spatial, in_features) to (*batch, *output, out_features).

    As `flax.nnx.ConvTranspose`: parameters kernel (*kernel_size, in_features, out_features), or
    (*kernel_size, out_features, in_features) with transpose_kernel, and bias (out_features,).

    Args:
      padding: "SAME" gives spatial * strides pixels; "VALID" (spatial - 1) * strides +
        max(extent, strides); "CAUSAL" spatial * strides. An int or pairs pad the input *between
        whose pixels strides - 1 zeros stand*, as in Flax; PyTorch's padding p is extent - 1 - p
        here. "CIRCULAR" gives spatial * strides pixels of a periodic image. For PyTorch's own see
        `jconv.conv_transpose`.
      transpose_kernel: flips the kernel in space and swaps its channel axes: the exact adjoint of a
        `Conv` with this kernel.
      implementation: which code runs, as in `jconv.conv`.

    Raises:
      ValueError: a mask of another shape; when called, an input of another rank or number of
        channels.
    """

    @passes_on(Convolution)
    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: int | Sequence[int],
        strides: PerAxis | None = None,
        *,
        padding: Padding = "SAME",
        kernel_dilation: PerAxis | None = None,
        mask: jax.Array | None = None,
        transpose_kernel: bool = False,
        preferred_element_type: Any = None,
        implementation: str | None = None,
        rngs: nnx.Rngs,
        **options: Unpack[ConvolutionOptions],
    ):
        name = "ConvTranspose"
        in_features = whole(in_features, "in_features", name)
        out_features = whole(out_features, "out_features", name)
        taps = sizes(name, kernel_size)
        channels = (out_features, in_features) if transpose_kernel else (in_features, out_features)
        shape = (*taps, *channels)
        self.mask = nnx.data(checked_mask(name, mask, shape))
        super().__init__(in_features, out_features, taps, {"kernel": shape}, rngs, **options)
        self.strides = per_axis(or_one(strides), len(taps), "strides", name)
        self.padding = hashable(padding)
        self.kernel_dilation = per_axis(or_one(kernel_dilation), len(taps), "kernel_dilation", name)
        self.transpose_kernel = transpose_kernel
        self.preferred_element_type = preferred_element_type
        self.implementation = implementation

    def __call__(self, inputs: jax.Array) -> jax.Array:
        """y (*batch, *output, out_features) from inputs (*batch, *spatial, in_features)."""
        axes = len(self.kernel_size)
        x, batch = one_batch_axis("ConvTranspose", inputs, axes, self.in_features)
        x, kernel, bias = self._promoted(x, self.mask)
        padding = "VALID" if self.padding == "CIRCULAR" else self.padding
        pads = transposed_pads(
            padding, self.kernel_size, self.strides, self.kernel_dilation, "ConvTranspose"
        )
        y = conv(
            x, kernel.swapaxes(-1, -2) if self.transpose_kernel else kernel,
            None if self.padding == "CIRCULAR" else bias, padding=pads,
            dilation=self.kernel_dilation, input_dilation=self.strides, flip=self.transpose_kernel,
            precision=self.precision, preferred_element_type=self.preferred_element_type,
            implementation=self.implementation,
        )  # fmt: skip
        if self.padding == "CIRCULAR":
            y = self._periodic(y, x.shape[1:-1], bias)
        return y.reshape(*batch, *y.shape[1:])

    def _periodic(self, y, spatial, bias):
        """y wrapped round an image of spatial * strides pixels and centred on it, as in Flax."""
        period = tuple(n * s for n, s in zip(spatial, self.strides, strict=True))
        missing = (-(n - p) % (2 * p) for n, p in zip(y.shape[1:-1], period, strict=True))
        start = tuple((m + (not self.transpose_kernel)) // 2 for m in missing)
        return wrap(y, bias, period=period, start=start)
