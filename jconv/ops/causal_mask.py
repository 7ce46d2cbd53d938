"""Masks that make a filter causal in raster order: a pixel sees only those before it.

Taps before the centre, row by row, are 1 and taps after it 0. At the centre itself, with features
in `colors` equal parts in the order in which the colours of a pixel are generated:

    kind "A"   from part i to part j: 1 if i <  j     the first layer, whose input is the image
    kind "B"   from part i to part j: 1 if i <= j     all further layers

Reference: van den Oord, Kalchbrenner & Kavukcuoglu 2016, "Pixel recurrent neural networks",
arXiv:1601.06759, figure 2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jconv.window import per_axis, whole


def causal_mask(
    window: int | Sequence[int],
    in_features: int,
    out_features: int,
    kind: str,
    *,
    colors: int = 1,
    dtype: jax.typing.DTypeLike = jnp.float32,
) -> jax.Array:
    """Ones and zeros (*window, in_features, out_features): `nn.Conv(mask=...)`, or w * mask.

    For convolutions with padding="SAME" and stride 1; their centre is tap (size - 1) // 2.

    Args:
      window: taps per axis; an int is one axis.
      kind: "A" leaves out the pixel itself (with several colours: its own colour), "B" keeps it.
      colors: parts of the features that are generated one after the other; 3 for RGB.

    Raises:
      ValueError: another kind, or features that don't divide into colors parts.
    """
    sizes = tuple(window) if isinstance(window, Sequence) else (window,)
    size = per_axis(sizes, len(sizes), "window", "causal_mask")
    colors = whole(colors, "colors", "causal_mask")
    if kind not in ("A", "B"):
        raise ValueError(f'causal_mask: kind must be "A" or "B"; got {kind!r}')
    if in_features % colors or out_features % colors:
        raise ValueError(
            f"causal_mask: in_features and out_features must divide into colors={colors} parts; "
            f"got in_features={in_features}, out_features={out_features}"
        )
    before, after = (np.arange(n) // max(n // colors, 1) for n in (in_features, out_features))
    seen = before[:, None] < after + (kind == "B")
    order = np.arange(math.prod(size)).reshape(size)
    centre = order[tuple((r - 1) // 2 for r in size)]
    mask = (order < centre)[..., None, None] | ((order == centre)[..., None, None] & seen)
    return jnp.asarray(mask, dtype)
