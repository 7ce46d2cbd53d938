"""Small files of every format that jconv.data reads, with the arrays that they hold."""

from __future__ import annotations

import dataclasses
import gzip
import io
import struct
import tarfile

import numpy as np
from PIL import Image

from jconv.data.cifar import CIFAR10, CIFAR100
from jconv.data.dataset import Dataset

# Four images a file in place of ten thousand.
TINY_CIFAR10 = dataclasses.replace(CIFAR10, records=(4, 3))
TINY_CIFAR100 = dataclasses.replace(CIFAR100, records=(4, 3))


def random_images(count, height, width, channels, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, height, width, channels), np.uint8)


def random_dataset(count, shape=(4, 4, 1), classes=10, name="made"):
    """Images whose first pixel counts them, so that a test can tell which is which."""
    images = random_images(count, *shape)
    images[:, 0, 0, 0] = np.arange(count)
    labels = (np.arange(count) % classes).astype(np.int32)
    return Dataset(name, images, labels, tuple(map(str, range(classes))))


def idx_bytes(values, *, magic=None, extents=None):
    """An IDX file of a uint8 array; `magic` and `extents` may lie."""
    values = np.asarray(values, np.uint8)
    magic = bytes((0, 0, 8, values.ndim)) if magic is None else magic
    extents = values.shape if extents is None else extents
    return magic + struct.pack(f">{len(extents)}I", *extents) + values.tobytes()


def write_mnist(folder, counts=(6, 4), *, pack=True, labels=None):
    """The four files, images and labels random; returns ((images, labels) of train, of test)."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = []
    for prefix, count in zip(("train", "t10k"), counts, strict=True):
        images = random_images(count, 28, 28, 1, seed=count)
        own = np.arange(count) % 10 if labels is None else np.resize(labels, count)
        for kind, values in (("images-idx3", images[..., 0]), ("labels-idx1", own)):
            data = idx_bytes(values)
            path = folder / f"{prefix}-{kind}-ubyte{'.gz' if pack else ''}"
            path.write_bytes(gzip.compress(data, 1, mtime=0) if pack else data)
        parts.append((images, own.astype(np.int32)))
    return parts


def cifar_files(cifar, seed=0):
    """File name -> bytes, and the (images, labels) of train and of test."""
    rng = np.random.default_rng(seed)
    files, parts = {}, []
    for names, count in ((cifar.train, cifar.records[0]), ((cifar.test,), cifar.records[1])):
        images = rng.integers(0, 256, (len(names), count, 32, 32, 3), np.uint8)
        labels = rng.integers(0, cifar.classes, (len(names), count), np.uint8)
        for name, own_images, own_labels in zip(names, images, labels, strict=True):
            planes = own_images.transpose(0, 3, 1, 2).reshape(count, -1)
            coarse = [own_labels[:, None] // 5] if cifar.labels == 2 else []
            files[name] = np.concatenate([*coarse, own_labels[:, None], planes], 1).tobytes()
        parts.append((images.reshape(-1, 32, 32, 3), labels.ravel().astype(np.int32)))
    # The publisher's file ends with an empty line.
    files[cifar.names] = "".join(f"class{i}\n" for i in range(cifar.classes)).encode() + b"\n"
    return files, parts


def write_cifar(cifar, folder):
    folder.mkdir(parents=True, exist_ok=True)
    files, parts = cifar_files(cifar)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return parts


def tar_bytes(members):
    """A tar.gz of (TarInfo or name, bytes) pairs."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for member, data in members:
            info = tarfile.TarInfo(member) if isinstance(member, str) else member
            if info.isreg():
                info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def write_image(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


def write_photos(root, classes=("cat", "dog"), count=3, size=(8, 10), suffix=".png"):
    """`count` RGB photos for each class; returns them by class."""
    made = {}
    for seed, name in enumerate(classes):
        made[name] = random_images(count, *size, 3, seed=seed)
        for i, image in enumerate(made[name]):
            write_image(root / name / f"{i}{suffix}", image)
    return made
