"""A folder of photos: layouts, sizes, and every way in which a folder can be wrong."""

import contextlib
import os
import re
import socket

import numpy as np
import pytest

from jconv.data import load, load_folder
from tests.data.builders import random_images, write_image, write_photos


def by_path(dataset):
    return {
        path.parent.name + "/" + path.name: image
        for path, image in zip(dataset.images.paths, dataset.images[:], strict=True)
    }


def test_reads_train_and_test(tmp_path):
    made = write_photos(tmp_path / "train", count=3)
    held = write_photos(tmp_path / "test", classes=("dog",), count=2)
    train, test = load(tmp_path)
    assert train.classes == test.classes == ("cat", "dog")
    assert train.images.shape == (6, 8, 10, 3)
    np.testing.assert_array_equal(train.labels, [0, 0, 0, 1, 1, 1])
    np.testing.assert_array_equal(test.labels, [1, 1])
    np.testing.assert_array_equal(train.images[np.array([4, 0])], [made["dog"][1], made["cat"][0]])
    np.testing.assert_array_equal(test.images[:], held["dog"])
    np.testing.assert_array_equal(train.images[-1], made["dog"][2])
    assert train.name == tmp_path.name


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_other_names_of_the_test_folder(tmp_path, name):
    write_photos(tmp_path / "train", count=3)
    write_photos(tmp_path / name, count=2)
    assert [len(part) for part in load_folder(tmp_path)] == [6, 4]


def test_a_val_beside_a_test_is_left_alone(tmp_path):
    write_photos(tmp_path / "train", count=3)
    write_photos(tmp_path / "test", count=2)
    write_photos(tmp_path / "val", classes=("fish",), count=1)
    assert [len(part) for part in load_folder(tmp_path)] == [6, 4]


@pytest.mark.parametrize("inner", [".", "train"])
def test_holds_out_a_part_of_every_class(tmp_path, inner):
    write_photos(tmp_path / inner, classes=("a", "b"), count=10)
    train, test = load_folder(tmp_path, fraction=0.2)
    np.testing.assert_array_equal(np.bincount(test.labels), [2, 2])
    np.testing.assert_array_equal(np.bincount(train.labels), [8, 8])
    pixels = [
        image.tobytes() for part in (train, test) for image in part.images[np.arange(len(part))]
    ]
    assert len(set(pixels)) == 20


def test_litter_and_hidden_files_do_not_count(tmp_path):
    write_photos(tmp_path)
    litter = (".DS_Store", "cat/.hidden.png", "cat/Thumbs.db", "dog/desktop.ini", "dog/thumbs.db")
    for name in (*litter, "cat/THUMBS.DB", "cat/ehthumbs.db", "Desktop.ini"):
        (tmp_path / name).write_bytes(b"litter")
    for name in (".git", "__MACOSX", "cat/__MACOSX"):
        (tmp_path / name).mkdir()
    train, test = load_folder(tmp_path)
    assert (len(train), len(test), train.classes) == (4, 2, ("cat", "dog"))


def test_nothing_is_decoded_before_it_is_asked_for(tmp_path):
    write_photos(tmp_path / "train")
    write_photos(tmp_path / "val")
    train, _ = load_folder(tmp_path)
    path = tmp_path / "train" / "dog" / "1.png"
    path.write_bytes(path.read_bytes()[:-30])
    assert train.images[np.array([0, 3])].shape == (2, 8, 10, 3)
    with pytest.raises(ValueError, match=re.escape(f"{path}: expected an image that can be read;")):
        train.images[np.array([0, 4])]


SIZES = {
    "the_folders_own": ([(8, 10)] * 3 + [(9, 9)], None, (8, 10)),
    "no_majority": ([(8, 10), (8, 10), (9, 9), (7, 7)], None, (64, 64)),
    "too_large_for_a_default": ([(8, 257)] * 4, None, (64, 64)),
    "asked_for_a_square": ([(8, 10)] * 4, 5, (5, 5)),
    "asked_for_a_pair": ([(8, 10)] * 4, (5, 6), (5, 6)),
    "asked_with_numpy": ([(8, 10)] * 4, np.int64(5), (5, 5)),
}


@pytest.mark.parametrize(("sizes", "asked", "expected"), SIZES.values(), ids=SIZES)
def test_one_size_for_all(tmp_path, sizes, asked, expected):
    for i, size in enumerate(sizes):
        write_image(tmp_path / "train" / "ab"[i % 2] / f"{i}.png", random_images(1, *size, 3)[0])
    write_photos(tmp_path / "test", classes=("a",), size=(20, 30))
    train, test = load(tmp_path, image_size=asked)
    assert train.images[:].shape == (4, *expected, 3)
    assert test.images[:].shape == (3, *expected, 3)


def no_classes(root):
    write_image(root / "a.png", random_images(1, 4, 4, 3)[0])


def one_class(root):
    write_photos(root, classes=("only",))


def empty_class(root):
    write_photos(root)
    (root / "bird").mkdir()


def text_file(root):
    write_photos(root)
    (root / "cat" / "notes.txt").write_text("hello")


def nested(root):
    write_photos(root)
    write_photos(root / "cat", classes=("kitten",))


def unreadable(root):
    write_photos(root)
    (root / "cat" / "0.png").write_bytes(b"no png")


def unknown_class(root):
    write_photos(root / "train")
    write_photos(root / "test", classes=("cat", "fish"))


def empty_test(root):
    write_photos(root / "train")
    (root / "test").mkdir()


def test_alone(root):
    write_photos(root / "test")


test_alone.__test__ = False  # a builder, not a test


def single_images(root):
    write_photos(root, count=1)


BAD = {
    "empty": (lambda root: None, "expected at least two folders of classes; found none"),
    "no_classes": (no_classes, "expected only folders, one for each class; found a.png"),
    "one_class": (one_class, "expected at least two folders of classes; found only"),
    "empty_class": (empty_class, "bird: expected images; found an empty folder"),
    "text_file": (text_file, "notes.txt: expected an image, .jpg .* found another kind of file"),
    "nested": (nested, "kitten: expected an image, .* found a folder"),
    "unreadable": (unreadable, "0.png: expected an image that can be read; found: cannot identify"),
    "unknown_class": (unknown_class, "test: expected the classes cat, dog; found fish"),
    "empty_test": (empty_test, "test: expected the classes cat, dog; found none"),
    "test_alone": (test_alone, "expected a folder train beside test; found none"),
    "single_images": (
        single_images,
        "a class of at least two images, to hold one out; found 2 classes of one",
    ),
}


@pytest.mark.parametrize(("build", "message"), BAD.values(), ids=BAD)
def test_says_what_is_wrong(tmp_path, build, message):
    build(tmp_path)
    with pytest.raises(ValueError, match=message):
        load_folder(tmp_path)


BAD_SIZES = [0, (0, 4), (4, 4, 3), (4,), (), True, (True, 4), 4.0, (4.5, 4), "64", ("4", "4"), {4}]


@pytest.mark.parametrize("size", BAD_SIZES, ids=repr)
def test_says_that_a_size_is_wrong(tmp_path, size):
    write_photos(tmp_path)
    message = "size must be a side or (H, W), whole numbers of at least 1 pixel; got " + repr(size)
    with pytest.raises(ValueError, match=re.escape(message)):
        load_folder(tmp_path, size=size)


def pipe(path):
    os.mkfifo(path)


def listening_socket(path):
    with contextlib.chdir(path.parent), socket.socket(socket.AF_UNIX) as server:
        server.bind(path.name)  # the whole path may be too long for a socket


def broken_link(path):
    path.symlink_to(path.parent / "gone")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no such files")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (pipe, "found: a folder, pipe, socket or device"),
        (listening_socket, "found: a folder, pipe, socket or device"),
        (broken_link, "found: .*No such file"),
    ],
)
def test_what_is_no_file_is_refused_at_once(tmp_path, make, message):
    write_photos(tmp_path)
    path = tmp_path / "cat" / "p.png"
    make(path)
    with pytest.raises(ValueError, match=re.escape(str(path)) + ": .*" + message):
        load_folder(tmp_path)


def test_says_that_there_is_no_folder(tmp_path):
    with pytest.raises(ValueError, match="nowhere: expected a folder of images by class; found no"):
        load_folder(tmp_path / "nowhere")
