"""Spectral pooling: an image made smaller by leaving out its high frequencies, by a real stride.

    y = S diag(m) F x                                    along each axis

F the real Fourier transform of N pixels, S the synthesis of M pixels from the frequencies that M
pixels can hold, m a mask over the frequencies f = 0, 1, ... (cycles per image):

    m(f) = clip((R + N / (2 stride) - f) / R, 0, 1)      R = smoothness, frequencies
    M    = 2 ceil(R + N / (2 stride)) - 1                all f with m(f) > 0; at most N

Shapes (any number of spatial axes; written for two): x N H W C, y N P Q C. The mask falls in a ramp
of R frequencies, and its slope is the gradient of the stride (DiffStride). The mean of an image
stays what it was. Pixel 0 stays at pixel 0, as in any cropping of a spectrum, and images are taken
as periodic: what leaves at one border enters at the other.

The transforms of one axis are one small matrix, M by N, made anew from the mask and multiplied with
the images: linear in x, of every transformation, in lax operations alone. Against FFTs that is N M
multiply-adds for each line instead of some N log N, on feature maps of a few dozen pixels nothing.
float16 and bfloat16 are summed in float32.

References: Rippel, Snoek & Adams 2015, "Spectral representations for convolutional neural
networks", arXiv:1506.03767; Riad, Teboul, Grangier & Zeghidour 2022, "Learning strides in
convolutional neural networks", arXiv:2202.01653. Theirs sums, so that values grow by H W / (P Q),
and is 2 frequencies wider along the last axis.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jconv.ops.dtypes import at_least_float32
from jconv.window import PerAxis, per_axis


def spectral_pool(
    x: jax.Array,
    stride: jax.Array | float | Sequence[float] | None = None,
    *,
    size: PerAxis | None = None,
    smoothness: float = 4.0,
) -> jax.Array:
    """x (N, *spatial, C) without its high frequencies, in fewer pixels: y (N, *size, C).

    Differentiable in the stride. The size of an array can't depend on the value of another where a
    program is traced; so under `jax.jit` with a traced stride `size` must be given. It then cuts
    off what of the mask lies beyond it, and the gradient sees what is left; `spectral_size` of the
    stride in between cuts nothing.

    Args:
      stride: real, at least 1, one for all axes or one for each; None keeps all frequencies that
        `size` holds (Rippel et al.). It is held between the least at which the mask still falls,
        N / (N - R), and N / 2, at which two pixels are left beside the ramp; the gradient passes
        on, so that a stride outside can come back.
      size: pixels of the result, per axis, at most those of x; None is `spectral_size`.
      smoothness: frequencies over which the mask falls from 1 to 0.

    Raises:
      ValueError: an x that is not floating point, neither stride nor size, a size larger than x, a
        smoothness that is not positive, a stride that is no positive number, or one that is traced
        where there is no size.
    """
    x = jnp.asarray(x)
    _check(x, stride, size, smoothness)
    axes = x.ndim - 2
    wide = at_least_float32(x.dtype)
    if stride is not None:
        stride = jnp.asarray(stride)
        if stride.ndim > 1 or (stride.ndim and stride.shape != (axes,)):
            raise ValueError(
                f"spectral_pool: stride must be a number or one for each of {axes} spatial axes; "
                f"got stride {stride.shape}"
            )
        stride = jnp.broadcast_to(stride.astype(wide), (axes,))
    if size is None:
        sizes = spectral_size(x.shape[1:-1], _known(stride), smoothness=smoothness)
    else:
        sizes = per_axis(size, axes, "size", "spectral_pool")
    if any(m > n for m, n in zip(sizes, x.shape[1:-1], strict=True)):
        raise ValueError(
            f"spectral_pool: size must not exceed the image; got size={sizes}, x {x.shape}, (N, "
            "*spatial, C)"
        )
    y = x.astype(wide)
    for axis, m in enumerate(sizes):
        analysis, synthesis, frequency = _transforms(x.shape[axis + 1], m)
        synthesis = jnp.asarray(synthesis, wide)
        if stride is not None:
            mask = _mask(jnp.asarray(frequency, wide), stride[axis], x.shape[axis + 1], smoothness)
            synthesis = synthesis * mask
        matrix = jnp.matmul(synthesis, jnp.asarray(analysis, wide), precision="highest")
        y = jnp.moveaxis(
            lax.dot_general(y, matrix, (((axis + 1,), (1,)), ((), ())), precision="highest"),
            -1, axis + 1,
        )  # fmt: skip
    return y.astype(x.dtype)


def spectral_size(
    spatial: Sequence[int], stride: float | Sequence[float], *, smoothness: float = 4.0
) -> tuple[int, ...]:
    """Pixels per axis that hold all frequencies which the mask of `spectral_pool` lets through.

    Raises:
      ValueError: strides that are no positive numbers, or not one for each axis.
    """
    many = list(np.ravel(np.asarray(stride, np.float64)))
    strides = many * len(spatial) if len(many) == 1 else many
    if len(strides) != len(spatial) or not all(s > 0 for s in strides):
        raise ValueError(
            f"spectral_size: stride must be a positive number or one for each of {len(spatial)} "
            f"spatial axes; got stride={stride}"
        )
    sizes = []
    for n, s in zip(spatial, strides, strict=True):
        least, most = _bounds(n, smoothness)
        reach = n / (2 * min(max(s, least), most)) + smoothness
        sizes.append(min(n, 2 * math.ceil(reach - 1e-6) - 1))
    return tuple(sizes)


def _mask(frequency, stride, n, smoothness):
    least, most = _bounds(n, smoothness)
    stride = stride + lax.stop_gradient(jnp.clip(stride, least, most) - stride)
    return jnp.clip((smoothness + n / (2 * stride) - frequency) / smoothness, 0, 1)


def _bounds(n, smoothness):
    """The strides between which the mask of n pixels falls somewhere, and leaves something."""
    most = max(n / 2, 1.0)
    return min(n / (n - smoothness), most) if n > smoothness else most, most


def _transforms(n, m):
    """Analysis (2F, n) and synthesis (m, 2F) by cosines and sines, and the frequency of each.

    F = m // 2 + 1 frequencies. Of an even m the last one is half of what +m/2 and -m/2 hold.
    """
    f = np.arange(m // 2 + 1)
    both = np.where((f == 0) | (2 * f == m), 1.0, 2.0)  # a frequency and its negative

    def waves(pixels):
        angle = 2 * np.pi * (f[:, None] * np.arange(pixels) % pixels) / pixels
        return np.concatenate([np.cos(angle), np.sin(angle)])

    synthesis = waves(m) * np.concatenate([both, both])[:, None]
    return waves(n) / n, synthesis.T, np.concatenate([f, f])


def _known(stride):
    """The values of a stride that no trace hides."""
    try:
        return [float(s) for s in lax.stop_gradient(stride)]
    except jax.errors.ConcretizationTypeError:
        raise ValueError(
            "spectral_pool: size must be given where stride is traced: no shape can depend on its "
            "value (see spectral_size); got size=None"
        ) from None


def _check(x, stride: Any, size, smoothness):
    if x.ndim < 3 or 0 in x.shape[1:-1] or not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(
            "spectral_pool: x must be floating point (N, *spatial, C) with one or more spatial "
            f"axes, none empty; got x {x.shape} of {x.dtype}"
        )
    if not all(isinstance(n, int) for n in x.shape[1:-1]):
        raise ValueError(
            "spectral_pool: spatial axes must be known when it is traced, for the transforms; got "
            f"spatial axes {x.shape[1:-1]}"
        )
    if stride is None and size is None:
        raise ValueError("spectral_pool: stride or size must be given; got neither")
    real = isinstance(smoothness, numbers.Real) and not isinstance(smoothness, bool)
    if not real or not 0 < float(smoothness) < math.inf:
        raise ValueError(f"spectral_pool: smoothness must be a positive number; got {smoothness!r}")
