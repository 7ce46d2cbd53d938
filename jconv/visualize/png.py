"""Images as PNG files and as data URIs, which carry the image inside the page that shows it."""

from __future__ import annotations

import base64
import io

import numpy as np


def encode_png(image: np.ndarray) -> bytes:
    """The PNG file of a uint8 image (H, W), (H, W, 1) grey, (H, W, 3) RGB or (H, W, 4) RGBA.

    Raises:
      ValueError: another shape, or not uint8.
    """
    from PIL import Image

    image = np.asarray(image)
    channels = image.shape[2] if image.ndim == 3 else 1
    if image.ndim not in (2, 3) or channels not in (1, 3, 4) or image.dtype != np.uint8:
        raise ValueError(
            "encode_png: an image is uint8 (H, W) or (H, W, C) with C of 1, 3 or 4; got "
            f"{image.dtype} {image.shape}"
        )
    if 0 in image.shape:
        raise ValueError(f"encode_png: an image has pixels; got {image.dtype} {image.shape}")
    pixels = image[..., 0] if image.ndim == 3 and channels == 1 else image
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "PNG", optimize=True)
    return file.getvalue()


def data_uri(image: np.ndarray) -> str:
    """The image as `data:image/png;base64,...`, for the `src` of an HTML image. Raises as
    `encode_png`."""
    return "data:image/png;base64," + base64.b64encode(encode_png(image)).decode("ascii")
