"""Damaged files: whatever happens to their bytes, a reader gives data of the right form or one
ValueError that names the file.
"""

import gzip
import io

import numpy as np
import pytest
from PIL import Image

from jconv.data.archive import extract
from jconv.data.cifar import load_cifar
from jconv.data.idx import read_images, read_labels
from jconv.data.photo import photo_size, read_photo
from tests.data.builders import TINY_CIFAR10, idx_bytes, random_images, tar_bytes, write_cifar

ROUNDS = 150


def damaged(data, count=ROUNDS):
    """Copies of `data` with flipped bits, bytes of extremes, cuts, repeats and insertions."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        copy = bytearray(data)
        for _ in range(rng.integers(1, 5)):
            # The structure is at the beginning, so half of the damage goes there.
            limit = len(copy) if rng.random() < 0.5 else min(len(copy), 64)
            at = int(rng.integers(max(1, limit)))
            kind = rng.integers(5)
            if kind == 0 and copy:
                copy[at] ^= 1 << rng.integers(8)
            elif kind == 1 and copy:
                copy[at] = rng.choice([0, 1, 127, 128, 255])
            elif kind == 2:
                del copy[at : at + int(rng.integers(1, 9))]
            elif kind == 3:
                copy[at:at] = rng.bytes(int(rng.integers(1, 9)))
            else:
                del copy[int(rng.integers(1, max(2, len(copy)))) :]
        yield bytes(copy)


def outcomes(path, variants, read, check):
    """Every variant gives data that pass `check`, or a ValueError with the file's name."""
    messages = []
    for data in variants:
        path.write_bytes(data)
        try:
            result = read(path)
        except ValueError as error:
            messages.append(str(error))
        else:
            check(result)
    assert [text for text in messages if not text.startswith(f"{path}: expected ")] == []
    assert len(messages) > ROUNDS // 15  # otherwise the damage is too mild to tell anything


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_idx_images(tmp_path, pack):
    data = pack(idx_bytes(random_images(4, 5, 6, 1)[..., 0]))

    def check(images):
        assert images.dtype == np.uint8
        assert images.ndim == 4
        assert images.size <= len(gzip.decompress(data) if pack is not bytes else data) + 40

    outcomes(tmp_path / "images", damaged(data), read_images, check)


def test_idx_labels(tmp_path):
    def check(labels):
        assert labels.ndim == 1
        assert labels.max() < 10

    data = idx_bytes(np.arange(40) % 10)
    outcomes(tmp_path / "labels", damaged(data), lambda p: read_labels(p, classes=10), check)


def test_cifar(tmp_path):
    write_cifar(TINY_CIFAR10, tmp_path)

    def check(datasets):
        assert datasets.train.images.shape == (20, 32, 32, 3)
        assert datasets.train.labels.max() < 10

    path = tmp_path / "data_batch_1.bin"
    variants = list(damaged(path.read_bytes()))
    outcomes(path, variants, lambda _: load_cifar(TINY_CIFAR10, tmp_path), check)


def test_archive(tmp_path):
    wanted = {"top/a.bin": 2000, "top/b.txt": 100}
    # Inside the compression: the headers of tar are what is attacked.
    plain = gzip.decompress(tar_bytes([("top/a.bin", bytes(2000)), ("top/b.txt", b"names")]))
    variants = [gzip.compress(data, 1) for data in damaged(plain, ROUNDS // 2)]
    variants += damaged(gzip.compress(plain), ROUNDS - len(variants))

    def check(paths):
        assert paths["a.bin"].stat().st_size <= 2000
        assert {path.name for path in (tmp_path / "out").iterdir()} == {"a.bin", "b.txt"}

    outcomes(tmp_path / "a.tar.gz", variants, lambda p: extract(p, wanted, tmp_path / "out"), check)
    assert {path.name for path in tmp_path.rglob("*")} <= {"a.tar.gz", "out", "a.bin", "b.txt"}


# Pillow warns of odd metadata; only what it returns or raises is of interest here.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM"])
def test_photos(tmp_path, kind):
    exif = Image.Exif()
    exif[0x0112] = 6
    out = io.BytesIO()
    options = {"exif": exif} if kind in ("JPEG", "PNG", "WEBP", "TIFF") else {}
    Image.fromarray(random_images(1, 20, 30, 3)[0]).save(out, kind, **options)

    def read(path):
        photo_size(path)
        return read_photo(path, (8, 9))

    def check(image):
        assert (image.shape, image.dtype) == ((8, 9, 3), np.uint8)

    outcomes(tmp_path / "photo", damaged(out.getvalue()), read, check)
