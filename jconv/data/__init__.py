"""Data sets by name or from a folder, batches of them, and augmentation.

train, test = jconv.data.load("cifar10")
for batch in jconv.data.batches(train, 128, seed=0, epochs=1): ...
"""

from __future__ import annotations

import difflib
import functools
from pathlib import Path

from jconv.data import augment as augment
from jconv.data.cifar import CIFAR10, CIFAR100, load_cifar
from jconv.data.dataset import Dataset as Dataset
from jconv.data.dataset import Datasets as Datasets
from jconv.data.dataset import Images as Images
from jconv.data.digits import digits_folds as digits_folds
from jconv.data.digits import load_digits as load_digits
from jconv.data.digits import read_digits as read_digits
from jconv.data.folder import load_folder as load_folder
from jconv.data.mnist import FASHION_MNIST, MNIST, load_idx_set
from jconv.data.photo import read_photo as read_photo
from jconv.data.pipeline import batches as batches
from jconv.data.pipeline import eval_batches as eval_batches
from jconv.data.split import held_out as held_out
from jconv.data.split import stratified_folds as stratified_folds
from jconv.data.statistics import STATISTICS as STATISTICS
from jconv.data.statistics import Statistics as Statistics
from jconv.data.statistics import channel_statistics as channel_statistics
from jconv.folders import cache_dir as cache_dir

# Name -> reader of (data folder, download); the digits need neither.
DATASETS = {
    "digits": lambda root, download: load_digits(),
    "mnist": functools.partial(load_idx_set, MNIST),
    "fashion-mnist": functools.partial(load_idx_set, FASHION_MNIST),
    "cifar10": functools.partial(load_cifar, CIFAR10),
    "cifar100": functools.partial(load_cifar, CIFAR100),
}


def load(
    name_or_dir: str | Path,
    *,
    data_dir: str | Path | None = None,
    download: bool = True,
    image_size: int | tuple[int, int] | None = None,
) -> Datasets:
    """A data set by its name, or a folder of images by class.

    A name is tried first; write "./mnist", or a Path, for a folder called like a data set.

    Args:
      data_dir: where the files of a named set lie, in the folders that torchvision uses
        (cifar-10-batches-bin, cifar-100-binary, MNIST/raw, FashionMNIST/raw) or directly, and where
        they are downloaded to. Default: `cache_dir()`.
      download: whether files that are absent may be downloaded from their publisher.
      image_size: pixels, a side or (H, W), for a folder only; see `load_folder`.

    Raises:
      ValueError: no such name or folder, a damaged file, or an `image_size` for a named set.
      FileNotFoundError: files are absent and can't be downloaded.
    """
    reader = DATASETS.get(name_or_dir) if isinstance(name_or_dir, str) else None
    if reader is None:
        # Path("") is the current folder, which nobody means by an empty name.
        if name_or_dir == "" or not Path(name_or_dir).is_dir():
            raise ValueError(_unknown(str(name_or_dir)))
        return load_folder(Path(name_or_dir), size=image_size)
    if image_size is not None:
        raise ValueError(
            f"load: image_size is for folders, {name_or_dir} has its own; got {image_size}"
        )
    root = cache_dir() if data_dir is None else Path(data_dir)
    return reader(root, download=download)


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name.lower().replace("_", "-"), DATASETS, n=3, cutoff=0.6)
    hint = f" did you mean {' or '.join(near)}?" if near else ""
    return (
        f"load: {name!r} is neither a data set nor a folder;{hint} data sets: {', '.join(DATASETS)}"
    )
