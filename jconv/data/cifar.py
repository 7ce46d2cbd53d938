"""CIFAR-10 and CIFAR-100, binary version: 50 000 + 10 000 colour images of 32x32 pixels.

A file is records with nothing between them. A record is its labels, one byte each (CIFAR-100: the
coarse, then the fine one), then 1024 red, 1024 green and 1024 blue values, row by row.

Reference: Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images".
"""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import numpy as np

from jconv.data.archive import extract
from jconv.data.dataset import Dataset, Datasets
from jconv.data.download import RemoteFile
from jconv.data.locate import download_absent, find, places

PIXELS = 32 * 32 * 3  # bytes of one image
NAMES_LIMIT = 1 << 16  # bytes of a file of class names


@dataclasses.dataclass(frozen=True)
class CifarSet:
    """One of the two sets.

    Attributes:
      folder: the archive's folder, and where the files lie below the data folder.
      train: files of training images.
      test: the file of test images.
      records: images in each training file, and in the test file.
      labels: bytes before the pixels; the last is the label.
      classes: how many.
      names: the file of class names.
    """

    name: str
    folder: str
    train: tuple[str, ...]
    test: str
    records: tuple[int, int]
    labels: int
    classes: int
    names: str
    archive: RemoteFile

    def members(self) -> dict[str, int]:
        """The files that are needed, and the most bytes that each may have."""
        record = self.labels + PIXELS
        sizes = dict.fromkeys(self.train, self.records[0] * record)
        return {**sizes, self.test: self.records[1] * record, self.names: NAMES_LIMIT}


CIFAR10 = CifarSet(
    "cifar10",
    "cifar-10-batches-bin",
    tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
    "test_batch.bin",
    (10_000, 10_000),
    1,
    10,
    "batches.meta.txt",
    RemoteFile(
        "cifar-10-binary.tar.gz",
        170052171,
        "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        ("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",),
    ),
)
CIFAR100 = CifarSet(
    "cifar100",
    "cifar-100-binary",
    ("train.bin",),
    "test.bin",
    (50_000, 10_000),
    2,
    100,
    "fine_label_names.txt",
    RemoteFile(
        "cifar-100-binary.tar.gz",
        168513733,
        "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
        ("https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",),
    ),
)


def load_cifar(cifar: CifarSet, root: Path, *, download: bool = True) -> Datasets:
    """Reads the set from `root`; CIFAR-100 with its 100 fine labels.

    The files may lie in the archive's folder below `root` or directly in `root`. If one is absent,
    they are unpacked from the archive, if that lies in `root`, and else from the publisher's.

    Raises:
      FileNotFoundError: a file is absent and can't be downloaded.
      ValueError: a file is not what it should be, with its name, what was expected and found.
    """
    paths = _paths(cifar, root, download)
    classes = _read_names(paths[cifar.names], cifar.classes)
    train = [_read(cifar, paths[name], cifar.records[0]) for name in cifar.train]
    test = _read(cifar, paths[cifar.test], cifar.records[1])
    _check_distinct([paths[name] for name in (*cifar.train, cifar.test)], [*train, test])
    images, labels = (np.concatenate(parts) for parts in zip(*train, strict=True))
    return Datasets(
        Dataset(cifar.name, images, labels, classes), Dataset(cifar.name, *test, classes)
    )


def _paths(cifar: CifarSet, root: Path, download: bool) -> dict[str, Path]:
    found = {name: find(root, cifar.folder, [name]) for name in cifar.members()}
    present = {name: path for name, path in found.items() if path is not None}
    if len(present) == len(found):
        return present
    absent = [name for name in found if name not in present]
    archive = root / cifar.archive.name
    if not archive.is_file():
        looked = [path for name in absent for path in places(root, cifar.folder, [name])]
        download_absent(cifar.name, cifar.archive, root, [archive, *looked], download=download)
        unpacked = _unpack(cifar, archive, absent)
        archive.unlink()  # It has done its work; one that the user put here stays.
        return present | unpacked
    return present | _unpack(cifar, archive, absent)


def _unpack(cifar: CifarSet, archive: Path, names: list[str]) -> dict[str, Path]:
    wanted = {f"{cifar.folder}/{name}": cifar.members()[name] for name in names}
    return extract(archive, wanted, archive.parent / cifar.folder)


def _read(cifar: CifarSet, path: Path, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (count, 32, 32, 3) and labels int32 (count,) of one file."""
    record = cifar.labels + PIXELS
    size = path.stat().st_size
    # The byte count is all the structure that the format has, so it is taken seriously.
    if size != count * record:
        raise ValueError(
            f"{path}: expected {count * record} bytes ({count} records of {record}); found {size}"
        )
    records = np.fromfile(path, np.uint8, count * record).reshape(count, record)
    labels = records[:, cifar.labels - 1]
    wrong = np.flatnonzero(labels >= cifar.classes)
    if wrong.size:
        raise ValueError(
            f"{path}: expected labels 0 to {cifar.classes - 1}; found {labels[wrong[0]]} in "
            f"record {wrong[0]}"
        )
    pixels = records[:, cifar.labels :].reshape(count, 3, 32, 32)
    return np.ascontiguousarray(pixels.transpose(0, 2, 3, 1)), labels.astype(np.int32)


def _check_distinct(paths: list[Path], parts: list[tuple[np.ndarray, np.ndarray]]) -> None:
    """That no file is a copy of another: the names and sizes of all are alike."""
    for (first, a), (second, b) in itertools.combinations(zip(paths, parts, strict=True), 2):
        # The labels first: they differ at once where the pixels take a while.
        if np.array_equal(a[1], b[1]) and np.array_equal(a[0], b[0]):
            raise ValueError(
                f"{second}: expected other images than those of {first}; found the same "
                f"{len(b[1])} images"
            )


def _read_names(path: Path, count: int) -> tuple[str, ...]:
    size = path.stat().st_size
    if size > NAMES_LIMIT:
        raise ValueError(f"{path}: expected at most {NAMES_LIMIT} bytes of names; found {size}")
    try:
        lines = path.read_text("utf-8-sig").split("\n")  # Windows editors begin with a mark
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: expected text, a class name in each line; found {error}"
        ) from error
    names = tuple(line.strip() for line in lines if line.strip())
    if len(set(names)) != count or len(names) != count:
        raise ValueError(
            f"{path}: expected {count} different class names; found {len(names)}, "
            f"{len(set(names))} of them different"
        )
    return names
