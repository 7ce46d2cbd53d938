"""One image file, of whatever kind and mode, as RGB pixels of a given size."""

from __future__ import annotations

import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np

# Pillow is asked for these alone: it also knows formats that start other programs.
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
LARGEST = 1 << 26  # pixels of a file; 67 million, 200 MB decoded
ORIENTATION = 0x0112  # the EXIF tag; 5 to 8 exchange height and width
_FILTERS = threading.Lock()  # warnings.catch_warnings changes the whole process, and threads read


def photo_size(path: Path) -> tuple[int, int]:
    """(H, W) in pixels, upright, from the file's header.

    Raises:
      ValueError: no image can be read from the file, or it has more than 67 million pixels.
      ImportError: Pillow is not installed.
    """
    with warnings.catch_warnings():
        # What Pillow finds odd in a header is no reason to refuse; the size is checked below.
        warnings.simplefilter("ignore")
        return _with_image(path, _upright_size)


def read_photo(path: Path, size: tuple[int, int]) -> np.ndarray:
    """uint8 (H, W, 3): the image upright, over white where it is transparent, cut to `size`.

    It is scaled with antialiasing until it just covers `size`, then its centre is cut out.

    Args:
      size: (H, W) in pixels.

    Raises:
      ValueError: no image can be read from the file, or it has more than 67 million pixels.
      ImportError: Pillow is not installed.
    """
    return _with_image(path, lambda image: _pixels(image, size))


def _with_image(path: Path, function) -> Any:
    Image, _ = _pillow()
    try:
        with _open(path, Image) as image:
            if image.width * image.height > LARGEST:
                raise ValueError(f"{image.width} x {image.height} pixels, more than {LARGEST}")
            return function(image)
    # Of damaged files Pillow raises a dozen types, SyntaxError, struct.error and KeyError included.
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise ValueError(f"{path}: expected an image that can be read; found: {reason}") from error


def _open(path: Path, Image: Any) -> Any:
    """The image with its header read, and nothing decoded yet."""
    if path.exists() and not path.is_file():  # opening a pipe would wait for a writer
        raise ValueError("a folder, pipe, socket or device")
    with _FILTERS, warnings.catch_warnings():
        # Its limit lies above `LARGEST`, which speaks for itself.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        return Image.open(path, formats=FORMATS)


def _upright_size(image) -> tuple[int, int]:
    turned = image.getexif().get(ORIENTATION) in (5, 6, 7, 8)
    return (image.width, image.height) if turned else (image.height, image.width)


def _pixels(image, size: tuple[int, int]) -> np.ndarray:
    _, ImageOps = _pillow()
    # JPEG decodes at 1/2, 1/4 or 1/8 of its size for a fraction of the time; twice the size that is
    # needed leaves the antialiasing to the scaling below.
    image.draft("RGB", (2 * max(size), 2 * max(size)))
    upright = _rgb(ImageOps.exif_transpose(image))
    if upright.size != size[::-1]:
        upright = ImageOps.fit(upright, size[::-1], method=_pillow()[0].Resampling.BILINEAR)
    return np.asarray(upright, np.uint8)


def _rgb(image):
    Image, _ = _pillow()
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError(f"mode {image.mode}, whose range of values is not known")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def _pillow():
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise ImportError(
            'images are read with Pillow; run pip install "jconv[train]", or ".[train]" in a clone'
        ) from error
    return Image, ImageOps
