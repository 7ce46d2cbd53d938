"""`jconv.data.load`: names, near misses, folders, and where it looks without being told."""

import re
import sys
from pathlib import Path

import pytest

from jconv.data import DATASETS, STATISTICS, cache_dir, load
from tests.data.builders import write_mnist, write_photos


def test_the_tables_have_the_same_names():
    assert list(DATASETS) == ["digits", "mnist", "fashion-mnist", "cifar10", "cifar100"]
    assert set(STATISTICS) == set(DATASETS)


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("mnits", "mnist"),
        ("fashion_mnist", "fashion-mnist"),
        ("CIFAR-10", "cifar10"),
        ("digit", "digits"),
    ],
)
def test_an_unknown_name_gets_the_near_ones(name, near):
    message = f"load: '{name}' is neither a data set nor a folder; did you mean {near}"
    with pytest.raises(ValueError, match=re.escape(message)) as info:
        load(name)
    assert "data sets: digits, mnist, fashion-mnist, cifar10, cifar100" in str(info.value)


@pytest.mark.parametrize("name", ["imagenet21k", "", "no/such/folder", Path("no/such/folder")])
def test_a_name_like_no_other(name):
    with pytest.raises(ValueError, match="neither a data set nor a folder; data sets: digits, "):
        load(name)


def test_a_name_goes_before_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_photos(tmp_path / "digits")
    assert load("digits").train.image_shape == (8, 8, 1)
    assert load("./digits").train.image_shape == (8, 10, 3)
    assert load(Path("digits")).train.classes == ("cat", "dog")


def test_the_cache_is_the_default_place(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert cache_dir().name in ("jconv", "Cache")
    write_mnist(cache_dir() / "MNIST/raw")
    assert len(load("mnist").train) == 6


def test_a_size_is_for_folders():
    with pytest.raises(ValueError, match="image_size is for folders, digits has its own; got 32"):
        load("digits", image_size=32)


@pytest.mark.parametrize("module", ["PIL", "sklearn.datasets"])
def test_says_what_to_install(tmp_path, monkeypatch, module):
    write_photos(tmp_path)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r'run pip install "jconv\[train\]"'):
        load("digits" if module.startswith("sklearn") else tmp_path)
