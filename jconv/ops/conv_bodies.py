"""The bodies of convolution and its two gradients: how XLA computes each, or a formulation does.

A body has the signature of the primitives in `conv_triangle.py`. A formulation is a function of
`jconv.algorithms`, written for a convolution or for its filter gradient: an input gradient is the
convolution of dy, dilated by the stride, with the filter flipped.
"""

from __future__ import annotations

from numbers import Integral

import jax
import jax.numpy as jnp
from jax import lax
from jax.lax import conv_general_dilated  # under its own name: jconv.lax's may be put in its place
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from jconv.ops.dtypes import at_least_float32, wider

# Operands of one product may differ in dtype where preferred_element_type made the output wider.


def forward(convolve):
    """The body of `conv` on a way to compute a convolution: `on_xla` or another as it."""

    def body(x, w, *, window, dtype, precision, out_sharding):
        x, w = _same_dtype(x, w)
        return convolve(
            x, w, window.stride, window.pads, window.input_dilation, window.dilation,
            output=window.output, groups=window.groups, dtype=dtype, precision=precision,
            out_sharding=out_sharding,
        )  # fmt: skip

    return body


def input_grad(convolve):
    """The body of `conv_input_grad` on a way to compute a convolution."""

    def body(dy, w, *, window, dtype, precision, out_sharding):
        dy, w = _same_dtype(dy, w)
        return convolve(
            dy, _swap(w, window.groups), window.input_dilation, window.input_grad_pads,
            window.stride, window.dilation, output=window.input, groups=window.groups, dtype=dtype,
            precision=precision, out_sharding=out_sharding,
        )  # fmt: skip

    return body


def filter_grad(differentiate):
    """The body of `conv_filter_grad` on a formulation of it."""

    def body(x, dy, *, window, dtype, precision, out_sharding):
        x, dy = _same_dtype(x, dy)
        return differentiate(
            x, dy, window.stride, window.pads, window.input_dilation, window.dilation,
            size=window.size, groups=window.groups, dtype=dtype, precision=precision,
            out_sharding=out_sharding,
        )  # fmt: skip

    return body


def filter_grad_on_xla(x, dy, *, window, dtype, precision, out_sharding):
    """The convolution of x with dy, examples in the place of channels."""
    x, dy = _same_dtype(x, dy)
    dw = on_xla(
        jnp.swapaxes(x, 0, -1), jnp.moveaxis(dy, 0, -2), window.dilation, window.filter_grad_pads,
        window.input_dilation, window.stride, output=window.size, batch_groups=window.groups,
        dtype=dtype, precision=precision, out_sharding=_channels_in_first(out_sharding, x.ndim),
    )  # fmt: skip
    return jnp.moveaxis(dw, 0, -2)


def _channels_in_first(sharding, ndim):
    """The sharding of dw (C, *window, K), from that of dw (*window, C, K)."""
    if sharding is None:
        return None
    *window, c, k = (*sharding.spec, *[None] * (ndim - len(sharding.spec)))
    return NamedSharding(sharding.mesh, P(c, *window, k))


def on_xla(
    x, w, stride, pads, input_dilation, dilation, *,
    output, dtype, precision, out_sharding, groups=1, batch_groups=1,
):  # fmt: skip
    """y (N, *output, K) as one convolution of XLA's."""
    out = (x.shape[0] // batch_groups, *output, w.shape[-1])
    if 0 in (*x.shape, *w.shape, *out):
        return lax.full(out, 0, dtype, sharding=out_sharding)
    if _symbolic(pads) or _aborts_xla(x, w, stride, pads, input_dilation):
        x = _padded(x, pads, input_dilation)
        pads = ((0, 0),) * len(pads)
        input_dilation = (1,) * len(pads)
    spatial = tuple(range(1, x.ndim - 1))
    image = (0, x.ndim - 1, *spatial)
    filter = (x.ndim - 1, x.ndim - 2, *(axis - 1 for axis in spatial))
    # XLA sums in no narrower dtype than its operands': a narrower gradient is rounded afterwards.
    narrower = dtype.itemsize < x.dtype.itemsize
    y = conv_general_dilated(
        x, w, stride, pads, input_dilation, dilation, precision=precision,
        preferred_element_type=x.dtype if narrower else dtype,
        dimension_numbers=lax.ConvDimensionNumbers(image, filter, image),
        feature_group_count=groups, batch_group_count=batch_groups, out_sharding=out_sharding,
    )  # fmt: skip
    return _cast(y, dtype)


def _symbolic(pads):
    """Whether some padding depends on a symbolic size of jax.export, which lax.pad alone takes."""
    return not all(isinstance(side, Integral) for pad in pads for side in pad)


def _aborts_xla(x, w, stride, pads, input_dilation):
    """Whether XLA's CPU compiler would end the process, as jaxlib 0.12.0.1 does: one axis whose
    pixels are spread out by just the filter's size, unpadded, and another shorter than its filter.

    The check that fails is "Window dimensions do not match RHS shape" in its algebraic simplifier.
    """
    axes = list(zip(x.shape[1:-1], w.shape[:-2], stride, pads, input_dilation, strict=True))
    spread = [d == r > 1 and s == 1 and tuple(pad) == (0, 0) for _, r, s, pad, d in axes]
    if not any(spread):  # asked first: the sizes of a shape-polymorphic image can't be compared
        return False
    return any(n < r and not b for (n, r, *_), b in zip(axes, spread, strict=True))


def _padded(x, pads, input_dilation):
    """x with its zeros written out; the barrier keeps XLA from folding them back in."""
    config = ((lo, hi, d - 1) for (lo, hi), d in zip(pads, input_dilation, strict=True))
    return lax.optimization_barrier(
        lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *config, (0, 0, 0)])
    )


def _same_dtype(a, b):
    dtype = wider(a.dtype, b.dtype)
    return _cast(a, dtype), _cast(b, dtype)


def _cast(a, dtype):
    """`a` as `dtype`; the weak type of a constant stays where it is that already."""
    return a if a.dtype == dtype else a.astype(dtype)


def _swap(w, groups):
    """R S C/G K -> R S K/G C, both channel axes group-major, flipped in space."""
    *size, c, k = w.shape
    w = jnp.flip(w, range(len(size)))
    if groups == 1:
        return w.swapaxes(-1, -2)
    w = w.reshape(*size, c, groups, k // groups)
    return jnp.moveaxis(w, -1, -3).swapaxes(-1, -2).reshape(*size, k // groups, groups * c)


def summed(formulation):
    """A formulation of `jconv.algorithms` as a way to compute: its sums are in float32 at least."""

    def compute(first, second, *geometry, dtype, out_sharding, **options):
        sums = at_least_float32(wider(dtype, first.dtype))
        out = formulation(first, second, *geometry, dtype=dtype, sum_dtype=sums, **options)
        return out if out_sharding is None else jax.sharding.reshard(out, out_sharding)

    return compute
