"""The table of means and deviations against the data themselves."""

import numpy as np
import pytest

from jconv.data import STATISTICS, Dataset, augment, channel_statistics, load
from jconv.data import statistics as statistics_module
from tests.data.builders import random_dataset, random_images


def test_equals_numpy(monkeypatch):
    monkeypatch.setattr(statistics_module, "CHUNK", 4)  # so that ten images are three chunks
    dataset = random_dataset(10, (5, 3, 2))
    actual = channel_statistics(dataset)
    pixels = dataset.images.reshape(-1, 2) / 255
    np.testing.assert_allclose(actual.mean, pixels.mean(0), rtol=1e-12)
    np.testing.assert_allclose(actual.std, pixels.std(0), rtol=1e-12)


def test_takes_a_sample_when_asked():
    dataset = random_dataset(50)
    some = channel_statistics(dataset, most=20)
    assert some == channel_statistics(dataset, most=20)
    assert some != channel_statistics(dataset, most=20, seed=1)
    assert channel_statistics(dataset, most=50) == channel_statistics(dataset)
    with pytest.raises(ValueError, match="most must be at least 1 image; got 0"):
        channel_statistics(dataset, most=0)


def test_a_constant_channel_can_be_divided_by_its_deviation():
    images = random_images(3, 4, 4, 3)
    images[..., 1] = 77
    actual = channel_statistics(Dataset("made", images, np.zeros(3, np.int32), ("a",)))
    assert (actual.mean[1], actual.std[1]) == (77 / 255, 1.0)
    np.testing.assert_allclose(actual.std[::2], (images / 255).std((0, 1, 2))[::2], rtol=1e-12)
    normal = np.asarray(augment.normalize(images, *actual))
    np.testing.assert_allclose(normal[..., 1], 0, atol=1e-6)


def test_digits():
    check("digits", load("digits").train)


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar10", "cifar100"])
def test_published_data(data_dir, name):
    try:
        train = load(name, data_dir=data_dir, download=False).train
    except FileNotFoundError as error:
        pytest.skip(str(error))
    check(name, train)


def check(name, train):
    """The table has four digits, so half of the fourth is the most that it may be off."""
    actual = channel_statistics(train)
    np.testing.assert_allclose(STATISTICS[name].mean, actual.mean, rtol=0, atol=5.1e-5)
    np.testing.assert_allclose(STATISTICS[name].std, actual.std, rtol=0, atol=5.1e-5)
