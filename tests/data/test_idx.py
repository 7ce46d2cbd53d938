"""IDX files: what is read, and what is refused with file, expected and found."""

import gzip
import re
import struct

import numpy as np
import pytest

from jconv.data.idx import LIMIT, read_images, read_labels
from tests.data.builders import idx_bytes, random_images

IMAGES = random_images(5, 3, 4, 1)
GOOD = idx_bytes(IMAGES[..., 0])


@pytest.fixture(params=["plain", "gzip"])
def pack(request):
    return gzip.compress if request.param == "gzip" else bytes


def write(tmp_path, data):
    path = tmp_path / "file-ubyte"
    path.write_bytes(data)
    return path


def test_reads_images_and_labels(tmp_path, pack):
    path = write(tmp_path, pack(GOOD))
    np.testing.assert_array_equal(read_images(path), IMAGES)
    labels = read_labels(write(tmp_path, pack(idx_bytes([3, 0, 9]))), classes=10)
    np.testing.assert_array_equal(labels, [3, 0, 9])
    assert labels.dtype == np.int32


def test_values_that_compress_best_are_read(tmp_path):
    # A megabyte of zeros shrinks by about 1000, close to the bound that refuses bombs.
    zeros = np.zeros((1024, 32, 32), np.uint8)
    path = write(tmp_path, gzip.compress(idx_bytes(zeros), 9))
    np.testing.assert_array_equal(read_images(path)[..., 0], zeros)


BAD = {
    "empty": (b"", "expected the IDX magic 00 00 08 03 .* found an empty file"),
    "magic": (idx_bytes([1]), r"00 00 08 03 \(uint8, 3 axes\); found 00 00 08 01"),
    "type": (b"\0\0\x0d\x03" + GOOD[4:], "found 00 00 0d 03"),
    "half_a_header": (GOOD[:11], "expected 12 bytes of extents; found 7"),
    "zero_extent": (idx_bytes(IMAGES[..., 0], extents=(5, 0, 4)), "found a header of 5 x 0 x 4"),
    "absurd": (
        idx_bytes(IMAGES[..., 0], extents=(2**32 - 1,) * 3),
        f"expected 1 to {LIMIT} values",
    ),
    "too_large": (idx_bytes(IMAGES[..., 0], extents=(50000, 3, 4)), "found a file too short"),
    "longer": (GOOD + b"\0", r"expected 60 values \(5 x 3 x 4\); found more"),
}


@pytest.mark.parametrize(("data", "message"), BAD.values(), ids=BAD)
def test_says_what_is_wrong(tmp_path, pack, data, message):
    path = write(tmp_path, pack(data))
    with pytest.raises(ValueError, match=re.escape(f"{path}: ") + ".*" + message):
        read_images(path)


def test_says_that_a_plain_file_is_truncated(tmp_path):
    path = write(tmp_path, GOOD[:-1])
    with pytest.raises(
        ValueError, match=r"expected 60 values .* found a file too short .*75 bytes"
    ):
        read_images(path)


def test_says_that_the_stream_inside_is_truncated(tmp_path):
    with pytest.raises(ValueError, match=r"expected 60 values \(5 x 3 x 4\); found 59"):
        read_images(write(tmp_path, gzip.compress(GOOD[:-1])))


@pytest.mark.parametrize("cut", [1, 3, 8, 20])
def test_says_that_the_gzip_stream_is_truncated(tmp_path, cut):
    path = write(tmp_path, gzip.compress(GOOD)[:-cut])
    with pytest.raises(ValueError, match=re.escape(f"{path}: expected a whole gzip stream; found")):
        read_images(path)


def test_says_that_the_gzip_checksum_is_wrong(tmp_path):
    data = bytearray(gzip.compress(GOOD))
    data[-8] ^= 1
    with pytest.raises(ValueError, match="expected a whole gzip stream; found: CRC check failed"):
        read_images(write(tmp_path, data))


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path):
    # A header that announces 800 MB in a file that can't hold them.
    header = b"\0\0\x08\x03" + struct.pack(">3I", 800_000, 10, 100)
    path = write(tmp_path, gzip.compress(header + bytes(1000)))
    with pytest.raises(ValueError, match=r"expected 800000000 values .* found a file too short"):
        read_images(path)


def test_says_that_a_label_is_out_of_range(tmp_path):
    path = write(tmp_path, idx_bytes([1, 2, 11]))
    message = f"{path}: expected labels 0 to 9; found 11 at position 2"
    with pytest.raises(ValueError, match=re.escape(message)):
        read_labels(path, classes=10)


def test_says_that_the_images_have_another_size(tmp_path):
    with pytest.raises(ValueError, match="expected images of 28 x 28 pixels; found 3 x 4"):
        read_images(write(tmp_path, GOOD), size=(28, 28))
