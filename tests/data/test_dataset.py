"""The parts of a Dataset fit together, and a subset keeps them together."""

import dataclasses
import hashlib
import re
import shutil

import numpy as np
import pytest

from jconv.data import Dataset, load_folder
from jconv.data import dataset as dataset_module
from tests.data.builders import random_dataset, random_images, write_image, write_photos


class Counted:
    """Images on demand that remember what was asked for."""

    def __init__(self, images):
        self.images, self.asked = images, []
        self.shape, self.dtype = images.shape, images.dtype

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        self.asked.append(np.asarray(index).tolist())
        return self.images[index]


def test_subset_of_an_array():
    whole = random_dataset(10)
    part = whole.subset(np.array([7, 2, 2]))
    np.testing.assert_array_equal(part.images, whole.images[[7, 2, 2]])
    np.testing.assert_array_equal(part.labels, whole.labels[[7, 2, 2]])
    assert (len(part), part.classes, part.image_shape) == (3, whole.classes, (4, 4, 1))


def test_subset_on_demand_reads_only_what_is_asked_for():
    whole = random_dataset(10)
    lazy = Counted(whole.images)
    part = Dataset("lazy", lazy, whole.labels, whole.classes).subset(np.array([7, 2, 5]))
    assert lazy.asked == []
    assert part.images.shape == (3, 4, 4, 1)
    np.testing.assert_array_equal(part.images[np.array([2, 0])], whole.images[[5, 7]])
    assert lazy.asked == [[5, 7]]
    twice = part.subset(np.array([1]))
    np.testing.assert_array_equal(twice.images[np.array([0])], whole.images[[2]])


def changed(values, where, value):
    values = values.copy()
    values[where] = value
    return values


WHOLE = random_dataset(10)
OTHER = {
    "pixel": lambda d: dataclasses.replace(d, images=changed(d.images, (9, 3, 3, 0), 1)),
    "label": lambda d: dataclasses.replace(d, labels=changed(d.labels, 4, 5)),
    "class": lambda d: dataclasses.replace(d, classes=(*d.classes[:9], "nine")),
    "order": lambda d: d.subset(np.array([1, 0, *range(2, 10)])),
    "one_less": lambda d: d.subset(np.arange(9)),
    "shape": lambda d: dataclasses.replace(d, images=d.images.reshape(10, 2, 8, 1)),
    "classes_joined": lambda d: dataclasses.replace(d, classes=(*d.classes, "x")),
}


def test_fingerprint_of_arrays(monkeypatch):
    monkeypatch.setattr(dataset_module, "CHUNK", 4)  # so that ten images are three chunks
    own = WHOLE.fingerprint()
    assert re.fullmatch("[0-9a-f]{64}", own)
    assert dataclasses.replace(WHOLE, name="renamed").fingerprint() == own
    turned = np.asfortranarray(WHOLE.images)
    assert dataclasses.replace(WHOLE, images=turned).fingerprint() == own
    assert dataclasses.replace(WHOLE, images=Counted(WHOLE.images)).fingerprint() == own
    assert WHOLE.subset(np.arange(10)).fingerprint() == own
    others = {name: change(WHOLE).fingerprint() for name, change in OTHER.items()}
    assert len({own, *others.values()}) == len(others) + 1, others


def test_fingerprint_is_the_same_everywhere():
    images = np.arange(8, dtype=np.uint8).reshape(2, 2, 2, 1)
    made = Dataset("made", images, np.array([1, 0], np.int32), ("a", "é"))
    header = b'[2, 2, 2, 1, "a", "\\u00e9"]\n' + bytes([1, 0, 0, 0, 0, 0, 0, 0])
    assert made.fingerprint() == hashlib.sha256(header + bytes(range(8))).hexdigest()


def test_fingerprint_of_files(tmp_path):
    write_photos(tmp_path / "here", count=10)
    train, test = load_folder(tmp_path / "here")
    own, held = train.fingerprint(), test.fingerprint()
    shutil.copytree(tmp_path / "here", tmp_path / "elsewhere")
    moved = load_folder(tmp_path / "elsewhere")
    assert [part.fingerprint() for part in moved] == [own, held]
    assert own != held
    others = [
        train.subset(np.arange(1, len(train))),
        train.subset(np.array([1, 0, *range(2, len(train))])),
        dataclasses.replace(train, labels=changed(train.labels, 0, 1)),
        load_folder(tmp_path / "here", size=4).train,
        load_folder(tmp_path / "here", seed=1).train,
    ]
    write_image(tmp_path / "elsewhere" / "cat" / "new.png", random_images(1, 8, 10, 3)[0])
    others.append(load_folder(tmp_path / "elsewhere").train)
    assert len({own, *(other.fingerprint() for other in others)}) == len(others) + 1


def test_fingerprint_of_files_reads_their_sizes_only(tmp_path):
    write_photos(tmp_path / "train", count=2)
    write_photos(tmp_path / "test", count=1)
    train = load_folder(tmp_path).train
    own, path = train.fingerprint(), train.images.paths[3]
    path.write_bytes(bytes(path.stat().st_size))
    assert train.fingerprint() == own
    path.write_bytes(b"short")
    assert train.fingerprint() != own
    path.unlink()
    with pytest.raises(FileNotFoundError):
        train.fingerprint()


LABELS = np.zeros(3, np.int32)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros((3, 4, 4, 1)), LABELS, r"must be uint8 \(N, H, W, C\); got images float64\[3, 4"),
        (np.zeros((3, 4, 4), np.uint8), LABELS, r"must be uint8 \(N, H, W, C\)"),
        (random_images(3, 4, 4, 1), LABELS.astype(np.int64), r"labels must be int32 \(N,\)"),
        (random_images(3, 4, 4, 1), LABELS[:, None], r"labels must be int32 \(N,\)"),
        (random_images(2, 4, 4, 1), LABELS, "2 images but 3 labels"),
        (random_images(0, 4, 4, 1), LABELS[:0], "no pixels"),
        (random_images(3, 4, 4, 1), LABELS + 2, "labels must be 0 to 1; got 2 to 2"),
        (random_images(3, 4, 4, 1), LABELS - 1, "labels must be 0 to 1; got -1 to -1"),
    ],
)
def test_says_what_is_wrong(images, labels, message):
    with pytest.raises(ValueError, match=f"made: .*{message}"):
        Dataset("made", images, labels, ("a", "b"))
