"""The parts of a Dataset fit together, and a subset keeps them together."""

import numpy as np
import pytest

from jconv.data import Dataset
from tests.data.builders import random_dataset, random_images


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
