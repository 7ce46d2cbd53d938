"""Benchmarks in several processes: each is a new one, and rows are of those that came to an end."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest

from jconv.bench import read_rows, write_rows
from tests.bench.made_up import race

SCRIPTS = str(Path(__file__).parents[2] / "experiments" / "bench")


@pytest.fixture
def in_processes(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    import processes

    return processes.in_processes


_measured: list[Path] = []


def measure(fails_after: int, folder: Path) -> None:
    """Times that grow with the folder's number, in a process that measured nothing before."""
    assert not _measured, "not a new process"
    _measured.append(folder)
    number = int(folder.name)
    if number >= fails_after:
        raise RuntimeError(f"process {number}")
    rows = race("a", "fwd", jconv=1.0 + number, stock=2.0)
    write_rows(folder / "cpu" / "conv.jsonl", rows)


def test_rows_of_all(in_processes, tmp_path):
    in_processes(functools.partial(measure, 9), 3, tmp_path)
    jconv, stock = read_rows(tmp_path / "cpu" / "conv.jsonl")
    assert (jconv.contender, jconv.seconds.median, jconv.to_stock.median) == ("jconv", 2.0, 1.0)
    assert (stock.seconds.median, jconv.processes, stock.processes) == (2.0, 3, 3)


def test_what_was_measured_before_an_error_stays(in_processes, tmp_path):
    with pytest.raises(RuntimeError, match="process 1"):
        in_processes(functools.partial(measure, 1), 3, tmp_path)
    jconv, _ = read_rows(tmp_path / "cpu" / "conv.jsonl")
    assert (jconv.seconds.median, jconv.processes) == (1.0, 1)
