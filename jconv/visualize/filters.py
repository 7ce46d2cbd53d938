"""First-layer filters as images: the only weights that can be read like what they look at."""

from __future__ import annotations

import numpy as np

from jconv.visualize.image_grid import image_grid


def filter_grid(
    kernel: np.ndarray,
    *,
    limit: int = 128,
    side: int = 48,
    gap: int = 10,
    columns: int | None = None,
) -> np.ndarray:
    """The filters of a kernel (R, S, C, K) in a grid: uint8 RGBA.

    Each filter is scaled by its own greatest absolute weight, zero is middle grey. With 3 channels
    a filter is one colour image; otherwise every channel is a grey image, the channels of a filter
    one after the other.

    Args:
      limit: at most so many images.
      side: each image is enlarged to about so many pixels.
      gap, columns: as `image_grid`; with 2 or more than 3 channels each row is one filter by
        default.

    Raises:
      ValueError: `kernel` has not 4 axes, or an axis of length 0.
    """
    kernel = np.asarray(kernel, np.float32)
    if kernel.ndim != 4 or 0 in kernel.shape:
        raise ValueError(f"filter_grid: a kernel is (R, S, C, K); got {kernel.shape}")
    kernel = np.nan_to_num(kernel, nan=0.0, posinf=0.0, neginf=0.0)
    peak = np.abs(kernel).max(axis=(0, 1, 2))
    grey = 127.5 + 127.5 * kernel / np.where(peak > 0, peak, 1)
    images = np.moveaxis(np.round(grey).astype(np.uint8), -1, 0)  # K R S C
    channels = kernel.shape[2]
    if channels != 3:
        images = np.moveaxis(images, -1, 1).reshape(-1, *kernel.shape[:2])
    if columns is None and channels not in (1, 3):
        per_row = columns = min(channels, 16)
        limit = max(limit - limit % per_row, min(limit, per_row))  # whole rows
    scale = max(1, round(side / max(kernel.shape[:2])))
    return image_grid(list(images[: max(limit, 1)]), columns=columns, gap=gap, scale=scale)
