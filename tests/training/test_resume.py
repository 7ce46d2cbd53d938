"""Killing a real run and resuming it: metrics and last state are those of one left alone."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from jconv.training import Checkpoints, read_metrics, sgd
from jconv.training.metrics_file import TIMES
from tests.training.small import assert_same, make
from tests.training.train_to_kill import STEPS

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "tests.training.train_to_kill"]


def start(folder, *options):
    return subprocess.Popen(
        [*COMMAND, str(folder), *options], cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def send(process, what, after):
    """Sends a signal when the run has come to step `after`; what it printed, and its exit code."""
    printed = []
    for line in process.stdout:
        printed.append(line.strip())
        if line.strip() == f"step {after}":
            process.send_signal(what)
            break
    rest, errors = process.communicate(timeout=120)
    return [*printed, *rest.splitlines()], errors, process.returncode


def finish(folder, *options):
    process = start(folder, *options)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return output.splitlines()


def result(folder):
    """All rows without their times, and the last state."""
    rows = read_metrics(folder / "metrics.jsonl")
    _, template, _ = make(sgd(lambda _: 0.1), ema=True, ema_decay=0.9)
    with Checkpoints(folder / "checkpoints") as checkpoints:
        restored = checkpoints.restore(template, step=STEPS)
    return [{k: v for k, v in row.items() if k not in TIMES} for row in rows], restored.state


@pytest.fixture(scope="module")
def left_alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    assert finish(folder)[-1] == "done"
    return result(folder)


def assert_equal(actual, expected):
    assert actual[0] == expected[0]
    assert_same(actual[1], expected[1])


def test_the_run_left_alone_has_all_rows(left_alone):
    steps = {"train": range(7, STEPS + 1, 7), "eval": [*range(8, STEPS, 8), STEPS]}
    for kind, expected in steps.items():
        assert [row["step"] for row in left_alone[0] if row["kind"] == kind] == list(expected)
    assert left_alone[0][-1]["accuracy"] > 0.6


def test_stopped_by_ctrl_c(left_alone, tmp_path):
    printed, errors, code = send(start(tmp_path), signal.SIGINT, after=15)
    assert code == 130
    assert printed[-1].endswith(f"to resume: train_to_kill.py {tmp_path} --resume")
    assert "Ctrl-C again kills" in errors
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        stopped = checkpoints.latest_step()
    assert stopped is not None
    assert 15 <= stopped < STEPS
    resumed = finish(tmp_path, "--resume")
    assert resumed[0] == f"step {stopped}"
    assert_equal(result(tmp_path), left_alone)


@pytest.mark.slow
def test_killed_twice(left_alone, tmp_path):
    """In the middle of a row, some steps after a checkpoint that may still be being written."""
    for after, options in ((13, []), (29, ["--resume"])):
        printed, _, code = send(start(tmp_path, *options), signal.SIGKILL, after=after)
        assert code == -signal.SIGKILL
        assert "done" not in printed
    assert finish(tmp_path, "--resume")[0] != "step 0"
    assert_equal(result(tmp_path), left_alone)
