"""IDX files, plain or compressed with gzip: the format of MNIST and its kin.

An IDX file is, in big-endian order: two zero bytes, a type (8 is uint8), the number of axes, one
uint32 for the extent of each axis, then the values, last axis fastest.

Reference: LeCun, Cortes & Burges 1998, "The MNIST database of handwritten digits".
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

LIMIT = 1 << 30  # bytes of values; the largest published file in this format has 0.64e9
RATIO = 1032  # bytes that deflate can make of one byte, at most (zlib's documentation)
GZIP_MAGIC = b"\x1f\x8b"


def read_images(path: Path, size: tuple[int, int] | None = None) -> np.ndarray:
    """uint8 (N, H, W, 1) from an IDX file of images; `size` is the (H, W) that is expected.

    Raises:
      ValueError: the file is not that, with its name, what was expected and what was found.
    """
    images = _read(path, axes=3)
    if size is not None and images.shape[1:] != size:
        expected, found = (" x ".join(map(str, pair)) for pair in (size, images.shape[1:]))
        raise ValueError(f"{path}: expected images of {expected} pixels; found {found}")
    return images[..., None]


def read_labels(path: Path, *, classes: int) -> np.ndarray:
    """int32 (N,) from an IDX file of labels, each below `classes`.

    Raises:
      ValueError: the file is not that, with its name, what was expected and what was found.
    """
    labels = _read(path, axes=1)
    wrong = np.flatnonzero(labels >= classes)
    if wrong.size:
        raise ValueError(
            f"{path}: expected labels 0 to {classes - 1}; found {labels[wrong[0]]} at position "
            f"{wrong[0]}"
        )
    return labels.astype(np.int32)


def _read(path: Path, axes: int) -> np.ndarray:
    size = path.stat().st_size
    with path.open("rb") as raw:
        packed = raw.read(2) == GZIP_MAGIC
        raw.seek(0)
        if not packed:
            return _read_stream(path, raw, axes, size)
        try:
            with gzip.GzipFile(fileobj=raw) as stream:
                return _read_stream(path, stream, axes, size * RATIO)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"{path}: expected a whole gzip stream; found: {error}") from error


def _read_stream(path: Path, stream: BinaryIO | gzip.GzipFile, axes: int, room: int) -> np.ndarray:
    """The values of one IDX file; the stream can't be longer than `room` bytes."""
    magic = stream.read(4)
    if magic != bytes((0, 0, 8, axes)):
        raise ValueError(
            f"{path}: expected the IDX magic {bytes((0, 0, 8, axes)).hex(' ')} (uint8, {axes} "
            f"{'axis' if axes == 1 else 'axes'}); found {magic.hex(' ') or 'an empty file'}"
        )
    header = stream.read(4 * axes)
    if len(header) < 4 * axes:
        raise ValueError(f"{path}: expected {4 * axes} bytes of extents; found {len(header)}")
    shape = struct.unpack(f">{axes}I", header)
    count, text = math.prod(shape), " x ".join(map(str, shape))
    if count == 0 or count > LIMIT:
        raise ValueError(f"{path}: expected 1 to {LIMIT} values; found a header of {text}")
    # Before a byte is read: a small file can't make the reader reserve much.
    if 4 + len(header) + count > room:
        raise ValueError(
            f"{path}: expected {count} values ({text}); found a file too short to hold them "
            f"({path.stat().st_size} bytes)"
        )
    values = stream.read(count)
    surplus = stream.read(1)
    if len(values) < count or surplus:
        found = "more" if surplus else len(values)
        raise ValueError(f"{path}: expected {count} values ({text}); found {found}")
    return np.frombuffer(values, np.uint8).reshape(shape)
