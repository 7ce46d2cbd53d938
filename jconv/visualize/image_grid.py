"""Images made fit to look at: any dtype and channels to uint8, enlarged, side by side in a grid."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def displayable(image: np.ndarray) -> np.ndarray:
    """A uint8 image (H, W, 1) or (H, W, 3) of an image (H, W) or (H, W, C) of any real dtype.

    uint8 is kept as it is; other dtypes are stretched from their least to their greatest finite
    value. With 2 or more than 3 channels, which no screen can show, the result is their mean as
    grey.

    Raises:
      ValueError: `image` has not 2 or 3 axes.
    """
    image = np.asarray(image)
    if image.ndim not in (2, 3):
        raise ValueError(f"displayable: an image is (H, W) or (H, W, C); got {image.shape}")
    if image.ndim == 2:
        image = image[..., None]
    if image.shape[-1] not in (1, 3):
        mean = image.mean(axis=-1, keepdims=True)
        image = mean.round().astype(np.uint8) if image.dtype == np.uint8 else mean
    return image if image.dtype == np.uint8 else np.round(255 * stretch(image)).astype(np.uint8)


def stretch(values: np.ndarray) -> np.ndarray:
    """float32 in 0..1, from the least to the greatest finite value of `values`; 0.5 where all are
    equal, 0 for NaN."""
    values = np.asarray(values, np.float32)
    finite = values[np.isfinite(values)]
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 0.0)
    if low == high:
        return np.where(np.isfinite(values), np.float32(0.5), np.float32(0))
    with np.errstate(over="ignore"):  # the range of huge activations may exceed float32
        scaled = (values.astype(np.float64) - low) / (np.float64(high) - low)
    return np.clip(np.nan_to_num(scaled, nan=0.0), 0, 1).astype(np.float32)


def enlarge(image: np.ndarray, scale: int) -> np.ndarray:
    """Each pixel of (H, W, ...) as a square of scale x scale pixels."""
    return image.repeat(scale, axis=0).repeat(scale, axis=1)


def image_grid(
    images: Sequence[np.ndarray] | np.ndarray,
    *,
    columns: int | None = None,
    gap: int = 2,
    scale: int = 1,
) -> np.ndarray:
    """Images side by side, row by row, with transparent gaps: uint8 RGBA (H, W, 4).

    Args:
      images: at least one image, all of one size, as `displayable` takes them.
      columns: images per row; by default the grid is about square.
      gap: pixels between two images.
      scale: enlarges the images, not the gaps.

    Raises:
      ValueError: no images, images of different sizes, or less than one column.
    """
    tiles = [_rgb(displayable(image)) for image in images]
    if not tiles or len({tile.shape for tile in tiles}) > 1:
        shapes = sorted({np.shape(image) for image in images})
        raise ValueError(
            f"image_grid: takes one or more images of one size; got {shapes or 'none'}"
        )
    columns = columns if columns is not None else math.ceil(math.sqrt(len(tiles)))
    if columns < 1:
        raise ValueError(f"image_grid: needs at least one column; got columns={columns}")
    columns = min(columns, len(tiles))
    height, width = (side * scale for side in tiles[0].shape[:2])
    rows = math.ceil(len(tiles) / columns)
    grid = np.zeros((rows * (height + gap) - gap, columns * (width + gap) - gap, 4), np.uint8)
    for index, tile in enumerate(tiles):
        top, left = (index // columns) * (height + gap), (index % columns) * (width + gap)
        grid[top : top + height, left : left + width, :3] = enlarge(tile, scale)
        grid[top : top + height, left : left + width, 3] = 255
    return grid


def _rgb(image: np.ndarray) -> np.ndarray:
    return np.broadcast_to(image, (*image.shape[:2], 3))
