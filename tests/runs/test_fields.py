"""What a network sees: in the report of a run, of a run by itself, and of a model without one."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from PIL import Image

import jconv
from jconv import data, models, nn, runs
from jconv import receptive_field as rf
from jconv.runs import report
from jconv.summary import receptive_fields

QUICK = runs.TrainConfig("digits", model="simple_cnn", epochs=1, batch_size=64, shift=0)


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "quick"
    config = dataclasses.replace(QUICK, run_dir=str(folder))
    return runs.train(config, log=lambda line: None, progress=False).run_dir


class Chain(nnx.Module):
    """Two 3x3 convolutions of ones, without names for what is between them."""

    def __init__(self):
        self.w = nnx.Param(jnp.ones((3, 3, 1, 1)))

    def __call__(self, x):
        return jconv.conv(jconv.conv(x, self.w[...]), self.w[...])


class Pooled(Chain):
    """No output has pixels."""

    def __call__(self, x):
        return super().__call__(x).mean((1, 2))


def noise(n=3, side=9):
    return np.asarray(jax.random.normal(jax.random.key(0), (n, side, side, 1)))


def test_chain_by_hand():
    """Ones convolved with themselves: 1 2 3 2 1 along each axis, about the unit in the middle."""
    x = noise()
    fields = runs.measured_fields(Chain(), x, x[0], "noise")
    assert dict(fields.columns) == {
        "endpoint": ["output"],
        "size": ["5"],
        "stride": ["1"],
        "padding": ["2"],
        "centre": ["0"],
        "effective radius": ["1.15 (1.15 to 1.15)"],  # sqrt(4 / 3); of all inputs the same
    }
    bell = np.zeros(9)
    bell[2:7] = [1, 2, 3, 2, 1]
    np.testing.assert_allclose(fields.maps["output"], np.outer(bell, bell), rtol=1e-6)
    assert fields.unit.name == "output at 4, 4"
    assert fields.unit.rows == fields.unit.columns == [(i - 2, i + 2) for i in range(9)]
    np.testing.assert_allclose(fields.unit.centre, [4, 4], rtol=1e-5)
    np.testing.assert_allclose(fields.unit.sigma, np.sqrt([4 / 3, 4 / 3]), rtol=1e-5)
    growth = fields.growth["endpoint"]
    assert growth["theoretical"] == {"output": 5}
    assert growth["effective, 4 sigma"]["output"] == pytest.approx(4 * np.sqrt(4 / 3))


def test_another_unit():
    x = noise()
    unit = runs.measured_fields(Chain(), x, x[0], "noise", unit=(0, 8)).unit
    assert unit.unit == (0, 8)
    assert unit.effective[0, 8] == unit.effective.max() > 0
    assert unit.effective[4, 4] == 0


def test_without_pixels_there_is_a_table_and_a_sentence():
    fields = runs.measured_fields(Pooled(), noise(), noise()[0], "noise")
    assert fields.columns["size"] == ["9"]
    assert (fields.maps, fields.unit) == ({}, None)
    assert fields.missing.startswith("No endpoint has pixels")


def test_what_nothing_moves_has_no_radius():
    class Dead(nnx.Module):
        def __call__(self, x):
            return nn.relu(-(x**2))

    fields = runs.measured_fields(Dead(), noise(), noise()[0], "noise")
    assert fields.columns["effective radius"] == ["–"]
    assert fields.unit.sigma is None
    assert "effective, 4 sigma" not in fields.growth["endpoint"]


def test_of_many_endpoints_some_are_shown_and_the_wanted_one():
    class Long(nnx.Module):
        def __call__(self, x):
            return x

        def endpoints(self, x):
            return {f"e{i:02d}": x * (i + 1.0) for i in range(20)}

    fields = runs.measured_fields(Long(), noise(), noise()[0], "noise", endpoint="e01")
    assert list(fields.maps) == sorted(fields.maps)
    assert {"e00", "e01", "e19"} <= set(fields.maps)
    assert len(fields.maps) == 9
    assert fields.columns["effective radius"].count("–") == 20 - 9


def test_remarks():
    class Opaque(nnx.Module):
        def __call__(self, x):
            square = x[..., 0] + 9 * jnp.eye(9)
            return jax.lax.linalg.cholesky(square, symmetrize_input=False)[..., None]

    fields = runs.measured_fields(Opaque(), noise(), noise()[0], "noise")
    assert fields.remarks == ["output: reads all by cholesky."]
    assert "remarks" not in fields.columns


def test_report_of_a_run_has_them(run_dir):
    page = (run_dir / "report.html").read_text(encoding="utf-8")
    assert '<section id="fields"' in page
    assert "as a mean over test images (32)" in page
    for name in ("conv1", "pool1", "conv2", "pool2"):
        assert f'alt="Effective field of {name}"' in page
    assert "pool2 at 1, 1" in page


def test_a_run_by_itself(run_dir):
    fields = runs.fields_of_run(run_dir)
    test = data.load("digits").test
    run = runs.Run.load(run_dir)
    model = run.trained()
    maps = rf.gradient_maps(model.endpoints, run.prepare(test.images[:32]))
    np.testing.assert_allclose(fields.maps["conv2"], maps["conv2"].mean(0), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(fields.unit.image, test.images[0])
    np.testing.assert_allclose(fields.unit.effective, maps["pool2"][0], rtol=1e-4, atol=1e-6)
    few = runs.fields_of_run(run_dir, examples=2)
    np.testing.assert_allclose(few.maps["conv1"], maps["conv1"][:2].mean(0), rtol=1e-4, atol=1e-6)


def test_an_image_of_ones_own(run_dir, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "digit.png")
    fields = runs.fields_of_run(run_dir, image=tmp_path / "digit.png")
    np.testing.assert_array_equal(fields.unit.image[..., 0], pixels)
    np.testing.assert_array_equal(fields.unit.effective, fields.maps["pool2"])
    assert fields.measured == "digit.png"
    assert "to" not in fields.columns["effective radius"][0]  # of one input there are no bounds


def test_a_report_survives_what_can_not_be_told(run_dir, monkeypatch):
    def fails(*args, **options):
        raise KeyError("no such rule\nand more")

    monkeypatch.setattr(report, "measured_fields", fails)
    run = runs.Run.load(run_dir)
    test = data.load("digits").test
    result = runs.classify(run.trained(), run.prepare, test)
    fields = report.report_of(run, run.trained(), test, result).fields
    assert fields.missing == "Receptive fields could not be told: 'no such rule\\nand more'"


def test_a_model_without_a_run(tmp_path):
    fields = runs.fields_of_model("lenet5", input_shape=(28, 28, 1), examples=2, seed=1)
    x = jax.ShapeDtypeStruct((1, 28, 28, 1), "float32")
    model = models.LeNet5(input_shape=(28, 28, 1), rngs=nnx.Rngs(0))
    theory = receptive_fields(model, x)
    assert fields.columns["endpoint"] == list(theory)
    assert list(fields.maps) == ["C1", "S2", "C3", "S4"]
    assert fields.growth["endpoint"]["theoretical"] == {
        name: theory[name].size[0] for name in fields.maps
    }
    assert fields.growth["layer"]["theoretical"][:2] == [5, 6]
    again = runs.fields_of_model("lenet5", input_shape=(28, 28, 1), examples=2, seed=1)
    np.testing.assert_array_equal(again.maps["S4"], fields.maps["S4"])
    page = runs.write_fields(tmp_path / "a" / "b", fields, title="LeNet")
    assert page == tmp_path / "a" / "b" / "report.html"
    assert "<h1><bdi>LeNet</bdi></h1>" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"endpoint": "logits"}, r"endpoint must be one of output; got 'logits'"),
        ({"unit": (9, 0)}, r"row and a column of output, 9 x 9 pixels; got unit=\(9, 0\)"),
        ({"unit": (1, 2, 3)}, r"got unit=\(1, 2, 3\)"),
    ],
)
def test_says_what_is_wrong(options, message):
    with pytest.raises(ValueError, match=message):
        runs.measured_fields(Chain(), noise(), noise()[0], "noise", **options)


def test_says_what_is_wrong_with_examples(run_dir):
    with pytest.raises(ValueError, match="receptive-field: examples must be at least 1; got 0"):
        runs.fields_of_run(run_dir, examples=0)
