"""scikit-learn's digits, as they are published."""

import numpy as np
import sklearn.datasets

from jconv.data import digits_folds, load_digits, read_digits


def test_nothing_is_lost_of_the_published_values():
    digits = read_digits()
    published = sklearn.datasets.load_digits()
    assert digits.images.shape == (1797, 8, 8, 1)
    assert (digits.images.min(), digits.images.max()) == (0, 255)
    back = np.rint(np.asarray(digits.images, float) * 16 / 255)
    np.testing.assert_array_equal(back[..., 0], published.images)
    np.testing.assert_array_equal(digits.labels, published.target)


def test_a_tenth_is_held_out_always_the_same():
    train, test = load_digits()
    assert (len(train), len(test)) == (1618, 179)
    assert set(np.bincount(test.labels)) == {17, 18}
    np.testing.assert_array_equal(test.images, load_digits().test.images)
    images = {image.tobytes() for image in train.images}
    assert not images & {image.tobytes() for image in test.images}


def test_folds_hold_out_every_digit_once():
    folds = digits_folds(10)
    assert len(folds) == 10
    assert sum(len(fold.test) for fold in folds) == 1797
    assert all(len(fold.train) + len(fold.test) == 1797 for fold in folds)
    counts = np.bincount(np.concatenate([fold.test.labels for fold in folds]))
    np.testing.assert_array_equal(counts, np.bincount(read_digits().labels))
