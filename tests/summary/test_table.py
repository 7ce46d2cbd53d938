"""jconv.summary: rows and totals by hand, what a trace could lose, and the messages."""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from jconv.summary import summarize


def shape(*sizes):
    return jax.ShapeDtypeStruct(sizes, jnp.float32)


class LeNet(nnx.Module):
    """28x28x1 -> 10, with functions between the layers."""

    def __init__(self, rngs):
        self.conv1 = nnx.Conv(1, 6, (5, 5), rngs=rngs)
        self.conv2 = nnx.Conv(6, 16, (5, 5), padding="VALID", rngs=rngs)
        self.fc1 = nnx.Linear(400, 120, rngs=rngs)
        self.fc2 = nnx.Linear(120, 10, rngs=rngs)

    def __call__(self, x):
        x = nnx.max_pool(nnx.relu(self.conv1(x)), (2, 2), (2, 2))
        x = nnx.max_pool(nnx.relu(self.conv2(x)), (2, 2), (2, 2))
        return self.fc2(nnx.relu(self.fc1(x.reshape(x.shape[0], -1))))


class Block(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(3, 3, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(3, rngs=rngs)

    def __call__(self, x):
        return nnx.relu(x + self.norm(self.conv(x)))


class RematBlock(Block):
    __call__ = nnx.remat(Block.__call__)


class JitBlock(Block):
    __call__ = nnx.jit(Block.__call__)


class Residual(nnx.Module):
    """Two blocks, the first used twice, a dropout, a matrix product of its own, and a layer that is
    never called."""

    def __init__(self, rngs, block=Block):
        self.blocks = nnx.List([block(rngs), block(rngs)])
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.scale = nnx.Param(jnp.ones((3, 3)))
        self.unused = nnx.Linear(5, 5, rngs=rngs)

    def __call__(self, x):
        x = self.blocks[0](self.blocks[1](self.blocks[0](x)))
        return self.drop(x) @ self.scale


class Scanned(nnx.Module):
    """Five blocks as one, with stacked parameters."""

    def __init__(self, rngs):
        make = nnx.vmap(Block, in_axes=0)
        self.layers = make(rngs.split(5))

    def __call__(self, x):
        scan = nnx.scan(in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
        return scan(lambda x, layer: layer(x))(x, self.layers)


def rows_of(summary):
    return {row.path: row for row in summary.rows}


def test_lenet_by_hand():
    summary = summarize(LeNet(nnx.Rngs(0)), shape(2, 28, 28, 1))
    found = [
        (r.path, r.type, r.output, r.parameters, r.multiply_adds, r.bytes) for r in summary.rows
    ]
    assert found == [
        ("conv1", "Conv", ((2, 28, 28, 6),), 156, 2 * 784 * 25 * 6, 4 * (156 + 2 * 784 * 6)),
        ("conv2", "Conv", ((2, 10, 10, 16),), 2416, 2 * 100 * 150 * 16, 4 * (2416 + 2 * 1600)),
        ("fc1", "Linear", ((2, 120),), 48120, 2 * 48000, 4 * (48120 + 240)),
        ("fc2", "Linear", ((2, 10),), 1210, 2 * 1200, 4 * (1210 + 20)),
    ]
    assert summary.parameters == 156 + 2416 + 48120 + 1210
    assert summary.multiply_adds == sum(row.multiply_adds for row in summary.rows)


def test_flops_agree_with_xla():
    model = LeNet(nnx.Rngs(0))
    cost = jax.jit(lambda x: model(x)).lower(shape(2, 28, 28, 1)).compile().cost_analysis()
    multiply_adds = summarize(model, shape(2, 28, 28, 1)).multiply_adds
    # XLA leaves out the taps of conv1 that fall into the padding and counts ReLU and pooling.
    assert 1.6 * multiply_adds < cost["flops"] < 2.2 * multiply_adds


def test_depthwise_separable_against_full():
    full = nnx.Conv(256, 256, (3, 3), use_bias=False, rngs=nnx.Rngs(0))
    separable = nnx.Sequential(
        nnx.Conv(256, 256, (3, 3), feature_group_count=256, use_bias=False, rngs=nnx.Rngs(0)),
        nnx.Conv(256, 256, (1, 1), use_bias=False, rngs=nnx.Rngs(0)),
    )
    x = shape(1, 7, 7, 256)
    assert summarize(full, x).multiply_adds == 49 * 589_824
    assert summarize(separable, x).multiply_adds == 49 * 67_840
    assert [row.path for row in summarize(separable, x).rows] == ["layers.0", "layers.1"]


@pytest.mark.parametrize("block", [Block, RematBlock, JitBlock])
def test_module_called_twice_holds_its_parameters_once(block):
    model = Residual(nnx.Rngs(0), block)
    summary = summarize(model, shape(2, 8, 8, 3))
    one_conv = 2 * 64 * 9 * 3 * 3
    assert summary.multiply_adds == 3 * one_conv + 2 * 64 * 3 * 3
    assert summary.parameters == sum(p.size for p in jax.tree.leaves(nnx.state(model, nnx.Param)))
    assert summary.statistics == 2 * 6
    by_conv = sum(r.multiply_adds for r in summary.rows if r.path == "blocks.0.conv")
    assert by_conv == 2 * one_conv


def test_each_call_is_a_row():
    summary = summarize(Residual(nnx.Rngs(0)), shape(2, 8, 8, 3))
    block = [".conv", ".norm", ""]
    assert [row.path for row in summary.rows] == [
        *(f"blocks.{i}{layer}" for i in (0, 1, 0) for layer in block),
        "drop",
        "",
    ]
    first, second = (row for row in summary.rows if row.path == "blocks.0.conv")
    assert (first.parameters, second.parameters) == (84, 0)
    itself = summary.rows[-1]
    assert (itself.type, itself.parameters, itself.multiply_adds) == (
        "Residual",
        9 + 30,
        2 * 64 * 9,
    )


def test_array_that_passes_through_is_counted_once():
    model = nnx.view(Residual(nnx.Rngs(0)), deterministic=True)
    assert rows_of(summarize(model, shape(2, 8, 8, 3)))["drop"].bytes == 0
    random = nnx.view(Residual(nnx.Rngs(0)), deterministic=False)
    assert rows_of(summarize(random, shape(2, 8, 8, 3)))["drop"].bytes == 4 * 2 * 64 * 3


def test_jitted_function_called_twice_inside_a_layer():
    class Twice(nnx.Module):
        def __init__(self, rngs):
            self.conv = nnx.Conv(3, 3, (3, 3), rngs=rngs)

        def __call__(self, x):
            return nnx.relu(self.conv(nnx.relu(x)))  # one traced program, two calls

    itself = summarize(Twice(nnx.Rngs(0)), shape(1, 8, 8, 3)).rows[-1]
    assert (itself.path, itself.bytes) == ("", 4 * 64 * 3)


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_depth_keeps_the_totals(depth):
    model, x = Residual(nnx.Rngs(0)), shape(2, 8, 8, 3)
    whole, folded = summarize(model, x), summarize(model, x, depth=depth)
    assert folded.to_dict()["totals"] == whole.to_dict()["totals"]
    if depth == 1:
        paths = [row.path for row in folded.rows]
        assert paths == ["blocks.0", "blocks.1", "blocks.0", "drop", ""]
    else:
        assert folded.rows == whole.rows


def test_scan_counts_every_turn():
    summary = summarize(Scanned(nnx.Rngs(0)), shape(2, 8, 8, 3))
    conv = rows_of(summary)["layers.conv"]
    assert (conv.parameters, conv.multiply_adds) == (5 * 84, 5 * 2 * 64 * 81)
    assert conv.bytes == 4 * 5 * (84 + 2 * 64 * 3)
    assert [row.path for row in summary.rows] == ["layers.conv", "layers.norm", "layers", ""]


def test_nothing_of_the_model_changes():
    model = Residual(nnx.Rngs(0))
    graph, state = nnx.split(model)
    summarize(model, shape(2, 8, 8, 3))
    after, state_after = nnx.split(model)
    assert after == graph
    assert type(model) is Residual
    assert all(
        a is b for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(state_after), strict=True)
    )


def test_model_without_arrays():
    abstract = nnx.eval_shape(lambda: Residual(nnx.Rngs(0)))
    concrete = Residual(nnx.Rngs(0))
    assert summarize(abstract, shape(2, 8, 8, 3)) == summarize(concrete, jnp.zeros((2, 8, 8, 3)))


def test_a_second_summary_is_the_same():
    model = Residual(nnx.Rngs(0), JitBlock)
    assert summarize(model, shape(2, 8, 8, 3)) == summarize(model, shape(2, 8, 8, 3))


def test_functions():
    def affine(w, x):
        return x @ w

    (row,) = summarize(affine, shape(3, 4), shape(2, 3)).rows
    assert (row.path, row.output, row.multiply_adds, row.bytes) == ("", ((2, 4),), 24, 32)
    model = Residual(nnx.Rngs(0))
    summary = summarize(lambda m, x: {"block": m.blocks[0](x)}, model, shape(2, 8, 8, 3))
    assert rows_of(summary)["blocks.0.conv"].parameters == 84
    assert summary.inputs == ((2, 8, 8, 3),)
    two = summarize(
        lambda a, b, x: b(a(x)), Block(nnx.Rngs(0)), Block(nnx.Rngs(0)), shape(1, 8, 8, 3)
    )
    assert {"0.conv", "1.conv"} <= rows_of(two).keys()


def test_table_is_aligned():
    summary = summarize(LeNet(nnx.Rngs(0)), shape(1, 28, 28, 1))
    title, _, header, rule, *rows, _, total = str(summary).splitlines()
    assert title == "LeNet on (1, 28, 28, 1)"
    numbers = ["field", "stride", "parameters", "multiply-adds", "bytes"]
    assert header.split() == ["layer", "type", "output", *numbers]
    assert rows[1].split()[-5:-3] == ["14", "2"]
    assert len({len(line) for line in [header, rule, *rows, total]}) == 1
    assert total.split() == ["total", "51,902", f"{summary.multiply_adds:,}", f"{summary.bytes:,}"]


def test_table_takes_more_columns():
    summary = summarize(LeNet(nnx.Rngs(0)), shape(1, 28, 28, 1))
    assert (
        summary.table({"receptive field": [5, 14, 28, 28]})
        .splitlines()[2]
        .endswith("receptive field")
    )
    message = "column 'receptive field' has 1 cells for 4 rows; got 5"
    with pytest.raises(ValueError, match=message):
        summary.table({"receptive field": [5]})


def test_to_dict_is_json():
    summary = summarize(LeNet(nnx.Rngs(0)), shape(1, 28, 28, 1))
    data = json.loads(json.dumps(summary.to_dict()))
    assert data["rows"][0]["output"] == [[1, 28, 28, 6]]
    assert data["totals"]["parameters"] == 51902


@pytest.mark.parametrize(
    ("model", "inputs", "message"),
    [
        (
            LeNet,
            [shape(1, 28, 28, 3)],
            r"layer conv1 \(Conv\) cannot take its input: .*3.*1.*; got float32 \(1, 28, 28, 3\)",
        ),
        (LeNet, [shape(1, 32, 32, 1)], r"summary: layer fc1 \(Linear\) .*; got float32 \(1, 576\)"),
        (Residual, [shape(1, 8, 8, 4)], r"summary: layer blocks\.0\.conv \(Conv\)"),
        (LeNet, [], r"summary: LeNet itself cannot take its input: .*missing.*; got no array"),
        (LeNet, ["image.png"], r"summary: inputs are arrays or ShapeDtypeStructs; got 'image.png'"),
    ],
)
def test_says_which_layer_does_not_fit(model, inputs, message):
    with pytest.raises(ValueError, match=message):
        summarize(model(nnx.Rngs(0)), *inputs)


def test_says_that_depth_starts_at_one():
    with pytest.raises(ValueError, match="depth 1 and deeper; got depth=0"):
        summarize(LeNet(nnx.Rngs(0)), shape(1, 28, 28, 1), depth=0)
