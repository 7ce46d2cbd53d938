"""Handwritten digits: 1797 grey images of 8x8 pixels that scikit-learn carries within itself.

They are the test part of "Optical Recognition of Handwritten Digits" (Alpaydin & Kaynak 1998, UCI).
"""

from __future__ import annotations

import numpy as np

from jconv.data.dataset import Dataset, Datasets
from jconv.data.split import held_out, stratified_folds

SEED = 0  # Of the split, so that every run and every report speaks of the same images.


def read_digits() -> Dataset:
    """All 1797 digits, images uint8 (1797, 8, 8, 1).

    The published values 0 to 16 become 0 to 255: sixteenths of 255, rounded. The seventeen results
    differ, so nothing is lost.

    Raises:
      ImportError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits as sklearn_digits
    except ImportError as error:
        raise ImportError(
            "digits: the images are part of scikit-learn; run pip install "
            '"jconv[train]", or ".[train]" in a clone'
        ) from error
    pixels, labels = sklearn_digits(return_X_y=True)
    images = np.rint(pixels * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
    return Dataset("digits", images, labels.astype(np.int32), tuple("0123456789"))


def load_digits() -> Datasets:
    """The digits with a stratified tenth held out, always the same one."""
    digits = read_digits()
    return Datasets(*(digits.subset(index) for index in held_out(digits.labels, seed=SEED)))


def digits_folds(folds: int = 10) -> list[Datasets]:
    """The digits split `folds` times, stratified; each image is in one test part."""
    digits = read_digits()
    pairs = stratified_folds(digits.labels, folds=folds, seed=SEED)
    return [Datasets(digits.subset(train), digits.subset(test)) for train, test in pairs]
