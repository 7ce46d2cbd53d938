"""CIFAR files: pixels and labels in place, every defect named, archives unpacked."""

import dataclasses
import re

import numpy as np
import pytest

from jconv.data import load
from jconv.data.cifar import CIFAR10, CIFAR100, load_cifar
from tests.data.builders import TINY_CIFAR10, TINY_CIFAR100, cifar_files, tar_bytes, write_cifar

each_set = pytest.mark.parametrize(
    "cifar", [TINY_CIFAR10, TINY_CIFAR100], ids=lambda cifar: cifar.name
)


def check(datasets, parts):
    for dataset, (images, labels) in zip(datasets, parts, strict=True):
        np.testing.assert_array_equal(dataset.images, images)
        np.testing.assert_array_equal(dataset.labels, labels)


@each_set
@pytest.mark.parametrize("flat", [True, False])
def test_reads_pixels_and_labels(tmp_path, cifar, flat):
    parts = write_cifar(cifar, tmp_path / ("." if flat else cifar.folder))
    datasets = load_cifar(cifar, tmp_path)
    check(datasets, parts)
    assert datasets.train.classes == tuple(f"class{i}" for i in range(cifar.classes))


@each_set
def test_unpacks_an_archive_that_lies_there(tmp_path, cifar):
    files, parts = cifar_files(cifar)
    archive = tmp_path / cifar.archive.name
    archive.write_bytes(tar_bytes((f"{cifar.folder}/{name}", data) for name, data in files.items()))
    check(load_cifar(cifar, tmp_path, download=False), parts)
    assert sorted(path.name for path in (tmp_path / cifar.folder).iterdir()) == sorted(files)
    assert archive.exists()
    archive.write_bytes(b"never opened again")
    check(load_cifar(cifar, tmp_path, download=False), parts)


DEFECTS = {
    "truncated": ("data_batch_2.bin", lambda b: b[:-1], "expected 12292 bytes .*; found 12291"),
    "short_by_a_record": (
        "data_batch_2.bin",
        lambda b: b[:-3073],
        r"4 records of 3073\); found 9219",
    ),
    "longer": ("test_batch.bin", lambda b: b + b"\0", "expected 9219 bytes .*; found 9220"),
    "empty": ("test_batch.bin", lambda b: b"", "found 0"),
    "label": (
        "data_batch_3.bin",
        lambda b: b[:3073] + b"\x0a" + b[3074:],
        "expected labels 0 to 9; found 10 in record 1",
    ),
    "names_missing": ("batches.meta.txt", lambda b: b"a\nb\n", "expected 10 .* names; found 2, 2"),
    "names_twice": ("batches.meta.txt", lambda b: b"a\n" * 10, "found 10, 1 of them different"),
    "names_binary": ("batches.meta.txt", lambda b: b"\xff\xfe", "expected text, .* found .*utf-8"),
    "names_huge": (
        "batches.meta.txt",
        lambda b: bytes(70000),
        "at most 65536 bytes .* found 70000",
    ),
}


@pytest.mark.parametrize(("name", "change", "message"), DEFECTS.values(), ids=DEFECTS)
def test_says_what_is_wrong(tmp_path, name, change, message):
    write_cifar(TINY_CIFAR10, tmp_path)
    path = tmp_path / name
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ValueError, match=re.escape(f"{path}: ") + ".*" + message):
        load_cifar(TINY_CIFAR10, tmp_path)


@pytest.mark.parametrize("copy", ["test_batch.bin", "data_batch_4.bin"])
def test_says_that_a_file_is_a_copy_of_another(tmp_path, copy):
    cifar = dataclasses.replace(TINY_CIFAR10, records=(4, 4))
    write_cifar(cifar, tmp_path)
    first = tmp_path / "data_batch_1.bin"
    (tmp_path / copy).write_bytes(first.read_bytes())
    message = f"{tmp_path / copy}: expected other images than those of {first}; found the same 4"
    with pytest.raises(ValueError, match=re.escape(message)):
        load_cifar(cifar, tmp_path)


def test_equal_labels_are_no_copy(tmp_path):
    write_cifar(TINY_CIFAR10, tmp_path)
    records = [
        np.frombuffer((tmp_path / f"data_batch_{i}.bin").read_bytes(), np.uint8).reshape(4, -1)
        for i in (1, 2)
    ]
    records[1] = records[1].copy()
    records[1][:, 0] = records[0][:, 0]
    (tmp_path / "data_batch_2.bin").write_bytes(records[1].tobytes())
    assert len(load_cifar(TINY_CIFAR10, tmp_path).train) == 20


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path):
    write_cifar(TINY_CIFAR10, tmp_path)
    path = tmp_path / "batches.meta.txt"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert load_cifar(TINY_CIFAR10, tmp_path).train.classes[0] == "class0"


def test_says_that_a_fine_label_is_out_of_range(tmp_path):
    write_cifar(TINY_CIFAR100, tmp_path)
    path = tmp_path / "test.bin"
    data = bytearray(path.read_bytes())
    data[1] = 100
    path.write_bytes(data)
    with pytest.raises(ValueError, match="expected labels 0 to 99; found 100 in record 0"):
        load_cifar(TINY_CIFAR100, tmp_path)


@pytest.mark.parametrize("cifar", [CIFAR10, CIFAR100], ids=lambda cifar: cifar.name)
def test_says_where_it_looked_and_where_to_get_the_archive(tmp_path, cifar):
    with pytest.raises(FileNotFoundError) as info:
        load(cifar.name, data_dir=tmp_path, download=False)
    message = str(info.value)
    for part in (
        f"{cifar.name}: {cifar.archive.name} is in none of",
        str(tmp_path / cifar.folder / cifar.test),
        str(tmp_path / cifar.names),
        "downloads are off",
        *cifar.archive.urls,
        cifar.archive.sha256,
        f"put it into {tmp_path}",
    ):
        assert part in message


def test_the_published_files(data_dir):
    try:
        train, test = load("cifar10", data_dir=data_dir, download=False)
    except FileNotFoundError as error:
        pytest.skip(str(error))
    assert train.images.shape == (50000, 32, 32, 3)
    assert set(np.bincount(train.labels)) == {5000}
    assert set(np.bincount(test.labels)) == {1000}
    assert train.classes[0] == "airplane"
