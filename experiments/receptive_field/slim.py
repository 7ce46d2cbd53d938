"""The networks of TF-Slim whose receptive fields Araujo et al. published, as plain functions.

Only what decides about the field is kept: windows, strides, paddings and branches, on one channel
(the field is independent of the number of channels, which the published table shows too:
mobilenet_v1 and mobilenet_v1_075). Each network takes x (N, H, W, 1) and returns its endpoints in
order. TF-Slim's residual networks stride in the last unit of a block, not in the first, and pad
strided convolutions alike on both sides: other ResNets have other fields.

Reference: Araujo, Norris & Sim 2019, "Computing receptive fields of convolutional neural networks",
Distill, doi:10.23915/distill.00021; its table is `published.csv` (`rows`).
"""

from __future__ import annotations

import csv
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp

import jconv

type Endpoints = dict[str, jax.Array]


class Published(NamedTuple):
    """One row of the published table, at an input of `resolution` pixels each way."""

    network: str
    resolution: int
    endpoint: str
    size: int
    stride: int
    padding: int


def rows() -> Iterator[Published]:
    """The published rows whose resolution is given, so that their padding is known."""
    with (Path(__file__).parent / "published.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(line for line in file if not line.startswith("#")):
            numbers = (int(row[name]) for name in ("size", "stride", "padding"))
            yield Published(row["network"], int(row["resolution"]), row["endpoint"], *numbers)


def conv(x: jax.Array, *windows: int | tuple[int, int], stride=1, padding="SAME") -> jax.Array:
    """Convolutions one after the other, the last with the stride and the padding."""
    for i, window in enumerate(windows):
        size = (window, window) if isinstance(window, int) else window
        last = i == len(windows) - 1
        x = jconv.conv(
            x, jnp.ones((*size, x.shape[-1], 1)), stride=stride if last else 1,
            padding=padding if last else "SAME",
        )  # fmt: skip
    return x


def pool(x: jax.Array, stride: int = 2, padding="VALID", window: int = 3) -> jax.Array:
    """Max pooling."""
    pooled = jconv.max_pool(x, window, stride=stride, padding=padding)
    assert isinstance(pooled, jax.Array)  # no indices were asked for
    return pooled


def smooth(x: jax.Array) -> jax.Array:
    """The pooling branch of an Inception module."""
    return conv(jconv.avg_pool(x, 3, stride=1, padding="SAME"), 1)


def beside(*branches: jax.Array) -> jax.Array:
    """Branches side by side."""
    return jnp.concatenate(branches, -1)


def alexnet_v2(x: jax.Array) -> Endpoints:
    """Krizhevsky 2014, arXiv:1404.5997."""
    out = {"conv1": conv(x, 11, stride=4, padding="VALID")}
    out["pool1"] = pool(out["conv1"])
    out["conv2"] = conv(out["pool1"], 5)
    out["conv3"] = conv(pool(out["conv2"]), 3)
    out["conv4"] = conv(out["conv3"], 3)
    out["conv5"] = conv(out["conv4"], 3)
    out["pool5"] = pool(out["conv5"])
    return out


def vgg(counts: tuple[int, ...], x: jax.Array) -> Endpoints:
    """Simonyan & Zisserman 2014, arXiv:1409.1556: so many convolutions before each pooling."""
    out = {}
    for i, count in enumerate(counts, 1):
        for j in range(1, count + 1):
            out[f"conv{i}/conv{i}_{j}"] = x = conv(x, 3)
        out[f"pool{i}"] = x = pool(x, window=2)
    return out


def mobilenet_v1(x: jax.Array) -> Endpoints:
    """Howard et al. 2017, arXiv:1704.04861."""
    out = {"Conv2d_0": conv(x, 3, stride=2)}
    (x,) = out.values()
    for i, stride in enumerate((1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1), 1):
        x = out[f"Conv2d_{i}_pointwise"] = conv(conv(x, 3, stride=stride), 1)
    return out


def resnet(counts: tuple[int, ...], x: jax.Array) -> Endpoints:
    """He et al. 2015, arXiv:1512.03385, with bottlenecks; version 2 has the same fields."""
    out = {}
    x = pool(_same(x, 7, 2), padding="SAME")
    for block, count in enumerate(counts, 1):
        for unit in range(1, count + 1):
            stride = 2 if unit == count and block < 4 else 1
            x = pool(x, stride, window=1) + conv(_same(conv(x, 1), 3, stride), 1)
        out[f"block{block}"] = x
    return out


def _same(x, window, stride):
    """A convolution padded alike on both sides whatever the image's size."""
    return conv(x, window, stride=stride, padding="SAME" if stride == 1 else window // 2)


def _module(x, tall: int):
    """Branches 1x1, 1x1 and a window, 1x1 and two of 3x3, and a pooling."""
    return beside(conv(x, 1), conv(x, 1, tall), conv(x, 1, 3, 3), smooth(x))


def inception_v2(x: jax.Array) -> Endpoints:
    """Ioffe & Szegedy 2015, arXiv:1502.03167."""
    out = {"Conv2d_1a_7x7": conv(x, 7, stride=2)}
    out["MaxPool_2a_3x3"] = pool(out["Conv2d_1a_7x7"], padding="SAME")
    out["Conv2d_2b_1x1"] = conv(out["MaxPool_2a_3x3"], 1)
    out["Conv2d_2c_3x3"] = conv(out["Conv2d_2b_1x1"], 3)
    x = out["MaxPool_3a_3x3"] = pool(out["Conv2d_2c_3x3"], padding="SAME")
    for name in ("3b", "3c", "4a", "4b", "4c", "4d", "4e", "5a", "5b", "5c"):
        if name in ("4a", "5a"):
            threes = conv(x, 1, 3, stride=2), conv(x, 1, 3, 3, stride=2)
            x = beside(*threes, pool(x, padding="SAME"))
        else:
            x = _module(x, 3)
        out[f"Mixed_{name}"] = x
    return out


def _stem(x, padding="VALID") -> Endpoints:
    """Of Inception v3 and Inception-ResNet v2."""
    out = {"Conv2d_1a_3x3": conv(x, 3, stride=2, padding=padding)}
    out["Conv2d_2a_3x3"] = conv(out["Conv2d_1a_3x3"], 3, padding=padding)
    out["Conv2d_2b_3x3"] = conv(out["Conv2d_2a_3x3"], 3)
    out["MaxPool_3a_3x3"] = pool(out["Conv2d_2b_3x3"], padding=padding)
    out["Conv2d_3b_1x1"] = conv(out["MaxPool_3a_3x3"], 1)
    out["Conv2d_4a_3x3"] = conv(out["Conv2d_3b_1x1"], 3, padding=padding)
    out["MaxPool_5a_3x3"] = pool(out["Conv2d_4a_3x3"], padding=padding)
    return out


def _sevens(x):
    """Windows of 7 in one direction, then in the other."""
    twice = conv(x, 1, (7, 1), (1, 7), (7, 1), (1, 7))
    return beside(conv(x, 1), conv(x, 1, (1, 7), (7, 1)), twice, smooth(x))


def _crossed(x, *before):
    """Windows of 3 in both directions side by side, behind 1x1 and behind more."""
    one, other = conv(x, 1), conv(x, 1, *before)
    crosses = [conv(y, window) for y in (one, other) for window in ((1, 3), (3, 1))]
    return beside(conv(x, 1), *crosses, smooth(x))


def _halved_by_sevens(x, first):
    seven = conv(x, 1, (1, 7), (7, 1), 3, stride=2, padding="VALID")
    return beside(conv(x, *first, stride=2, padding="VALID"), seven, pool(x))


def _halved(x, padding="VALID"):
    strided = functools.partial(conv, x, stride=2, padding=padding)
    return beside(strided(3), strided(1, 3, 3), pool(x, padding=padding))


def inception_v3(x: jax.Array) -> Endpoints:
    """Szegedy et al. 2015, arXiv:1512.00567."""
    out = _stem(x)
    x = out["MaxPool_5a_3x3"]
    for name in ("5b", "5c", "5d"):
        x = out[f"Mixed_{name}"] = _module(x, 5)
    x = out["Mixed_6a"] = _halved(x)
    for name in ("6b", "6c", "6d", "6e"):
        x = out[f"Mixed_{name}"] = _sevens(x)
    x = out["Mixed_7a"] = _halved_by_sevens(x, (1, 3))
    for name in ("7b", "7c"):
        x = out[f"Mixed_{name}"] = _crossed(x, 3)
    return out


def inception_v4(x: jax.Array) -> Endpoints:
    """Szegedy et al. 2016, arXiv:1602.07261."""
    valid = functools.partial(conv, padding="VALID")
    out = {"Conv2d_1a_3x3": valid(x, 3, stride=2)}
    out["Conv2d_2a_3x3"] = valid(out["Conv2d_1a_3x3"], 3)
    x = out["Conv2d_2b_3x3"] = conv(out["Conv2d_2a_3x3"], 3)
    x = out["Mixed_3a"] = beside(pool(x), valid(x, 3, stride=2))
    x = out["Mixed_4a"] = beside(valid(x, 1, 3), valid(x, 1, (1, 7), (7, 1), 3))
    x = out["Mixed_5a"] = beside(valid(x, 3, stride=2), pool(x))
    for name in "bcde":
        x = out[f"Mixed_5{name}"] = _module(x, 3)
    x = out["Mixed_6a"] = _halved(x)
    for name in "bcdefgh":
        x = out[f"Mixed_6{name}"] = _sevens(x)
    x = out["Mixed_7a"] = _halved_by_sevens(x, (1, 3))
    for name in "bcd":
        x = out[f"Mixed_7{name}"] = _crossed(x, (3, 1), (1, 3))
    return out


def inception_resnet_v2(x: jax.Array, padding="VALID") -> Endpoints:
    """Szegedy et al. 2016, arXiv:1602.07261; "SAME" is TF-Slim's `align_feature_maps`."""
    out = _stem(x, padding)
    x = out["Mixed_5b"] = _module(out["MaxPool_5a_3x3"], 5)
    for _ in range(10):
        x = x + conv(beside(conv(x, 1), conv(x, 1, 3), conv(x, 1, 3, 3)), 1)
    x = out["Mixed_6a"] = _halved(x, padding)
    for _ in range(20):
        x = x + conv(beside(conv(x, 1), conv(x, 1, (1, 7), (7, 1))), 1)
    out["PreAuxLogits"] = x
    strided = functools.partial(conv, x, stride=2, padding=padding)
    x = beside(strided(1, 3), strided(1, 3), strided(1, 3, 3), pool(x, padding=padding))
    out["Mixed_7a"] = x
    for _ in range(10):
        x = x + conv(beside(conv(x, 1), conv(x, 1, (1, 3), (3, 1))), 1)
    out["Conv2d_7b_1x1"] = conv(x, 1)
    return out


RESNETS = {
    f"resnet_{version}_{depth}": functools.partial(resnet, counts)
    for version in ("v1", "v2")
    for depth, counts in {
        50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3), 200: (3, 24, 36, 3),
    }.items()
}  # fmt: skip
NETWORKS: dict[str, Callable[[jax.Array], Endpoints]] = {
    "alexnet_v2": alexnet_v2,
    "vgg_a": functools.partial(vgg, (1, 1, 2, 2, 2)),
    "vgg_16": functools.partial(vgg, (2, 2, 3, 3, 3)),
    "mobilenet_v1": mobilenet_v1,
    "mobilenet_v1_075": mobilenet_v1,
    "inception_v2": inception_v2,
    "inception_v2-no-separable-conv": inception_v2,
    "inception_v3": inception_v3,
    "inception_v4": inception_v4,
    "inception_resnet_v2": inception_resnet_v2,
    "inception_resnet_v2-same": functools.partial(inception_resnet_v2, padding="SAME"),
    **RESNETS,
}
