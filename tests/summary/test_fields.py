"""Receptive fields in the summary: of every layer, wherever it is called, and what is remarked."""

from __future__ import annotations

import json
import re

import pytest
from flax import nnx
from jax import lax

from jconv import models, nn
from jconv.summary import receptive_fields, summarize
from tests.summary.test_table import Block, JitBlock, LeNet, RematBlock, Residual, Scanned, shape


def fields_of(summary):
    return {row.path: row.receptive_field for row in summary.rows}


def sizes(summary):
    return {path: field.size for path, field in fields_of(summary).items()}


class Conv1d(nnx.Module):
    """Along one axis, a transposed convolution behind it."""

    def __init__(self, rngs):
        self.conv = nnx.Conv(3, 3, (5,), strides=(4,), rngs=rngs)
        self.up = nnx.ConvTranspose(3, 3, (2,), strides=(8,), rngs=rngs)

    def __call__(self, x):
        return self.up(self.conv(x))


class Opaque(nnx.Module):
    """An operation that reads everything between two convolutions."""

    def __init__(self, rngs):
        self.before, self.after = (nnx.Conv(3, 3, (3, 3), rngs=rngs) for _ in range(2))

    def __call__(self, x):
        planes = self.before(x).transpose(0, 3, 1, 2)
        planes = lax.linalg.cholesky(planes, symmetrize_input=False)
        return self.after(self.after(planes.transpose(0, 2, 3, 1)))


class Misaligned(nnx.Module):
    """A sum of branches half a pixel apart, and a layer behind it."""

    def __init__(self, rngs):
        self.conv = nnx.Conv(3, 3, (3, 3), 2, padding=((0, 1), (0, 1)), rngs=rngs)
        self.after = nnx.Conv(3, 3, (1, 1), rngs=rngs)

    def __call__(self, x):
        return self.after(self.after(self.conv(x) + nn.MaxPool(2)(x)))


def test_lenet_by_hand():
    fields = fields_of(summarize(LeNet(nnx.Rngs(0)), shape(2, 28, 28, 1)))
    found = {path: (f.size, f.stride, f.padding) for path, f in fields.items()}
    assert found == {
        "conv1": ((5, 5), (1, 1), (2, 2)),
        "conv2": ((14, 14), (2, 2), (2, 2)),
        "fc1": ((28, 28), (0, 0), (0, 0)),
        "fc2": ((28, 28), (0, 0), (0, 0)),
    }


def test_as_the_fields_of_endpoints():
    model = nnx.eval_shape(lambda: models.ResNetCifar(8, rngs=nnx.Rngs(0)))
    model.eval()
    x = shape(1, 32, 32, 3)
    found, endpoints = fields_of(summarize(model, x, depth=1)), receptive_fields(model, x)
    for layer in ("layer1", "layer2", "layer3"):
        assert found[layer] == endpoints[layer]
    assert found["linear"] == endpoints["logits"]


@pytest.mark.parametrize("block", [Block, RematBlock, JitBlock])
def test_inside_of_other_programs(block):
    """The second call of a program is not traced anew: one row stands for both, with the wider."""
    model = Residual(nnx.Rngs(0), block)
    model.eval()
    rows = summarize(model, shape(2, 8, 8, 3)).rows
    found = [(row.path, row.receptive_field.size[0]) for row in rows if row.path.endswith(".conv")]
    twice = [("blocks.0.conv", 3), ("blocks.1.conv", 5), ("blocks.0.conv", 7)]
    once = [("blocks.0.conv", 7), ("blocks.1.conv", 5)]
    assert found == (twice if block is Block else once)
    assert rows[-1].receptive_field.size == (7, 7)


def test_in_a_scan_the_widest_turn():
    model = Scanned(nnx.Rngs(0))
    model.eval()
    found = sizes(summarize(model, shape(2, 32, 32, 3)))
    assert found["layers.conv"] == (11, 11)
    assert found[""] == (11, 11)


def test_statistics_of_the_batch_see_everything():
    """In training mode batch norm makes every pixel depend on every other."""
    fields = fields_of(summarize(Block(nnx.Rngs(0)), shape(1, 8, 8, 3)))
    assert (fields["conv"].size, fields["norm"].size) == ((3, 3), (8, 8))


def test_the_model_is_traced_once():
    calls = []

    class Counted(Block):
        def __call__(self, x):
            calls.append(x)
            return super().__call__(x)

    summarize(Counted(nnx.Rngs(0)), shape(1, 8, 8, 3))
    assert len(calls) == 1


def test_one_axis_and_fractions():
    summary = summarize(Conv1d(nnx.Rngs(0)), shape(2, 40, 3))
    field = fields_of(summary)["up"]
    assert (field.size, field.stride) == ((5,), (0.5,))
    (_, up) = summary.to_dict()["rows"]
    assert up["receptive_field"]["stride"] == [0.5]
    assert "1/2" in summary.table().splitlines()[-3].split()


def test_to_dict_is_json():
    data = json.loads(json.dumps(summarize(LeNet(nnx.Rngs(0)), shape(1, 28, 28, 1)).to_dict()))
    field = data["rows"][1]["receptive_field"]
    assert (field["size"], field["stride"], field["unknown"]) == ([14, 14], [2, 2], [])


def test_what_reads_everything_is_named_where_it_comes_up():
    summary = summarize(Opaque(nnx.Rngs(0)), shape(1, 12, 12, 3))
    assert sizes(summary) == {"before": (3, 3), "after": (12, 12)}
    assert summary.columns()["remarks"] == ["", "reads all by cholesky", "", ""]
    assert "reads all by cholesky" in summary.table()


def test_branches_that_do_not_fit_are_named_once():
    summary = summarize(Misaligned(nnx.Rngs(0)), shape(1, 12, 12, 3))
    remarks = summary.columns()["remarks"]
    assert remarks == ["", "misaligned: add: centres 1/2 apart", "", ""]


@pytest.mark.parametrize(
    ("model", "inputs"),
    [
        (nnx.Linear(4, 3, rngs=nnx.Rngs(0)), [shape(2, 4)]),
        (Block(nnx.Rngs(0)), [shape(0, 8, 8, 3)]),
    ],
    ids=["no spatial axes", "no pixels"],
)
def test_without_an_image_there_are_no_columns(model, inputs):
    summary = summarize(model, *inputs)
    assert {row.receptive_field for row in summary.rows} == {None}
    assert not {"field", "stride", "remarks"} & set(summary.columns())


def test_axes_that_differ():
    conv = nnx.Conv(3, 3, (5, 1), strides=(1, 2), rngs=nnx.Rngs(0))
    text = summarize(conv, shape(1, 8, 8, 3)).table()
    assert re.search(r"Conv +\(1, 8, 4, 3\) +5 x 1 +1 x 2 ", text)


def test_they_can_be_left_out():
    model, x = Block(nnx.Rngs(0)), shape(1, 8, 8, 3)
    without = summarize(model, x, fields=False)
    assert "field" not in without.columns()
    assert without.to_dict()["totals"] == summarize(model, x).to_dict()["totals"]
    assert without.to_dict()["rows"][0]["receptive_field"] is None


def test_the_image_is_the_first_input_with_spatial_axes():
    block = Block(nnx.Rngs(0))
    block.eval()

    def fn(block, scale, x, other):
        return block(x) * scale + other

    summary = summarize(fn, block, shape(), shape(1, 8, 8, 3), shape(1, 8, 8, 3))
    assert sizes(summary)["conv"] == (3, 3)
    assert sizes(summary)[""] == (3, 3)
