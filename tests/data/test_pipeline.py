"""Batches: every image as often as it should be, in an order that can be resumed and shared."""

import itertools

import numpy as np
import pytest

from jconv.data import batches, eval_batches, load_folder
from tests.data.builders import random_dataset, write_photos


def seen(iterator, count=None):
    """Which images the batches hold, in order: the first pixel of an image is its number."""
    taken = itertools.islice(iterator, count)
    return [batch["image"][:, 0, 0, 0].tolist() for batch in taken]


def flat(lists):
    return [item for items in lists for item in items]


def test_a_batch_is_images_with_their_labels():
    dataset = random_dataset(10)
    for batch in batches(dataset, 3, seed=0, epochs=2):
        index = batch["image"][:, 0, 0, 0]
        np.testing.assert_array_equal(batch["image"], dataset.images[index])
        np.testing.assert_array_equal(batch["label"], dataset.labels[index])
        assert set(batch) == {"image", "label"}
        assert (batch["image"].dtype, batch["label"].dtype) == (np.uint8, np.int32)


@pytest.mark.parametrize("shuffle", [True, False])
def test_every_image_once_an_epoch(shuffle):
    order = flat(seen(batches(random_dataset(12), 4, seed=0, epochs=3, shuffle=shuffle)))
    epochs = [order[i : i + 12] for i in (0, 12, 24)]
    assert all(sorted(epoch) == list(range(12)) for epoch in epochs)
    orders = {tuple(epoch) for epoch in epochs}
    assert orders == {tuple(range(12))} if not shuffle else len(orders) == 3


def test_epochs_follow_without_a_seam():
    groups = seen(batches(random_dataset(10), 4, seed=0, epochs=2))
    assert [len(group) for group in groups] == [4] * 5
    assert sorted(flat(groups)) == sorted([*range(10)] * 2)


def test_the_remainder_is_dropped_or_given():
    dataset = random_dataset(10)
    dropped = seen(batches(dataset, 4, seed=0, epochs=1))
    given = seen(batches(dataset, 4, seed=0, epochs=1, drop_remainder=False))
    assert [len(group) for group in given] == [4, 4, 2]
    assert dropped == given[:2]
    assert sorted(flat(given)) == list(range(10))
    assert [len(g) for g in seen(batches(dataset, 16, seed=0, epochs=1, drop_remainder=False))] == [
        10
    ]


def test_the_seed_decides_the_order():
    dataset = random_dataset(30)
    first, again, other = (flat(seen(batches(dataset, 5, seed=s), 12)) for s in (3, 3, 4))
    assert first == again
    assert first != other
    # Neighbouring seeds must not give the same epochs, one later.
    assert first[30:] != other[:30]


def test_no_end_without_epochs():
    assert len(seen(batches(random_dataset(4), 4, seed=0), 50)) == 50


def lazy_dataset(tmp_path):
    write_photos(tmp_path / "train", count=5)
    write_photos(tmp_path / "test", count=5)
    return load_folder(tmp_path).train


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("stop", [0, 1, 4, 9])
def test_a_restored_iterator_goes_on_exactly(tmp_path, lazy, stop):
    dataset = lazy_dataset(tmp_path) if lazy else random_dataset(10)
    whole = [batch["image"] for batch in itertools.islice(batches(dataset, 3, seed=1), 14)]
    stopped = batches(dataset, 3, seed=1)
    for _ in range(stop):
        next(stopped)
    state = stopped.get_state()
    resumed = batches(dataset, 3, seed=1)
    next(resumed)
    resumed.set_state(state)
    for expected in whole[stop:]:
        np.testing.assert_array_equal(next(resumed)["image"], expected)


def test_the_state_is_that_of_the_last_batch_given(tmp_path):
    # Files are read ahead of time; that must not show in the state.
    iterator = batches(lazy_dataset(tmp_path), 2, seed=0)
    next(iterator)
    state = iterator.get_state()
    following = next(iterator)["image"]
    iterator.set_state(state)
    np.testing.assert_array_equal(next(iterator)["image"], following)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_shards_make_up_the_global_batch(count):
    dataset = random_dataset(21)
    whole = seen(batches(dataset, 8, seed=0, epochs=2))
    shards = [seen(batches(dataset, 8, seed=0, epochs=2, shard=(i, count))) for i in range(count)]
    assert [flat(parts) for parts in zip(*shards, strict=True)] == whole


def test_an_unreadable_image_is_named(tmp_path):
    dataset = lazy_dataset(tmp_path)
    (tmp_path / "train" / "dog" / "3.png").write_bytes(b"gone bad")
    with pytest.raises(ValueError, match=r"3\.png: expected an image that can be read"):
        list(batches(dataset, 2, seed=0, epochs=1))


@pytest.mark.parametrize(
    ("batch_size", "kwargs", "message"),
    [
        (0, {}, "batch_size must be at least 1; got 0"),
        (-2, {}, "batch_size must be at least 1; got -2"),
        (11, {}, "batch_size 11 exceeds the 10 images of made; got drop_remainder=True"),
        (2, {"epochs": 0}, "epochs must be at least 1, or None for no end; got 0"),
        (2, {"seed": -1}, r"seed must be 0 to 2\*\*32 - 1; got -1"),
        (2, {"seed": 2**32}, r"seed must be 0 to 2\*\*32 - 1; got"),
        (3, {"shard": (0, 2)}, "batch_size 3 can't be divided among 2 hosts"),
        (4, {"shard": (2, 2)}, r"shard must be \(index, count\), 0 <= index < count; got \(2, 2\)"),
        (4, {"shard": (0, 0)}, r"shard must be \(index, count\)"),
        (4, {"shard": (0, 2), "drop_remainder": False}, "hosts with unequal batches"),
    ],
)
def test_says_what_is_wrong(batch_size, kwargs, message):
    with pytest.raises(ValueError, match=f"batches: .*{message}"):
        batches(random_dataset(10), batch_size, **{"seed": 0, **kwargs})


@pytest.mark.parametrize("batch_size", [1, 3, 5, 10, 16])
def test_evaluation_sees_every_image_once(batch_size):
    dataset = random_dataset(10)
    found = list(eval_batches(dataset, batch_size))
    assert all(batch["image"].shape == (batch_size, 4, 4, 1) for batch in found)
    assert all(batch["label"].shape == batch["mask"].shape == (batch_size,) for batch in found)
    assert {batch["mask"].dtype for batch in found} == {np.dtype(bool)}
    images, labels = (
        np.concatenate([batch[name][batch["mask"]] for batch in found])
        for name in ("image", "label")
    )
    np.testing.assert_array_equal(images, dataset.images)
    np.testing.assert_array_equal(labels, dataset.labels)
    padding = np.concatenate([batch["image"][~batch["mask"]] for batch in found])
    assert not padding.any()


def test_evaluation_of_shards_makes_up_the_whole():
    dataset = random_dataset(9)
    whole = list(eval_batches(dataset, 4))
    shards = [list(eval_batches(dataset, 4, shard=(i, 2))) for i in range(2)]
    for expected, *parts in zip(whole, *shards, strict=True):
        for name, value in expected.items():
            np.testing.assert_array_equal(np.concatenate([part[name] for part in parts]), value)


def test_evaluation_can_be_resumed_and_reads_files(tmp_path):
    dataset = lazy_dataset(tmp_path)
    iterator = eval_batches(dataset, 4)
    next(iterator)
    state = iterator.get_state()
    following = next(iterator)
    iterator.set_state(state)
    np.testing.assert_array_equal(next(iterator)["image"], following["image"])


def test_says_what_is_wrong_with_an_evaluation():
    with pytest.raises(ValueError, match="eval_batches: batch_size must be at least 1; got 0"):
        eval_batches(random_dataset(3), 0)
    with pytest.raises(ValueError, match="eval_batches: batch_size 3 can't be divided among 2"):
        eval_batches(random_dataset(3), 3, shard=(0, 2))
