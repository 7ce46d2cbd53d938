"""Mean and standard deviation of each channel, in units of the full range: 1 is a value of 255."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from jconv.data.dataset import Dataset

CHUNK = 1024  # images


class Statistics(NamedTuple):
    """What `normalize` takes: one number per channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


# Of all pixels of the training images. Those of MNIST, Fashion-MNIST and the CIFARs are the
# published ones. (The smaller std for CIFAR-10 that is often seen, .2023 .1994 .2010, averages
# the std of single images.)
STATISTICS = {
    "digits": Statistics((0.3054,), (0.3759,)),
    "mnist": Statistics((0.1307,), (0.3081,)),
    "fashion-mnist": Statistics((0.2860,), (0.3530,)),
    "cifar10": Statistics((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": Statistics((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
}


def channel_statistics(dataset: Dataset, *, most: int | None = None, seed: int = 0) -> Statistics:
    """Mean and std of each channel over all pixels, exact: the sums are of integers.

    A channel that has one value everywhere gets a std of 1, by which `normalize` can divide: its
    pixels become 0.

    Args:
      most: only so many images, drawn at random, where decoding them all would take long.

    Raises:
      ValueError: `most` is below 1.
    """
    if most is not None and most < 1:
        raise ValueError(f"channel_statistics: most must be at least 1 image; got {most}")
    index = np.arange(len(dataset))
    if most is not None and most < len(dataset):
        index = np.sort(np.random.default_rng(seed).choice(len(dataset), most, replace=False))
    counts = np.zeros((dataset.image_shape[2], 256), np.int64)  # [channel, value]
    for start in range(0, len(index), CHUNK):
        images = dataset.images[index[start : start + CHUNK]]
        for channel, count in enumerate(counts):
            count += np.bincount(images[..., channel].ravel(), minlength=256)
    values = np.arange(256) / 255
    weights = counts / counts.sum(1, keepdims=True)
    mean = weights @ values
    std = np.sqrt((weights * (values - mean[:, None]) ** 2).sum(1))
    return Statistics(tuple(mean.tolist()), tuple(np.where(std > 0, std, 1.0).tolist()))
