"""Convolution and transposed convolution.

    y[n, p, q, k] = b[k] + sum over r, s, c of
                    x[n, p*stride + r*dilation - lo, q*stride + s*dilation - lo, c] * w[r, s, c, k]

Shapes (any number of spatial axes; written for two):
    x  N H W C    input        w  R S C/G K  filter, G = groups
    b  K          bias         y  N P Q K    output

As everywhere in networks this is cross-correlation; `flip=True` makes it the convolution of
mathematics. float16 and bfloat16 are summed in float32. The operations and their derivative rules
are in `conv_triangle.py`: the transposed convolution is the input gradient.

Reference: Dumoulin & Visin 2016, "A guide to convolution arithmetic for deep learning",
arXiv:1603.07285.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec

from jconv.core import explicit_sharding
from jconv.ops.conv_triangle import forward, input_grad
from jconv.ops.dtypes import at_least_float32
from jconv.ops.pad import pad, unpad
from jconv.window import Padding, PerAxis, Window, resolve_padding, whole

QUANTISED = (jnp.uint8, jnp.int8, jnp.int32)  # x, w and y that may differ


def conv(
    x: jax.Array,
    w: jax.Array,
    b: jax.Array | None = None,
    *,
    stride: PerAxis = 1,
    padding: Padding = "SAME",
    dilation: PerAxis = 1,
    groups: int = 1,
    input_dilation: PerAxis = 1,
    padding_mode: str = "zeros",
    flip: bool = False,
    precision: lax.PrecisionLike = None,
    preferred_element_type: jax.typing.DTypeLike | None = None,
    implementation: str | None = None,
) -> jax.Array:
    """Convolution of x (N, *spatial, C) with w (*window, C/groups, K), plus b (K).

    The result y is (N, *output, K).

    Args:
      stride: pixels from one window to the next.
      padding: "SAME" | "SAME_LOWER" | "VALID" | "CAUSAL" | int | one entry per axis, each int or
        (lo, hi), in pixels. "SAME" gives ceil(input / stride) outputs, the odd pixel of padding at
        the end; "CAUSAL" pads only before.
      dilation: pixels from one tap of the filter to the next.
      groups: channels are split into so many groups, each with filters of its own; C and K must
        divide by it.
      input_dilation: puts input_dilation - 1 zeros between the pixels of x.
      padding_mode: what the padding holds: "zeros" | "reflect" | "replicate" | "circular".
      flip: mirrors the filter in every spatial axis.
      precision: as in jax.lax.
      preferred_element_type: dtype of the sums and of y; the default is x's, in which the sums of
        small integers wrap round. With int32, uint8 x may have an int8 filter.
      implementation: None takes the table's choice (see `jconv.explain_choice`); a name runs that
        one or raises. The gradients take the same one where they have it.

    Raises:
      ValueError: shapes, dtypes or arguments that don't fit each other, or an unknown
        implementation.
      NotImplementedError: the implementation that was asked for can't compute this call.
    """
    x, w, b = _arrays(x, w, b)
    groups = whole(groups, "groups", "conv")
    sums = None if preferred_element_type is None else jnp.dtype(preferred_element_type)
    _check("conv", x, w, b, groups, sums)
    spatial = x.shape[1:-1]
    window = Window.of(
        spatial, w.shape[:-2], stride=stride, padding=padding, dilation=dilation,
        input_dilation=input_dilation, groups=groups, op="conv",
    )  # fmt: skip
    if padding_mode != "zeros":
        if window.input_dilation != (1,) * len(spatial):
            raise ValueError(
                f'conv: padding_mode="{padding_mode}" needs input_dilation=1, the border of a '
                f"dilated image is not defined; got input_dilation={input_dilation}"
            )
        x = pad(x, window.pads, padding_mode, op="conv")
        window = _on_padded(window, window.pads)
    w = jnp.flip(w, range(len(spatial))) if flip else w
    dtype = x.dtype if sums is None else sums
    y = forward(
        x, w, window=window, dtype=dtype, precision=precision, out_sharding=_features_split(x, w),
        implementation=implementation,
    )  # fmt: skip
    return _plus(y, b)


def conv_transpose(
    y: jax.Array,
    w: jax.Array,
    b: jax.Array | None = None,
    *,
    stride: PerAxis = 1,
    padding: Padding = "SAME",
    output_padding: PerAxis = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
    precision: lax.PrecisionLike = None,
    implementation: str | None = None,
) -> jax.Array:
    """Transposed convolution of y (N, *spatial, K) with w (*window, C/groups, K), plus b (C).

    The result x is (N, *output, C). This is the adjoint of `conv`: w is the filter of the
    convolution that it transposes, with that one's layout, stride, padding, dilation and padding
    mode. "SAME" gives spatial * stride pixels. Otherwise, as in PyTorch (which swaps w's channel
    axes),

        output = (spatial - 1) * stride - lo - hi + dilation * (window - 1) + 1 + output_padding

    Args:
      output_padding: pixels added at the end of the output: many outputs have one input when stride
        > 1.
      padding_mode: that of the convolution: what falls outside of the image is added to the pixel
        that its padding copied; with "zeros", all that PyTorch has here, it is dropped.

    Raises:
      ValueError, NotImplementedError: as `conv`.

    Reference: Zeiler et al. 2010, "Deconvolutional networks"; Dumoulin & Visin 2016,
      arXiv:1603.07285, chapter 4.
    """
    y, w, b = _arrays(y, w, b)
    groups = whole(groups, "groups", "conv_transpose")
    _check("conv_transpose", y, w, b, groups)
    window = Window.transposed(
        y.shape[1:-1], w.shape[:-2], stride=stride, padding=padding, output_padding=output_padding,
        dilation=dilation, groups=groups,
    )  # fmt: skip
    pads = None
    if padding_mode != "zeros":
        pads = resolve_padding(
            padding, window.input, window.extent, window.stride, "conv_transpose"
        )
        window = _on_padded(window, pads)
    x = input_grad(
        y, w, window=window, dtype=y.dtype if pads is None else at_least_float32(y.dtype),
        precision=precision, out_sharding=None, implementation=implementation,
    )  # fmt: skip
    if pads is not None:
        x = unpad(x, pads, padding_mode, op="conv_transpose").astype(y.dtype)
    return _plus(x, b)


def _on_padded(window, pads):
    """The window on an image that has its padding already; what was cropped stays so."""
    input = tuple(n + lo + hi for n, (lo, hi) in zip(window.input, pads, strict=True))
    rest = zip(window.pads, pads, strict=True)
    return dataclasses.replace(
        window, input=input, pads=tuple((a - lo, b - hi) for (a, b), (lo, hi) in rest)
    )


def _features_split(x, w):
    """The sharding of y where w's features are split over explicit axes of a mesh, and nothing else
    but x's examples is: JAX asks for it then. Elsewhere None, for it follows from the types.
    """
    like, filter = explicit_sharding(jax.typeof(x)), explicit_sharding(jax.typeof(w))
    if like is None or filter is None:
        return None
    (examples, *rest), (*taps, features) = like.spec, filter.spec
    if features is None or set(rest) | set(taps) != {None}:
        return None
    return NamedSharding(like.mesh, PartitionSpec(examples, *rest[:-1], features))


def _plus(y, b):
    """y + b, where there is one, without promoting ranks or dtypes."""
    return y if b is None else y + b.astype(y.dtype).reshape((1,) * (y.ndim - 1) + b.shape)


def _arrays(image, w, b):
    """NumPy's arrays become JAX's here, so that their dtypes are compared as JAX has them."""
    return jnp.asarray(image), jnp.asarray(w), None if b is None else jnp.asarray(b)


def _check(op, image, w, b, groups, sums=None):
    x, channels, features = ("x", "C", "K") if op == "conv" else ("y", "K", "C")
    if image.ndim < 3 or w.ndim != image.ndim:
        raise ValueError(
            f"{op}: {x} must be (N, *spatial, {channels}) and w (*window, C/groups, K) with the "
            f"same one or more spatial axes; got {x} {image.shape} and w {w.shape}"
        )
    named = _named(x, image, w)
    c, k = w.shape[-2] * groups, w.shape[-1]
    if k % groups:
        raise ValueError(f"{op}: w's K={k} does not divide into groups={groups}; got {named}")
    if op == "conv" and image.shape[-1] != c:
        c_x = image.shape[-1]
        divide = f"x's C={c_x} does not divide into groups={groups}" if c_x % groups else None
        raise ValueError(
            f"{op}: "
            f"{divide or f'x has C={c_x} but w takes C/groups={w.shape[-2]}, groups={groups}'}; "
            f"got {named}"
        )
    if op == "conv_transpose" and image.shape[-1] != k:
        raise ValueError(f"{op}: y has K={image.shape[-1]} but w has K={k}; got {named}")
    _check_dtypes(op, x, image, w, sums, named)
    size = k if op == "conv" else c
    if b is not None and (b.shape != (size,) or b.dtype != image.dtype):
        raise ValueError(
            f"{op}: b must be ({features},) = ({size},) of {image.dtype}; got b {b.shape} of "
            f"{b.dtype}, {named}"
        )


def _check_dtypes(op, x, image, w, sums, named):
    pair = (image.dtype, w.dtype)
    if image.dtype != w.dtype and (op != "conv" or (*pair, sums) != QUANTISED):
        wide = op == "conv" and pair == QUANTISED[:2]
        cure = "give preferred_element_type=jnp.int32" if wide else "cast one to the other"
        raise ValueError(f"{op}: {x} is {image.dtype} but w is {w.dtype}; {cure}; got {named}")


def _named(x, image, w):
    """Both shapes with the names of their axes."""
    axes = image.ndim - 2
    spatial = ["D", "H", "W"][-axes:] if axes <= 3 else [f"S{axis}" for axis in range(axes)]
    taps = ["T", "R", "S"][-axes:] if axes <= 3 else [f"R{axis}" for axis in range(axes)]
    image_axes = _sizes(["N", *spatial, "C" if x == "x" else "K"], image)
    return f"{x} ({image_axes}), w ({_sizes([*taps, 'C/groups', 'K'], w)})"


def _sizes(names, array):
    return ", ".join(f"{name}={size}" for name, size in zip(names, array.shape, strict=True))
