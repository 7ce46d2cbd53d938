"""The protocol with a made-up peer in a process of its own; PyTorch's operations, where it is."""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest

from jconv.bench.cases import CASES
from jconv.bench.contest import TORCH_OPS
from jconv.bench.peer import Peer
from jconv.bench.programs import operands
from jconv.bench.reference import expected
from jconv.bench.suite import torch_peer
from tests.bench.made_up import TINY

FAKE = """
import sys

print("imported")  # on standard output, as careless libraries do


def describe(threads):
    return {"fake": f"1.0 on {threads} threads"}


def arrays(results):
    return results


def scaled(operands, factor):
    calls = []

    def function():
        calls.append(None)
        print("called")
        return {"first": operands[0] * factor, "calls": operands[1] * 0 + len(calls)}

    return function


def failing(operands):
    raise ValueError("two lines\\nof text")


def leaving(operands):
    sys.exit(3)
"""


@pytest.fixture
def peer(tmp_path):
    file = tmp_path / "fake.py"
    file.write_text(FAKE)
    with Peer(Path(sys.executable), file, threads=5) as peer:
        yield peer


def test_prepares_and_times(peer):
    assert peer.versions == {"fake": "1.0 on 5 threads"}
    x, y = np.arange(6, dtype=np.float32).reshape(2, 3), np.zeros(2, np.int32)
    for _ in range(2):  # a second one takes the place of the first
        found = peer.prepare("scaled", {"factor": 3}, [x, y])
        assert list(found) == ["first", "calls"]
        np.testing.assert_array_equal(found["first"], 3 * x)
        assert found["first"].dtype == np.float32
        np.testing.assert_array_equal(found["calls"], [1, 1])
        assert peer.seconds(2) > 0


def test_passes_on_what_went_wrong_and_goes_on(peer):
    with pytest.raises(RuntimeError, match="ValueError: two lines\nof text"):
        peer.prepare("failing", {})
    with pytest.raises(RuntimeError, match="'NoneType' object is not callable"):
        peer.seconds(1)
    with pytest.raises(RuntimeError, match=r"AttributeError.*absent"):
        peer.prepare("absent", {})
    peer.prepare("scaled", {"factor": 1}, [np.ones(1), np.ones(1)])


def test_says_that_it_ended(peer):
    with pytest.raises(ConnectionError, match="process ended with exit code 3"):
        peer.prepare("leaving", {})
    with pytest.raises(ConnectionError, match="process ended with exit code 3"):
        peer.seconds(1)


def test_ctrl_c_is_not_for_the_peer(peer):
    os.kill(peer._process.pid, signal.SIGINT)
    assert peer.prepare("scaled", {"factor": 1}, [np.ones(1), np.ones(1)])


def test_an_interpreter_without_the_library(tmp_path):
    file = tmp_path / "wants.py"
    file.write_text("import no_such_library")
    with pytest.raises(RuntimeError, match="No module named 'no_such_library'"):
        Peer(Path(sys.executable), file, threads=1)


def test_no_interpreter(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"no interpreter for PyTorch at .*absent"):
        Peer(tmp_path / "absent", TORCH_OPS, threads=1)
    monkeypatch.chdir(tmp_path)
    with torch_peer() as peer:
        assert peer is None


@pytest.fixture(scope="module")
def torch(request):
    default = Path(__file__).parents[2] / ".torch" / "bin" / "python"
    python = request.config.getoption("--torch-python") or default
    if not python.is_file():
        pytest.skip(f"no PyTorch: {python} is absent; see docs/contributing.md")
    with torch_peer(python) as peer:
        yield peer


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "pass_", "dtype"),
    [
        (name, pass_, dtype)
        for name, case in TINY.items()
        for pass_ in case.passes
        for dtype in sorted({each.dtype for each in CASES.values() if each.op == case.op})
    ],
)
def test_torch_computes_the_same(name, pass_, dtype, torch):
    case = dataclasses.replace(TINY[name], dtype=dtype)
    arrays = operands(case, pass_)
    arguments = {"case": dataclasses.asdict(case), "which": pass_}
    right = expected(case, pass_, arrays)
    assert right.error(torch.prepare("operation", arguments, arrays).values()) <= right.tolerance
