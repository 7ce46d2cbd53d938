"""Batches for training and evaluation, in a fixed order, with Grain.

Grain shuffles, repeats and batches *indices*; the images of a batch are then taken in one step, so
that an image costs Python next to nothing. Every batch is a function of the seed and its number,
and that number is the whole state of an iterator.
"""

from __future__ import annotations

import operator
from typing import Any

import grain
import numpy as np

from jconv.data.dataset import Dataset

# Arrays are gathered in the caller's thread, which is the fastest. Files are decoded ahead of time,
# by threads: Pillow and zlib work without the interpreter's lock.
IN_MEMORY = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
ON_DEMAND = grain.ReadOptions(num_threads=8, prefetch_buffer_size=16)


def batches(
    dataset: Dataset,
    batch_size: int,
    *,
    seed: int,
    epochs: int | None = None,
    shuffle: bool = True,
    drop_remainder: bool = True,
    shard: tuple[int, int] = (0, 1),
) -> grain.DatasetIterator[dict[str, Any]]:
    """Batches {"image": uint8 (B, H, W, C), "label": int32 (B,)} to learn from.

    Epochs follow each other without a seam: a batch may have the last images of one and the first
    of the next, and no image is passed over but, with `drop_remainder`, the fewer than B at the
    very end. Each epoch has an order of its own.

    The iterator's `get_state()` is a small dict; after `set_state(state)` on an iterator made with
    the same arguments, the next batch is the one that the first iterator would have given.

    Args:
      batch_size: B, over all hosts.
      seed: of the order, 0 to 2**32 - 1.
      epochs: None goes on for ever.
      drop_remainder: False gives the last images too, in a batch of fewer than B.
      shard: (index, count) of this host among several: it gets the rows index * B / count onwards,
        B / count of them, of the very batches that a single host would get.

    Raises:
      ValueError: an argument is out of range, or the data set is smaller than a batch.
    """
    size = _check_size("batches", batch_size, shard)
    if epochs is not None and epochs < 1:
        raise ValueError(f"batches: epochs must be at least 1, or None for no end; got {epochs}")
    if not 0 <= seed < 2**32:
        raise ValueError(f"batches: seed must be 0 to 2**32 - 1; got {seed}")
    if drop_remainder and size > len(dataset):
        raise ValueError(
            f"batches: batch_size {size} exceeds the {len(dataset)} images of {dataset.name}; got "
            "drop_remainder=True"
        )
    if not drop_remainder and shard[1] > 1:
        raise ValueError(
            "batches: drop_remainder=False leaves hosts with unequal batches; use eval_batches; "
            f"got shard {shard}"
        )
    rows = _rows(size, shard)
    index = grain.MapDataset.range(len(dataset)).seed(seed)
    index = (index.shuffle() if shuffle else index).repeat(epochs)
    index = index.batch(size, drop_remainder=drop_remainder, batch_fn=np.asarray)
    return _iterate(index.map(lambda chosen: _gather(dataset, chosen[rows])), dataset)


def eval_batches(
    dataset: Dataset, batch_size: int, *, shard: tuple[int, int] = (0, 1)
) -> grain.DatasetIterator[dict[str, Any]]:
    """Every image once, in order, in batches of one shape, so that evaluation compiles once.

    Batches are {"image": uint8 (B, H, W, C), "label": int32 (B,), "mask": bool (B,)}. The last one
    is filled up with black images of label 0, where the mask is False.

    Args:
      batch_size: B, over all hosts; it may exceed the data set.
      shard: (index, count) of this host among several, as in `batches`.

    Raises:
      ValueError: an argument is out of range.
    """
    size = _check_size("eval_batches", batch_size, shard)
    rows, total = _rows(size, shard), len(dataset)

    def padded(number: int) -> dict[str, Any]:
        chosen = np.arange(number * size, (number + 1) * size)[rows]
        real = chosen[chosen < total]
        batch = _gather(dataset, real)
        missing = len(chosen) - len(real)
        fill = {name: ((0, missing),) + ((0, 0),) * (x.ndim - 1) for name, x in batch.items()}
        batch = {name: np.pad(x, fill[name]) for name, x in batch.items()} if missing else batch
        return {**batch, "mask": chosen < total}

    return _iterate(grain.MapDataset.range(-(-total // size)).map(padded), dataset)


def _gather(dataset: Dataset, index: np.ndarray) -> dict[str, Any]:
    return {"image": dataset.images[index], "label": dataset.labels[index]}


def _iterate(source: grain.MapDataset, dataset: Dataset) -> grain.DatasetIterator[dict[str, Any]]:
    in_memory = isinstance(dataset.images, np.ndarray)
    return iter(source.to_iter_dataset(IN_MEMORY if in_memory else ON_DEMAND))


def _rows(size: int, shard: tuple[int, int]) -> slice:
    share = size // shard[1]
    return slice(shard[0] * share, (shard[0] + 1) * share)


def _check_size(who: str, batch_size: int, shard: tuple[int, int]) -> int:
    """`batch_size` as an int."""
    size = operator.index(batch_size)
    if size < 1:
        raise ValueError(f"{who}: batch_size must be at least 1; got {size}")
    index, count = shard
    if count < 1 or not 0 <= index < count:
        raise ValueError(f"{who}: shard must be (index, count), 0 <= index < count; got {shard}")
    if size % count:
        raise ValueError(
            f"{who}: batch_size {size} can't be divided among {count} hosts; got shard {shard}"
        )
    return size
