"""Whole jobs on the embedded digits: training, resuming, evaluating, classifying files, and what
goes wrong."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from PIL import Image

from jconv import data, runs
from jconv.runs import TrainConfig
from jconv.runs.training import _new_folder
from jconv.training import read_metrics
from jconv.training.metrics_file import TIMES

QUICK = TrainConfig("digits", model="simple_cnn", epochs=2, batch_size=64, log_every=10, shift=0)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One short run, and what training returned."""
    config = dataclasses.replace(QUICK, run_dir=str(tmp_path_factory.mktemp("runs") / "quick"))
    return runs.train(config, log=lambda line: None, progress=False)


def test_leaves_everything_in_its_folder(finished):
    names = {path.name for path in finished.run_dir.iterdir()}
    assert names == {"config.json", "metrics.jsonl", "checkpoints", "report.html"}
    rows = read_metrics(finished.run_dir / "metrics.jsonl")
    assert [row["step"] for row in rows if row["kind"] == "eval"] == [25, 50]
    assert rows[-1]["accuracy"] == pytest.approx(finished.test.accuracy)


def test_learns_the_digits(finished):
    assert finished.test.accuracy > 0.8
    assert finished.test.confusion.sum() == 179
    np.testing.assert_allclose(finished.test.probabilities.sum(1), 1, rtol=1e-5)


def test_uses_every_device(finished):
    assert len(jax.local_devices()) == 8
    assert "8 x" in runs.Run.load(finished.run_dir).versions["devices"]


def test_report_shows_the_run(finished):
    page = finished.report.read_text(encoding="utf-8")
    for part in (
        f"{100 * finished.test.accuracy:.2f} %",
        "simple_cnn on digits",
        "conv1",
        "learning_rate",
    ):
        assert part in page


def test_evaluates_to_the_same_numbers(finished):
    again = runs.evaluate(finished.run_dir)
    assert again.accuracy == finished.test.accuracy
    np.testing.assert_array_equal(again.probabilities, finished.test.probabilities)


def test_classifies_image_files(finished, tmp_path):
    test = data.load("digits").test
    paths = []
    for i in range(3):
        paths.append(tmp_path / f"{i}.png")
        Image.fromarray(test.images[i, ..., 0]).save(paths[-1])
    predictions = runs.predict(finished.run_dir, paths, top=2)
    for i, prediction in enumerate(predictions):
        assert prediction.image == paths[i]
        order = np.argsort(-finished.test.probabilities[i])[:2]
        assert [name for name, _ in prediction.top] == [test.classes[k] for k in order]
        assert prediction.top[0][1] == pytest.approx(finished.test.probabilities[i].max(), rel=1e-3)


def test_resumed_run_gives_the_numbers_of_one_that_was_left_alone(finished, tmp_path):
    half = dataclasses.replace(QUICK, run_dir=str(tmp_path / "run"))
    stop = _StopAfter(25)
    with pytest.raises(_StopAfter):
        runs.train(half, log=stop, progress=True)
    result = runs.resume_run(tmp_path / "run", log=lambda line: None, progress=False)
    np.testing.assert_array_equal(result.test.probabilities, finished.test.probabilities)
    assert _without_times(result.run_dir) == _without_times(finished.run_dir)


def test_same_seed_gives_the_same_run_and_another_seed_another(finished, tmp_path):
    other = dataclasses.replace(QUICK, run_dir=str(tmp_path / "other"), seed=1)
    result = runs.train(other, log=lambda line: None, progress=False)
    assert _without_times(result.run_dir) != _without_times(finished.run_dir)


def test_images_that_are_given(finished, tmp_path):
    random = np.random.default_rng(0)
    labels = np.arange(40, dtype=np.int32) % 2
    images = (labels[:, None, None, None] * 100 + random.integers(0, 90, (40, 8, 8, 3))).astype(
        "u1"
    )
    given = data.Dataset("given", images, labels, ("low", "high"))
    config = dataclasses.replace(QUICK, run_dir=str(tmp_path / "run"), batch_size=64, epochs=8)
    both = data.Datasets(given, given)
    result = runs.train(config, datasets=both, log=lambda line: None, progress=False)
    run = runs.Run.load(result.run_dir)
    assert run.config.batch_size == 40
    np.testing.assert_allclose(run.statistics.mean, images.mean((0, 1, 2)) / 255)
    assert runs.evaluate(result.run_dir, datasets=both).accuracy == result.test.accuracy
    with pytest.raises(ValueError, match=r"given to train\(\) as datasets=; give them here too"):
        runs.evaluate(result.run_dir)
    with pytest.raises(ValueError, match=r"2 classes of images \(8, 8, 3\).*got 10 classes"):
        runs.evaluate(result.run_dir, datasets=data.load("digits"))
    fewer = data.Datasets(given.subset(np.arange(30)), given)
    with pytest.raises(ValueError, match="started on other train images than the 30 of given"):
        runs.resume_run(result.run_dir, datasets=fewer)


def test_folder_of_images_with_every_option(tmp_path):
    random = np.random.default_rng(0)
    for label, level in {"dark": 40, "light": 200}.items():
        folder = tmp_path / "photos" / label
        folder.mkdir(parents=True)
        for i in range(20):
            pixels = random.integers(level, level + 40, (16, 16, 3), np.uint8)
            Image.fromarray(pixels).save(folder / f"{i}.png")
    config = TrainConfig(
        str(tmp_path / "photos"), model="convnet", run_dir=str(tmp_path / "run"), epochs=4,
        batch_size=16, algorithm="adamw", learning_rate=1e-2, label_smoothing=0.1, clip_norm=1.0,
        ema_decay=0.9, crop=2, flip=0.5, shift=1, cutout=4, dtype="bfloat16", eval_every=2,
    )  # fmt: skip
    result = runs.train(config, log=lambda line: None, progress=False)
    assert result.test.accuracy == 1
    top = runs.predict(result.run_dir, [tmp_path / "photos" / "light" / "3.png"])[0].top
    assert top[0][0] == "light"
    assert len(top) == 2
    moved = (tmp_path / "photos").rename(tmp_path / "elsewhere")
    assert runs.evaluate(result.run_dir, data_dir=moved).accuracy == 1
    (moved / "dark" / "19.png").unlink()
    with pytest.raises(ValueError, match=r"was started on other t[a-z]+ images"):
        runs.evaluate(result.run_dir, data_dir=moved)
    with pytest.raises(ValueError, match="data_dir is where the files of a named data set lie"):
        runs.train(TrainConfig(str(moved), data_dir=str(tmp_path)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": "cifr10"}, "did you mean cifar10"),
        ({"model": "resnet21"}, "unknown model 'resnet21'; did you mean"),
        ({"epochs": 0}, "train: epochs must be at least 1; got 0"),
        ({"learning_rate": -1.0}, "learning_rate must be 0 or more"),
        ({"label_smoothing": 1.0}, "label_smoothing must be in"),
        ({"flip": 2.0}, "flip is a probability, 0 to 1; got 2.0"),
        ({"seed": -1}, "seed must not be negative; got -1"),
        ({"seed": 2**32}, r"seed must be below 2\*\*32"),
        ({"epochs": 10**9}, r"a run has fewer than 2\*\*31 steps; got epochs=1000000000"),
        ({"cutout": 9}, "size 9 exceeds the image"),
        ({"batch_size": 12}, "multiple of the 8 devices"),
    ],
)
def test_says_what_is_wrong_with_a_configuration(changes, message, tmp_path):
    config = dataclasses.replace(QUICK, run_dir=str(tmp_path / "run"), **changes)
    with pytest.raises(ValueError, match=message):
        runs.train(config, log=lambda line: None, progress=False)
    assert not (tmp_path / "run").exists()


def test_does_not_write_over_a_run(finished):
    with pytest.raises(ValueError, match="a run is kept here already; resume it"):
        runs.train(dataclasses.replace(QUICK, run_dir=str(finished.run_dir)), progress=False)


def test_does_not_take_the_checkpoints_of_another_run(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(ValueError, match="a run is kept here already"):
        runs.train(dataclasses.replace(QUICK, run_dir=str(tmp_path)), progress=False)
    assert not (tmp_path / "config.json").exists()


def test_runs_that_start_together_have_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folders = {_new_folder(QUICK) for _ in range(5)}
    assert len(folders) == 5
    assert all(folder.is_dir() for folder in folders)


def test_one_process_trains_a_run(finished):
    with runs.Run.load(finished.run_dir).locked():
        with pytest.raises(ValueError, match="another process is training this run"):
            runs.resume_run(finished.run_dir, progress=False)
        assert runs.evaluate(finished.run_dir).accuracy == finished.test.accuracy


@pytest.mark.parametrize("field", ["steps", "statistics", "config"])
def test_a_changed_configuration_is_refused(finished, tmp_path, field):
    values = json.loads((finished.run_dir / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(values | {field: None}))
    with pytest.raises(ValueError, match=r"config\.json: its content is not what was saved"):
        runs.resume_run(tmp_path)


def test_says_how_far_a_run_came(finished):
    assert runs.Run.load(finished.run_dir).reached() == 50


def test_says_what_is_wrong_with_a_folder(finished, tmp_path):
    with pytest.raises(ValueError, match="no run is kept here; expected the file"):
        runs.evaluate(tmp_path)
    (tmp_path / "config.json").write_text('{"config": {"epochz": 3}}')
    with pytest.raises(ValueError, match="not the configuration of a run"):
        runs.evaluate(tmp_path)
    values = json.loads((finished.run_dir / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(ValueError, match="no checkpoint has been saved in this run yet"):
        runs.evaluate(tmp_path)
    with pytest.raises(ValueError, match="no run is kept here"):
        runs.resume_run(tmp_path / "elsewhere")


def test_says_what_is_wrong_with_images(finished, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.png"):
        runs.predict(finished.run_dir, [tmp_path / "gone.png"])
    (tmp_path / "text.png").write_text("not an image")
    with pytest.raises(ValueError, match=r"text\.png"):
        runs.predict(finished.run_dir, [tmp_path / "text.png"])
    with pytest.raises(ValueError, match="expected at least one image file; got none"):
        runs.predict(finished.run_dir, [])
    with pytest.raises(ValueError, match="top must be at least 1; got 0"):
        runs.predict(finished.run_dir, [tmp_path / "text.png"], top=0)


class _StopAfter(Exception):
    """Ends a run, from inside its log, when it has logged a step after `step`."""

    def __init__(self, step):
        super().__init__()
        self.step = step

    def __call__(self, line):
        if line.startswith("train") and int(line.split()[1].split("/")[0]) > self.step:
            raise self


def _without_times(folder):
    rows = read_metrics(folder / "metrics.jsonl")
    return [{key: value for key, value in row.items() if key not in TIMES} for row in rows]
