"""What the layers of a network make of one image: their feature maps, one grid per layer."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from jconv.visualize.color_map import colorize
from jconv.visualize.image_grid import image_grid, stretch


def feature_map_grid(
    activation: np.ndarray, *, limit: int = 16, side: int = 64, gap: int = 6, columns: int = 8
) -> np.ndarray:
    """Feature maps (H, W, C) of one image as a grid of coloured images: uint8 RGBA.

    Each map is stretched from its own least (dark) to its own greatest value (light), so maps of
    different strength can be compared in shape but not in height. A vector (C,) becomes one strip,
    a square per number.

    Args:
      limit: at most so many maps, those whose values vary most, in the order of their channels.
      side: each map is enlarged, or thinned out, to about so many pixels.
      gap, columns: as `image_grid`.

    Raises:
      ValueError: `activation` is neither (H, W, C) nor (C,), or is empty.
    """
    activation = np.asarray(activation, np.float32)
    if activation.ndim not in (1, 3) or activation.size == 0:
        raise ValueError(
            "feature_map_grid: feature maps are (H, W, C) or (C,) of one image; got "
            f"{activation.shape}"
        )
    if activation.ndim == 1:
        return _strip(activation, columns * (side + gap) - gap)
    every = math.ceil(max(activation.shape[:2]) / (2 * side))
    maps = np.moveaxis(activation[::every, ::every], -1, 0)
    if len(maps) > limit:
        with np.errstate(invalid="ignore", over="ignore"):  # maps with infinities come last
            spread = np.nan_to_num(maps.std(axis=(1, 2)), nan=-1.0, posinf=-1.0)
        maps = maps[np.sort(np.argsort(-spread, kind="stable")[:limit])]
    scale = max(1, round(side / max(maps.shape[1:])))
    images = [colorize(stretch(one)) for one in maps]
    return image_grid(images, columns=columns, gap=gap, scale=scale)


def feature_maps(activations: Mapping[str, np.ndarray], **options: int) -> dict[str, np.ndarray]:
    """`feature_map_grid` of every named activation of one image, in order. Raises as it does,
    naming the activation."""
    grids = {}
    for name, activation in activations.items():
        try:
            grids[name] = feature_map_grid(activation, **options)
        except ValueError as error:
            raise ValueError(f"{error} in {name!r}") from error
    return grids


def _strip(vector: np.ndarray, width: int) -> np.ndarray:
    """A vector as rows of coloured squares, in all about `width` pixels wide."""
    per_row = min(len(vector), 32)
    square = max(4, min(width // per_row - 2, 24))
    images = colorize(stretch(vector))[:, None, None, :]
    return image_grid(list(images), columns=per_row, gap=2, scale=square)
