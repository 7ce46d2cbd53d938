"""MNIST and Fashion-MNIST: found in every layout, told apart, checked."""

import re

import numpy as np
import pytest

from jconv.data import load, mnist
from jconv.data.mnist import FASHION_MNIST, MNIST, NAMES, remote_files
from tests.data.builders import idx_bytes, write_mnist


@pytest.mark.parametrize("folder", ["MNIST/raw", "."])
@pytest.mark.parametrize("pack", [True, False])
def test_reads_every_layout(tmp_path, folder, pack):
    parts = write_mnist(tmp_path / folder, pack=pack)
    for dataset, (images, labels) in zip(load("mnist", data_dir=tmp_path), parts, strict=True):
        np.testing.assert_array_equal(dataset.images, images)
        np.testing.assert_array_equal(dataset.labels, labels)
    assert dataset.classes == tuple("0123456789")


def test_reads_each_set_from_its_own_folder(tmp_path):
    write_mnist(tmp_path / "MNIST/raw", (6, 4))
    write_mnist(tmp_path / "FashionMNIST/raw", (7, 5))
    assert [len(part) for part in load("mnist", data_dir=tmp_path)] == [6, 4]
    fashion = load("fashion-mnist", data_dir=str(tmp_path))
    assert [len(part) for part in fashion] == [7, 5]
    assert fashion.train.classes[9] == "ankle boot"


def test_says_that_the_labels_are_those_of_the_other_set(tmp_path):
    write_mnist(tmp_path, (12, 4), labels=MNIST.openings[0])
    assert len(load("mnist", data_dir=tmp_path).train) == 12
    message = (
        "train-labels-idx1-ubyte.gz: expected the training labels of fashion-mnist; found the "
        "training labels of mnist, in a file of this name"
    )
    with pytest.raises(ValueError, match=message):
        load("fashion-mnist", data_dir=tmp_path)


OPENINGS = {
    "test_of_the_other_set": (
        MNIST,
        (MNIST.openings[0], FASHION_MNIST.openings[1]),
        "t10k-labels.*: expected the test labels of mnist; found the test labels of fashion-mnist",
    ),
    "training_of_the_other_set": (
        FASHION_MNIST,
        (MNIST.openings[0], FASHION_MNIST.openings[1]),
        "train-labels.*: expected the training labels of fashion-mnist; found the training .*mnist",
    ),
    "exchanged": (
        MNIST,
        MNIST.openings[::-1],
        "train-labels.*: expected the training labels of mnist; found the test labels of mnist",
    ),
    "test_is_training": (
        FASHION_MNIST,
        FASHION_MNIST.openings[:1] * 2,
        "t10k-labels.*: expected the test labels .*; found the training labels of fashion-mnist",
    ),
}


@pytest.mark.parametrize(("idx_set", "openings", "message"), OPENINGS.values(), ids=OPENINGS)
def test_says_whose_labels_they_are(tmp_path, idx_set, openings, message):
    write_mnist(tmp_path, (13, 12), pack=False)
    for prefix, opening, count in zip(("train", "t10k"), openings, (13, 12), strict=True):
        labels = np.resize(opening, count)
        (tmp_path / f"{prefix}-labels-idx1-ubyte").write_bytes(idx_bytes(labels))
    with pytest.raises(ValueError, match=message):
        load(idx_set.name, data_dir=tmp_path)


@pytest.mark.parametrize(("part", "counts"), [(0, (4, 9)), (1, (9, 6))])
def test_says_that_the_images_are_as_many_as_the_other_file_has(
    tmp_path, part, counts, monkeypatch
):
    monkeypatch.setattr(mnist, "COUNTS", (6, 4))
    write_mnist(tmp_path, counts)
    wrong, other = (tmp_path / NAMES[2 * i] for i in (part, 1 - part))
    message = f"{wrong}: expected the {(6, 4)[part]} {mnist.PARTS[part]} images; found "
    with pytest.raises(ValueError, match=re.escape(message) + f".*{re.escape(str(other))}"):
        load("mnist", data_dir=tmp_path)


def test_the_published_counts():
    assert mnist.COUNTS == (60000, 10000)


def test_says_that_images_and_labels_differ_in_number(tmp_path):
    write_mnist(tmp_path, pack=False)
    path = tmp_path / "t10k-labels-idx1-ubyte"
    path.write_bytes(idx_bytes([1, 2, 3]))
    message = f"{path}: expected 4 labels, as many as there are images in {tmp_path}"
    with pytest.raises(ValueError, match=re.escape(message) + ".* found 3"):
        load("mnist", data_dir=tmp_path)


def test_says_where_it_looked_and_where_to_get_the_file(tmp_path):
    write_mnist(tmp_path)
    (tmp_path / NAMES[1]).unlink()
    with pytest.raises(FileNotFoundError) as info:
        load("mnist", data_dir=tmp_path, download=False)
    message, file = str(info.value), remote_files(MNIST)[1]
    for part in (
        "mnist: train-labels-idx1-ubyte.gz is in none of",
        str(tmp_path / "MNIST/raw" / file.name),
        str(tmp_path / file.name),
        str(tmp_path / "train-labels-idx1-ubyte,"),
        "downloads are off",
        *file.urls,
        file.sha256,
        f"put it into {tmp_path / 'MNIST/raw'}",
    ):
        assert part in message


@pytest.mark.parametrize("idx_set", [MNIST, FASHION_MNIST], ids=lambda idx_set: idx_set.name)
def test_the_published_files(data_dir, idx_set):
    try:
        train, test = load(idx_set.name, data_dir=data_dir, download=False)
    except FileNotFoundError as error:
        pytest.skip(str(error))
    assert train.images.shape == (60000, 28, 28, 1)
    assert test.images.shape == (10000, 28, 28, 1)
    assert tuple(train.labels[:12].tolist()) == idx_set.openings[0]
    assert tuple(test.labels[:12].tolist()) == idx_set.openings[1]
    if idx_set is FASHION_MNIST:
        assert set(np.bincount(train.labels)) == {6000}
    else:
        counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
        np.testing.assert_array_equal(np.bincount(test.labels), counts)
