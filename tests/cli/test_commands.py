"""The command line: what it prints, its exit codes, and that it is a layer over functions."""

import dataclasses
import re
import shutil
import subprocess
import sys

import pytest

from jconv import runs
from jconv.cli import main
from jconv.cli.commands import run


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("cli") / "run")
    options = ["--model", "simple_cnn", "--epochs", "1", "--run-dir", folder]
    assert run(["train", "digits", *options]) == 0
    return folder


def test_trains_and_evaluates(run_dir, capsys):
    assert run(["evaluate", run_dir]) == 0
    assert re.match(
        r"test accuracy \d+\.\d\d% \(\d+ of 179 images wrong\)", capsys.readouterr().out
    )


def test_predicts(run_dir, capsys, tmp_path):
    from PIL import Image

    Image.new("L", (8, 8)).save(tmp_path / "black.png")
    assert run(["predict", run_dir, str(tmp_path / "black.png"), "--top", "2"]) == 0
    assert re.search(r"black\.png: \d \d+\.\d%  \d \d+\.\d%\n", capsys.readouterr().out)


def test_resuming_a_finished_run_says_what_it_reached(run_dir, capsys):
    assert run(["train", "--resume", run_dir]) == 0
    assert "report.html" in capsys.readouterr().out


def test_says_that_the_weights_are_not_the_last(run_dir, capsys, tmp_path):
    copy = shutil.copytree(run_dir, tmp_path / "copy")
    stopped = runs.Run.load(copy)
    (copy / "config.json").unlink()
    dataclasses.replace(stopped, steps=1000).save()
    assert run(["evaluate", str(copy)]) == 0
    assert re.search(r"newest weights are of step \d+ of 1000", capsys.readouterr().err)


def test_the_package_is_the_command_line():
    command = [sys.executable, "-m", "jconv", "--version"]
    found = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    assert re.search(r"^jconv \d", found.stdout, re.MULTILINE)


@pytest.mark.slow
def test_training_goes_on_when_nobody_reads(tmp_path):
    command = [sys.executable, "-m", "jconv.cli", "train", "--run-dir", str(tmp_path / "run")]
    options = ["--model", "simple_cnn", "--epochs", "1"]
    with subprocess.Popen([*command, *options], stdout=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.wait(timeout=300) == 0
    assert (tmp_path / "run" / "report.html").is_file()


def test_summary(capsys):
    assert run(["summary", "lenet5", "--input", "28,28,1"]) == 0
    out = capsys.readouterr().out
    assert "61,706" in out
    assert "multiply-adds" in out


def test_summary_without_fields(capsys):
    assert run(["summary", "lenet5", "--input", "28,28,1"]) == 0
    with_fields = capsys.readouterr().out
    assert re.search(r"\nc3 .* 14 +2 +2,416 ", with_fields)
    assert run(["summary", "lenet5", "--input", "28,28,1", "--no-fields"]) == 0
    assert not re.search(r"field +stride", capsys.readouterr().out)


def test_receptive_field(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(["receptive-field", "resnet20", "--input", "32,32,3", "--no-figures"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"endpoint +size +stride +padding +centre\n", out)
    assert re.search(r"layer3 +81 +4 +40 +0\n", out)
    assert list(tmp_path.iterdir()) == []


def test_receptive_field_draws(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ["--input", "16,16,1", "--unit", "1", "2", "--endpoint", "conv2", "--examples", "2"]
    assert run(["receptive-field", "simple_cnn", *options]) == 0
    assert "figures: receptive_field/simple_cnn/report.html\n" in capsys.readouterr().out
    folder = tmp_path / "receptive_field" / "simple_cnn"
    assert "conv2 at 1, 2" in (folder / "report.html").read_text(encoding="utf-8")
    assert {"growth_by_layer.png", "heat_maps.png"} < {path.name for path in folder.iterdir()}


def test_receptive_field_of_a_run_and_an_image(run_dir, capsys, tmp_path):
    from PIL import Image

    Image.new("RGB", (9, 9)).save(tmp_path / "black.png")
    options = ["--image", str(tmp_path / "black.png"), "--out", str(tmp_path / "out")]
    assert run(["receptive-field", run_dir, *options]) == 0
    assert re.search(r"pool2 +10 +4 +3 +3/2\n", capsys.readouterr().out)
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "Receptive fields of simple_cnn" in page
    assert "black.png" in page
    assert run(["receptive-field", run_dir, "--input", "8,8,1"]) == 2
    assert "a run has its own images, (8, 8, 1)" in capsys.readouterr().err


def test_version_needs_no_extra(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["jconv", "--version"])
    monkeypatch.setitem(sys.modules, "jconv.cli.commands", None)
    monkeypatch.setattr("jconv.cli.keep_freed_memory", bool)
    main()
    out = capsys.readouterr().out
    assert "jax " in out
    assert "onednn " in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "cifr10"], "did you mean cifar10"),
        (["train", "--model", "resnet2"], "did you mean"),
        (["train", "mnist", "--data-dir", "{tmp}", "--epochs", "0"], "epochs must be at least 1"),
        (["evaluate", "{tmp}"], "no run is kept here"),
        (["train", "--resume", "{tmp}", "--epochs", "3"], "keeps its own options.*got epochs"),
        (["train", "--resume", ""], r"\.: no run is kept here"),
        (["summary", "lenet5", "--input", "²,3,3"], "input must be H,W,C"),
        (["receptive-field", "resnet20", "--input", "3"], "receptive-field: input must be H,W,C"),
        (["receptive-field", "resnet2"], "did you mean"),
        (["receptive-field", "{tmp}"], "no run is kept here"),
        (["receptive-field", "lenet5", "--input", "28,28,1", "--unit", "0", "5"], r"unit=\(0, 5\)"),
        (["receptive-field", "lenet5", "--input", "28,28,1", "--endpoint", "C9"], "one of C1, S2"),
        (["receptive-field", "lenet5", "--input", "28,28,1", "--examples", "0"], "at least 1; got"),
        (["receptive-field", "lenet5", "--input", "28,28,1", "--image", "no.png"], "no such file"),
        (["summary", "lenet5", "--classes", "-1"], "classes a number, all at least 1"),
        (["train", "--run-dir", "/dev/null/run"], "Not a directory"),
        (["summary", "lenet5", "--input", "28x28"], "input must be H,W,C"),
        (["summary", "lenet5", "--input", "8,8,1"], "at least 12x12 pixels"),
    ],
)
def test_one_line_for_what_the_user_can_mend(arguments, message, capsys, tmp_path):
    assert run([argument.format(tmp=tmp_path) for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert re.search(message, error)
    assert error.startswith("jconv: ")
    assert error.count("\n") == 1
