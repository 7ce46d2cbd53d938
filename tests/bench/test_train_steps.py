"""The networks whose training is timed: the same mathematics on all three sides."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jconv
from jconv import bench, nn
from jconv.convert import from_pytorch

SCRIPTS = Path(__file__).parents[2] / "experiments" / "bench"


@pytest.fixture
def train_steps(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import train_steps

    return train_steps


@pytest.fixture
def with_stock_layers(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    from stock_layers import with_stock_layers

    return with_stock_layers


class Net(nnx.Module):
    """One of each layer that has a twin, nested as networks nest them."""

    def __init__(self, rngs):
        self.stem = nn.Conv(3, 4, (3, 3), 2, padding=1, rngs=rngs)
        self.body = nn.Sequential(
            nn.Conv(4, 8, (3, 3), feature_group_count=2, use_bias=False, rngs=rngs),
            nn.BatchNorm(8, momentum=0.9, rngs=rngs),
            nn.relu,
            nn.MaxPool(3, 2, padding=1),
        )
        self.rest = nnx.List(
            [nn.LayerNorm(8, epsilon=1e-3, rngs=rngs), nn.GroupNorm(8, num_groups=2, rngs=rngs)]
        )
        self.up = nn.ConvTranspose(8, 6, (2, 2), (2, 2), rngs=rngs)
        self.mix = nn.Linear(6, 6, dot_general=nn.pointwise_dot, rngs=rngs)
        self.pool = nn.GlobalAvgPool()

    def __call__(self, x):
        x = self.body(self.stem(x))
        for norm in self.rest:
            x = norm(x)
        return self.pool(jnp.sin(self.mix(self.up(x))))


def test_stock_layers_compute_the_same_without_jconv(with_stock_layers, key):
    x = jax.random.normal(key, (2, 9, 8, 3))
    ours, stock = Net(nnx.Rngs(0)), with_stock_layers(Net(nnx.Rngs(0)))
    assert jconv.explain_choice(lambda x: Net(nnx.Rngs(0))(x), x)
    assert not jconv.explain_choice(lambda x: with_stock_layers(Net(nnx.Rngs(0)))(x), x)
    np.testing.assert_allclose(ours(x), stock(x), rtol=1e-5, atol=1e-6)
    flat = [nnx.to_flat_state(nnx.state(model)) for model in (ours, stock)]
    assert [path for path, _ in flat[0]] == [path for path, _ in flat[1]]


def test_who_is_alone_with_its_loss_gets_no_time(train_steps):
    entries = {name: bench.Entry("", timed=object()) for name in ("jconv", "stock", "torch")}
    train_steps._refuse_wrong(entries, {"jconv": 2.0, "stock": 2.0001, "torch": 2.5})
    assert entries["jconv"].timed
    assert entries["stock"].timed
    assert entries["torch"].timed is None
    assert entries["torch"].failure == "wrong: loss 2.5 after a step, others 2, 2.0001"
    alone = {name: bench.Entry("", timed=object()) for name in ("jconv", "jconv:more", "torch")}
    train_steps._refuse_wrong(alone, {"jconv": 2.0, "jconv:more": 2.0, "torch": 2.5})
    assert not any(entry.timed for entry in alone.values())
    two = {name: bench.Entry("", timed=object()) for name in ("jconv", "stock")}
    train_steps._refuse_wrong(two, {"jconv": 2.0, "stock": float("nan")})
    assert two["jconv"].timed is None
    assert two["stock"].timed is None


@pytest.fixture(scope="module")
def torch(request, tmp_path_factory):
    """PyTorch's side in float64."""
    default = Path(__file__).parents[2] / ".torch" / "bin" / "python"
    python = request.config.getoption("--torch-python") or default
    if not python.is_file():
        pytest.skip(f"no PyTorch: {python} is absent; see docs/contributing.md")
    source = (SCRIPTS / "torch_networks.py").read_text()
    file = tmp_path_factory.mktemp("torch") / "networks.py"
    file.write_text(f"{source}\n\ntorch.set_default_dtype(torch.float64)\n")
    with bench.torch_peer(python, file) as peer:
        yield peer


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "convnext"])
def test_a_step_is_pytorchs(name, train_steps, torch):
    """Forward, gradients and update: the loss after a step, in float64."""
    network = dataclasses.replace(train_steps.NETWORKS[name], batch=4, pixels=64)
    random = np.random.default_rng(0)
    images = random.standard_normal((4, 64, 64, 3))
    labels = random.integers(0, train_steps.CLASSES, 4)
    options = {**network.torch_options, "classes": train_steps.CLASSES}
    arguments = {"network": name, "options": options}
    weights = torch.prepare("weights", arguments)

    def training(**how):
        model = network.make(
            input_shape=(64, 64, 3),
            classes=train_steps.CLASSES,
            rngs=nnx.Rngs(0),
            **network.options,
        )
        state = nnx.state(model, nnx.Any(nnx.Param, nnx.BatchStat))
        nnx.update(model, jax.tree.map(lambda a: a.astype(jnp.float64), state))
        from_pytorch(model, weights)
        model.train()
        return train_steps.Training(model, images, labels.astype(np.int32), **how)

    ours = training()
    step = {"learning_rate": train_steps.LEARNING_RATE, "momentum": train_steps.MOMENTUM}
    theirs = torch.prepare("train_step", {**arguments, **step}, [images, labels])
    np.testing.assert_allclose(ours.losses[1], theirs["loss"], rtol=1e-10)
    np.testing.assert_allclose(training(steps_per_call=2).losses[:2], ours.losses, rtol=1e-10)
