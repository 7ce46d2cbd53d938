"""MNIST and Fashion-MNIST: 28x28 grey images in ten classes, 60 000 to learn from, 10 000 to test.

References: LeCun, Bottou, Bengio & Haffner 1998, "Gradient-based learning applied to document
recognition"; Xiao, Rasul & Vollgraf 2017, "Fashion-MNIST", arXiv:1708.07747.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from jconv.data.dataset import Dataset, Datasets
from jconv.data.download import RemoteFile
from jconv.data.idx import read_images, read_labels
from jconv.data.locate import download_absent, find, places

PIXELS = (28, 28)
COUNTS = (60_000, 10_000)  # images to learn from, to test
PARTS = ("training", "test")
NAMES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)


@dataclasses.dataclass(frozen=True)
class IdxSet:
    """A data set in four IDX files.

    Attributes:
      folder: where the files lie below the data folder, as in torchvision.
      classes: names in the order of the labels.
      openings: the first labels of each of `PARTS`. They tell files apart that have the same names.
      urls: folders on servers.
      files: bytes and SHA-256 of each of `NAMES`.
    """

    name: str
    folder: str
    classes: tuple[str, ...]
    openings: tuple[tuple[int, ...], tuple[int, ...]]
    urls: tuple[str, ...]
    files: tuple[tuple[int, str], ...]


MNIST = IdxSet(
    "mnist",
    "MNIST/raw",
    tuple("0123456789"),
    ((5, 0, 4, 1, 9, 2, 1, 3, 1, 4, 3, 5), (7, 2, 1, 0, 4, 1, 4, 9, 5, 9, 0, 6)),
    (
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
    ),
    (
        (9912422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
        (28881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
        (1648877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
        (4542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
    ),
)
FASHION_MNIST = IdxSet(
    "fashion-mnist",
    "FashionMNIST/raw",
    (
        "T-shirt/top", "trouser", "pullover", "dress", "coat",
        "sandal", "shirt", "sneaker", "bag", "ankle boot",
    ),
    ((9, 0, 0, 3, 0, 2, 7, 2, 5, 5, 0, 9), (9, 2, 1, 1, 6, 1, 4, 6, 5, 7, 4, 5)),
    ("https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",),
    (
        (26421880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
        (29515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
        (4422102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
        (5148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
    ),
)  # fmt: skip


def load_idx_set(idx_set: IdxSet, root: Path, *, download: bool = True) -> Datasets:
    """Reads the four files from `root`, after downloading into it those that are absent.

    The files need not be the published ones, but those of another set or part are not taken: they
    are known by their first labels, and by a number of images that is published for the other part.

    Raises:
      FileNotFoundError: a file is absent and can't be downloaded.
      ValueError: a file is not what it should be, with its name, what was expected and found.
    """
    paths = [_path(idx_set, file, root, download) for file in remote_files(idx_set)]
    train, test = (_read(idx_set, part, paths) for part in range(2))
    for part, dataset in enumerate((train, test)):
        _check_opening(idx_set, part, dataset, paths[2 * part + 1], root)
    return Datasets(train, test)


def remote_files(idx_set: IdxSet) -> list[RemoteFile]:
    """What to download, in the order of `NAMES`."""
    return [
        RemoteFile(name, size, sha256, tuple(url + name for url in idx_set.urls))
        for name, (size, sha256) in zip(NAMES, idx_set.files, strict=True)
    ]


def _path(idx_set: IdxSet, file: RemoteFile, root: Path, download: bool) -> Path:
    names = (file.name, file.name.removesuffix(".gz"))
    found = find(root, idx_set.folder, names)
    if found is not None:
        return found
    looked = places(root, idx_set.folder, names)
    target = root / idx_set.folder
    return download_absent(idx_set.name, file, target, looked, download=download)


def _read(idx_set: IdxSet, part: int, paths: Sequence[Path]) -> Dataset:
    images_path, labels_path = paths[2 * part : 2 * part + 2]
    images = read_images(images_path, size=PIXELS)
    other = 1 - part
    if len(images) == COUNTS[other]:
        raise ValueError(
            f"{images_path}: expected the {COUNTS[part]:,} {PARTS[part]} images; found "
            f"{len(images):,}, as many as belong in {paths[2 * other]}; the two may be exchanged"
        )
    labels = read_labels(labels_path, classes=len(idx_set.classes))
    if len(images) != len(labels):
        raise ValueError(
            f"{labels_path}: expected {len(images)} labels, as many as there are images in "
            f"{images_path}; found {len(labels)}"
        )
    return Dataset(idx_set.name, images, labels, idx_set.classes)


def _check_opening(idx_set: IdxSet, part: int, dataset: Dataset, path: Path, root: Path) -> None:
    """That the labels are not known to be those of another set or of the other part."""
    own = f"{PARTS[part]} labels of {idx_set.name}"
    for other in (MNIST, FASHION_MNIST):
        for name, opening in zip(PARTS, other.openings, strict=True):
            found = f"{name} labels of {other.name}"
            if found != own and tuple(dataset.labels[: len(opening)].tolist()) == opening:
                raise ValueError(
                    f"{path}: expected the {own}; found the {found}, in a file of this name; put "
                    f"the files of {idx_set.name}, as they are published, into "
                    f"{root / idx_set.folder}"
                )
