"""Max unpooling: each number back at the position from which max pooling took it, zeros elsewhere.

    x[n, h, w, c] = y[n, p, q, c]   where indices[n, p, q, c] = h*W + w, the last such (p, q)
                    0               where there is none

Shapes (any number of spatial axes; written for two): y and indices N P Q C, x N H W C.

First, in integers, every pixel learns which of the P*Q numbers it takes; that has no derivative.
The unpooling itself is then a gather, linear in y, of which JAX knows the transpose: a scatter in
which no two numbers meet.

Reference: Zeiler & Fergus 2014, "Visualizing and understanding convolutional networks",
arXiv:1311.2901.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jconv.ops.dtypes import comparable
from jconv.ops.pooling import check_image, check_positions
from jconv.window import Padding, PerAxis, Window, entries, per_axis


def max_unpool(
    y: jax.Array,
    indices: jax.Array | np.ndarray,
    window: PerAxis | None = None,
    *,
    stride: PerAxis | None = None,
    padding: Padding = "VALID",
    dilation: PerAxis = 1,
    output_size: PerAxis | None = None,
) -> jax.Array:
    """y (N, *spatial, C) at its positions in an image of zeros: x (N, *output, C).

    Args:
      indices: integers of y's shape, row-major positions in x, as `max_pool` returns them; -1 is
        nowhere. Where several numbers have one position, the last in row-major order is taken, and
        the gradient goes to that one. Positions outside x are an error where `indices` is a known
        array; where it is traced, as under `jit`, their numbers are left out.
      window, stride, padding, dilation: those of the pooling. They give the output,
        (spatial - 1) * stride - lo - hi + dilation * (window - 1) + 1 (times the stride for
        "SAME"), or check `output_size` where that is given too.
      output_size: the image's pixels, one int for all axes or one per axis; or the shape
        (N, *output, C). Needed where the window does not tell: pooling that left pixels unread,
        ceil_mode, adaptive and fractional pooling.

    Raises:
      ValueError: arguments that don't fit each other, neither a window nor an output_size, or a
        position outside x.
    """
    y = jnp.asarray(y)
    indices = indices if isinstance(indices, jax.Array) else np.asarray(indices)
    check_image("max_unpool", y, "numbers", "y")
    if not jnp.issubdtype(indices.dtype, jnp.integer):
        raise ValueError(
            f"max_unpool: indices must be integers; got indices {indices.shape} of {indices.dtype}"
        )
    if indices.shape != y.shape:
        raise ValueError(
            f"max_unpool: indices must have y's shape; got y {y.shape}, indices {indices.shape}"
        )
    output = _output(y.shape, window, stride, padding, dilation, output_size)
    check_positions("max_unpool", output)
    n, c, sources, pixels = y.shape[0], y.shape[-1], math.prod(y.shape[1:-1]), math.prod(output)
    _check_inside(indices, pixels, output)
    at = comparable(jnp.asarray(indices)).reshape(n, sources, c)
    at = jnp.where((at >= 0) & (at < pixels), at, pixels).astype(jnp.int32)
    source = jnp.arange(sources, dtype=jnp.int32)

    def last_taken(at):
        """The last number that lies at each pixel of one image and channel, `sources` for none."""
        taken = jnp.full(pixels, -1, jnp.int32).at[at].max(source, mode="drop")
        return jnp.where(taken < 0, sources, taken)

    # Image by image and channel by channel: so the type rule knows how the result is sharded.
    taken = jax.vmap(jax.vmap(last_taken, in_axes=-1, out_axes=-1))(at)
    x = jnp.take_along_axis(y.reshape(at.shape), taken, axis=1, mode="fill", fill_value=0)
    return x.reshape(n, *output, c)


def _output(shape, window, stride, padding, dilation, output_size):
    """The spatial extent of the image."""
    axes = len(shape) - 2
    if output_size is not None:
        sizes = entries(output_size)
        if sizes is not None and len(sizes) == axes + 2:
            if (sizes[0], sizes[-1]) != (shape[0], shape[-1]):
                raise ValueError(
                    "max_unpool: output_size must have y's N and C, where it has them; got "
                    f"output_size={tuple(sizes)}, y {shape}"
                )
            output_size = sizes[1:-1]
        output_size = per_axis(output_size, axes, "output_size", "max_unpool", least=0)
    if window is None:
        if output_size is None:
            raise ValueError(
                "max_unpool: a window or an output_size must be given; got neither for y "
                f"{shape}, (N, *spatial, C)"
            )
        return output_size
    size = per_axis(window, axes, "window", "max_unpool")
    stride = size if stride is None else per_axis(stride, axes, "stride", "max_unpool")
    # The largest image: the smallest may have no pixel, where a window is mostly padding.
    beyond = [s - 1 for s in stride]
    extra = 0 if output_size is None or isinstance(padding, str) else beyond
    given = Window.transposed(
        shape[1:-1], size, stride=stride, padding=padding, output_padding=extra, dilation=dilation,
        op="max_unpool",
    ).input  # fmt: skip
    if output_size is None:
        return given
    least = given if extra == 0 else tuple(n - e for n, e in zip(given, beyond, strict=True))
    if any(abs(n - usual) >= s for n, usual, s in zip(output_size, least, stride, strict=True)):
        raise ValueError(
            f"max_unpool: output_size must lie within less than a stride of {least}, what "
            f"the window gives; got output_size={output_size}, y {shape}, window={size}, stride="
            f"{stride}"
        )
    return output_size


def _check_inside(indices, pixels, output):
    """Only what is known can be looked at: under jit, and on other hosts, it is not."""
    if isinstance(indices, Tracer):
        return
    if isinstance(indices, jax.Array) and not indices.is_fully_addressable:
        return
    known = np.asarray(indices)
    wrong = known[(known < -1) | (known >= pixels)]
    if wrong.size:
        raise ValueError(
            f"max_unpool: indices must be positions below {pixels} in an image of {output}, or -1 "
            f"for none; got {wrong.flat[0]} (give output_size if the pooled image was larger)"
        )
