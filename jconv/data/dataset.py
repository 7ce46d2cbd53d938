"""What every reader returns: images, labels and the names of the classes."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np

CHUNK = 1024  # images


class Images(Protocol):
    """Images read on demand: indexed by an integer array like a uint8 (N, H, W, C) array.

    Those that are files, one each, have them as an attribute `paths`, from which
    `Dataset.fingerprint` then tells them apart without decoding them.
    """

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> Any: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any, /) -> np.ndarray: ...


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled images.

    Attributes:
      name: what messages and reports call it, such as "cifar10".
      images: uint8 (N, H, W, C), an array or read on demand; 0 is black, 255 is full intensity.
      labels: int32 (N,), each an index into `classes`.
      classes: the name of each class.

    Raises:
      ValueError: the parts do not fit together, or there is no image.
    """

    name: str
    images: np.ndarray | Images
    labels: np.ndarray
    classes: tuple[str, ...]

    def __post_init__(self):
        shape, labels = tuple(self.images.shape), self.labels
        got = f"got images {self.images.dtype}{list(shape)}, labels {labels.dtype}{labels.shape}"
        if len(shape) != 4 or self.images.dtype != np.uint8:
            raise ValueError(f"{self.name}: images must be uint8 (N, H, W, C); {got}")
        if labels.ndim != 1 or labels.dtype != np.int32:
            raise ValueError(f"{self.name}: labels must be int32 (N,); {got}")
        if shape[0] != len(labels):
            raise ValueError(f"{self.name}: {shape[0]} images but {len(labels)} labels; {got}")
        if 0 in shape:
            raise ValueError(f"{self.name}: no pixels; {got}")
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= len(self.classes):
            raise ValueError(
                f"{self.name}: labels must be 0 to {len(self.classes) - 1}; got {low} to {high}"
            )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C) in pixels and channels."""
        height, width, channels = self.images.shape[1:]
        return height, width, channels

    def subset(self, index: np.ndarray) -> Dataset:
        """The images at `index`, an integer array, in that order; nothing on disk is read."""
        index = np.asarray(index)
        array = isinstance(self.images, np.ndarray)
        images = self.images[index] if array else _Selected(self.images, index)
        return dataclasses.replace(self, images=images, labels=self.labels[index])

    def fingerprint(self) -> str:
        """SHA-256, in hexadecimal, of what there is to learn: equal for the same data wherever it
        lies on disk.

        It covers the size of the images, the names of the classes, all labels and all images in
        their order, but not the `name`. Of an image that is a file it covers the name, without
        folders, and the number of bytes, but not what is in it; of all others every pixel.

        Raises:
          OSError: a file of an image is gone.
        """
        digest = hashlib.sha256()
        # JSON keeps names apart whatever is in them; lengths keep the parts apart.
        digest.update(_json([len(self), *self.image_shape, *self.classes]))
        digest.update(self.labels.astype("<i4").tobytes())
        for part in _identity(self.images):
            digest.update(part)
        return digest.hexdigest()


class Datasets(NamedTuple):
    """A data set in its two parts: `train` to learn from, `test` held out."""

    train: Dataset
    test: Dataset


class _Selected:
    """Some of the images of another sequence, still read on demand."""

    def __init__(self, images: Images, index: np.ndarray):
        self._images, self._index = images, index
        self.shape, self.dtype = (len(index), *images.shape[1:]), images.dtype
        paths = getattr(images, "paths", None)
        self.paths = None if paths is None else tuple(paths[i] for i in index)

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, index) -> np.ndarray:
        return self._images[self._index[index]]


def _identity(images: np.ndarray | Images) -> Iterator[bytes]:
    """What tells the images from others, for `Dataset.fingerprint`."""
    paths = getattr(images, "paths", None)
    if paths is not None:
        yield from (_json([path.name, path.stat().st_size]) for path in paths)
        return
    for start in range(0, len(images), CHUNK):
        chosen = np.arange(start, min(start + CHUNK, len(images)))
        yield np.ascontiguousarray(images[chosen]).tobytes()


def _json(values: list[Any]) -> bytes:
    return json.dumps(values).encode() + b"\n"
