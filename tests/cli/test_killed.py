"""`jconv train`, killed and resumed: the same final metrics as the run that was left alone."""

import os
import signal
import subprocess
import sys
import time

import pytest

from jconv.training import read_metrics
from jconv.training.metrics_file import TIMES

OPTIONS = ["digits", "--epochs", "12", "--log-every", "5"]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def left_alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("left") / "alone"
    assert _finish(_start(folder)) == 0
    return _without_times(folder)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_resumed_run_ends_as_if_it_had_not_been_killed(number, code, left_alone, tmp_path):
    process = _start(tmp_path / "run")
    _wait_for_an_evaluation(tmp_path / "run", process)
    process.send_signal(number)
    _, error = process.communicate()
    assert process.returncode == code
    if number == signal.SIGINT:
        assert f"to resume: jconv train --resume {tmp_path / 'run'}" in error
    assert len(_without_times(tmp_path / "run")) < len(left_alone)
    assert _finish(_command("train", "--resume", str(tmp_path / "run"))) == 0
    assert _without_times(tmp_path / "run") == left_alone


def _finish(process):
    process.communicate()
    return process.returncode


def _start(folder):
    return _command("train", *OPTIONS, "--run-dir", str(folder))


def _command(*arguments):
    code = "import sys; from jconv.cli import main; main()"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def _wait_for_an_evaluation(folder, process):
    """Until the second epoch's evaluation stands in the metrics file: a checkpoint is behind it."""
    while process.poll() is None:
        path = folder / "metrics.jsonl"
        if path.exists() and path.read_text().count('"eval"') >= 2:
            return
        time.sleep(0.05)
    raise AssertionError(f"the run ended by itself: {process.stderr.read()}")


def _without_times(folder):
    rows = read_metrics(folder / "metrics.jsonl")
    return [{key: value for key, value in row.items() if key not in TIMES} for row in rows]
