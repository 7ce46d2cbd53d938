"""A folder of photos, one folder per class, read on demand with Pillow.

    DIR/CLASS/*.jpg                                   a stratified tenth is held out
    DIR/train/CLASS/*.jpg   DIR/test/CLASS/*.jpg      or val, valid, validation in place of test

With several of the latter, only the first of test, val, valid, validation is read: a val beside a
test is left alone. Hidden files, whose names begin with a dot, do not count, nor does what systems
leave in folders: Thumbs.db, ehthumbs.db, desktop.ini and __MACOSX, in upper or lower case.
"""

from __future__ import annotations

import collections
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jconv.data.dataset import Dataset, Datasets
from jconv.data.photo import SUFFIXES, photo_size, read_photo
from jconv.data.split import held_out

TEST_NAMES = ("test", "val", "valid", "validation")
LITTER = ("thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx")  # of Windows and macOS
DEFAULT_SIZE = (64, 64)
LARGEST_OWN_SIZE = 256  # pixels; above it a folder's own size is too much for a default


def load_folder(
    root: Path, *, size: int | tuple[int, int] | None = None, fraction: float = 0.1, seed: int = 0
) -> Datasets:
    """Labelled RGB images from folders; every image gets the same (H, W).

    An image is scaled, with antialiasing, until it covers that size, and its centre is cut out.

    Args:
      size: pixels, a side of a square or (H, W). Default: the size that more than half of the
        training images have, if its sides are at most 256 pixels; else 64x64.
      fraction: of each class, held out where there is no folder for it.
      seed: of that choice.

    Raises:
      ValueError: no folder of classes, a class without images or a file that is no image, fewer
        than two classes, a single image in every class where some must be held out, a `size` that
        is not of whole pixels, or an image whose header can't be read. Pixels are read later, when
        a batch asks for them, and an image that can't be read then raises ValueError too.
      ImportError: Pillow is not installed.
    """
    if not root.is_dir():
        raise ValueError(f"{root}: expected a folder of images by class; found no folder")
    asked = None if size is None else _pair(size)
    train, test = _part_folders(root)
    paths, labels, classes = _list(train, None)
    sizes = [photo_size(path) for path in paths]
    shape = asked or _usual(sizes)
    whole = Dataset(root.resolve().name, ImageFiles(paths, shape), labels, classes)
    if test is None:
        if len(labels) == len(classes):
            raise ValueError(
                f"{root}: expected a class of at least two images, to hold one out; found "
                f"{len(classes)} classes of one image"
            )
        return Datasets(
            *(whole.subset(index) for index in held_out(labels, fraction=fraction, seed=seed))
        )
    paths, labels, _ = _list(test, classes)
    for path in paths:
        photo_size(path)
    return Datasets(whole, Dataset(whole.name, ImageFiles(paths, shape), labels, classes))


class ImageFiles:
    """The images at `paths`, as uint8 (N, H, W, 3); files are opened when they are indexed."""

    def __init__(self, paths: Sequence[Path], size: tuple[int, int]):
        self.paths = tuple(paths)
        self.shape = (len(self.paths), *size, 3)
        self.dtype = np.dtype(np.uint8)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index) -> np.ndarray:
        """uint8 (H, W, 3) for an integer, else uint8 (N, H, W, 3).

        Raises:
          ValueError: an image can't be read, with its name.
        """
        chosen = np.arange(len(self))[index]
        if chosen.ndim == 0:
            return read_photo(self.paths[chosen], self.shape[1:3])
        images = np.empty((len(chosen), *self.shape[1:]), np.uint8)
        for row, position in enumerate(chosen):
            images[row] = read_photo(self.paths[position], self.shape[1:3])
        return images


def _part_folders(root: Path) -> tuple[Path, Path | None]:
    """The folders of the classes to learn from, and of those held out if there are such."""
    train = root / "train"
    tests = [root / name for name in TEST_NAMES if (root / name).is_dir()]
    if train.is_dir():
        return train, tests[0] if tests else None
    if tests:
        raise ValueError(f"{root}: expected a folder train beside {tests[0].name}; found none")
    return root, None


def _list(
    root: Path, classes: tuple[str, ...] | None
) -> tuple[list[Path], np.ndarray, tuple[str, ...]]:
    """Paths and labels in the order of names; `classes` are those of the training part."""
    folders = _visible(root)
    for path in folders:
        if not path.is_dir():
            raise ValueError(
                f"{root}: expected only folders, one for each class; found {path.name}"
            )
    found = tuple(path.name for path in folders)
    if classes is None:
        classes = found
        if len(classes) < 2:
            raise ValueError(
                f"{root}: expected at least two folders of classes; found "
                f"{', '.join(found) or 'none'}"
            )
    unknown = [name for name in found if name not in classes]
    if unknown or not found:
        raise ValueError(
            f"{root}: expected the classes {', '.join(classes)}; found "
            f"{', '.join(unknown) or 'none'}"
        )
    images = {path.name: _images(path) for path in folders}
    paths = [path for members in images.values() for path in members]
    labels = [classes.index(name) for name, members in images.items() for _ in members]
    return paths, np.asarray(labels, np.int32), classes


def _images(folder: Path) -> list[Path]:
    paths = _visible(folder)
    if not paths:
        raise ValueError(f"{folder}: expected images; found an empty folder")
    for path in paths:
        if path.is_dir() or path.suffix.lower() not in SUFFIXES:
            raise ValueError(
                f"{path}: expected an image, {' '.join(SUFFIXES)}; found "
                f"{'a folder' if path.is_dir() else 'another kind of file'}"
            )
    return paths


def _visible(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.iterdir()
        if not path.name.startswith(".") and path.name.lower() not in LITTER
    )


def _usual(sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    commonest, count = collections.Counter(sizes).most_common(1)[0]
    typical = 2 * count > len(sizes) and max(commonest) <= LARGEST_OWN_SIZE
    return commonest if typical else DEFAULT_SIZE


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    pair = tuple(size) if isinstance(size, tuple | list) else (size, size)
    whole = all(isinstance(n, int | np.integer) and not isinstance(n, bool) for n in pair)
    if len(pair) != 2 or not whole or min(pair) < 1:
        raise ValueError(
            "load_folder: size must be a side or (H, W), whole numbers of at least 1 pixel; got "
            f"{size!r}"
        )
    return int(pair[0]), int(pair[1])
