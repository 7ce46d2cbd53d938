"""The scripts about receptive fields that train: they run, and compare like with like."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from experiments.receptive_field import accuracy_against_field as accuracy
from experiments.receptive_field import cifar10_training, diff_stride_cifar10
from jconv import data
from jconv.receptive_field import theoretical
from jconv.summary import summarize

LINE = re.compile(
    r" *(\d+) pixels: (\S+)% \((\S+)% to (\S+)%, (\d) seeds\), (.*); (\S+) parameters, (\S+) mult"
)


def nets(side):
    kinds = accuracy.kinds(side)
    return [(kind, accuracy.Net(kind, 3, 4, 10, rngs=nnx.Rngs(0))) for kind in kinds]


def test_fields_differ_and_nothing_else():
    read, costs = [], set()
    for kind, net in nets(32):
        net.eval()
        read.append(accuracy.pixels_read(net, (32, 32, 3)))
        summary = summarize(net, jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32))
        costs.add((summary.parameters, summary.multiply_adds))
        if kind.tile is None:
            x = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
            assert theoretical(net.features, x).size[0] == 1 + 2 * sum(kind.dilations)
    assert read == [4, 8, 13, 19, 29, 32]
    assert len(costs) == 1


@pytest.mark.parametrize(("side", "tiles"), [(32, [4, 8]), (28, [4, 7]), (8, [1, 2])])
def test_tiles_divide_the_image(side, tiles):
    assert [kind.tile for kind in accuracy.kinds(side) if kind.tile] == tiles


def test_a_tile_is_seen_by_itself():
    net = accuracy.Net(accuracy.Kind(tile=4), 3, 4, 10, rngs=nnx.Rngs(0))
    net.eval()
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
    found = net.features(x)
    assert found.shape == (2, 8, 8, 4)
    np.testing.assert_allclose(found[:, 4:, :4], net.convs(x[:, 4:, :4]), rtol=1e-5, atol=1e-6)


def test_bounds():
    random = np.random.default_rng(0)
    assert accuracy.interval(np.ones((3, 50), bool)) == (1, 1)
    low, high = accuracy.interval(random.random((1, 2000)) < 0.7)
    assert high - low == pytest.approx(4 * (0.7 * 0.3 / 2000) ** 0.5, rel=0.1)  # of one binomial
    # Two seeds of which one knows everything: each of four draws of seeds is as likely.
    assert accuracy.interval(np.array([[True] * 50, [False] * 50])) == (0, 1)


def test_accuracy_against_field(monkeypatch, capsys):
    two = [accuracy.Kind(tile=2), accuracy.Kind()]
    monkeypatch.setattr(accuracy, "kinds", lambda side: two)
    accuracy.main("digits", width=8, steps=100, batch=32, seeds=1, test_images=100)
    lines = capsys.readouterr().out.splitlines()
    found = [LINE.match(line).groups() for line in lines]
    assert [row[0] for row in found] == ["2", "8"]
    assert len({row[6:] for row in found}) == 1
    for _, mean, low, high, *_ in found:
        assert 0 <= float(low) < float(mean) < float(high) <= 100
    assert float(found[1][1]) > 40


@pytest.fixture
def tiny_cifar(monkeypatch):
    """Random pixels in the place of CIFAR-10's."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (64, 32, 32, 3), np.uint8)
    part = data.Dataset(
        "made", images, np.arange(64, dtype=np.int32) % 10, tuple(map(str, range(10)))
    )
    monkeypatch.setattr(data, "load", lambda name, data_dir=None: data.Datasets(part, part))


@pytest.mark.slow
def test_cifar10_training(tiny_cifar, capsys, tmp_path):
    cifar10_training.main(steps=2, batch=16, images=2, out=str(tmp_path / "maps"))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["conv1", "layer1", "layer2", "layer3"]
    assert {path.name for path in (tmp_path / "maps").iterdir()} == {"before.png", "after.png"}


@pytest.mark.slow
def test_diff_stride(tiny_cifar, capsys):
    diff_stride_cifar10.main(width=4, steps=4, batch=16, seeds=1)
    out = capsys.readouterr().out
    assert re.search(r"strided convolution +\d+\.\d\d% \(n=1\)", out)
    assert re.search(r"seed 0: strides \[\(\d", out)
