"""Rows as JSON lines: the round trip, replacement, and files that hold something else."""

from __future__ import annotations

import dataclasses
import json

import pytest

from jconv.bench.rows import Row, merged, read_rows, write_rows
from jconv.timing import Spread
from tests.bench.made_up import SESSION, race, row, spread


@pytest.mark.parametrize(
    "original",
    [
        row(to_stock=spread(0.5), to_torch=spread(4.0)),
        row(contender="torch", temporary_bytes=None, compile_seconds=None, error=None, load=None),
        row(seconds=None, failure="wrong: a | and \n in it"),
        row(session=dataclasses.replace(SESSION, commit=None, settings={"MALLOC_ARENA_MAX": "1"})),
    ],
)
def test_round_trip(original):
    line = original.to_json()
    assert "\n" not in line
    assert Row.from_json(line) == original


def test_schema():
    """The names that committed rows have: renaming one is a change of all of them."""
    values = json.loads(row().to_json())
    assert set(values) == {
        "case", "family", "pass", "contender", "implementation", "seconds", "to_stock", "to_torch",
        "rounds", "operand_bytes", "temporary_bytes", "compile_seconds", "error", "failure",
        "load", "session", "bytes_per_second", "flops_per_second", "of_ceiling", "processes",
    }  # fmt: skip
    assert set(values["seconds"]) == {"median", "p20", "p80"}
    assert set(values["session"]) == {
        "commit", "dirty", "date", "device", "processor", "cores", "versions", "settings"
    }  # fmt: skip


def test_times_are_rounded():
    assert json.loads(row(median=0.123456789).to_json())["seconds"]["median"] == 0.1235


def test_newer_rows_take_the_place_of_older(tmp_path):
    path = tmp_path / "cpu" / "conv.jsonl"
    other = race("a", "dx", jconv=1.0, stock=2.0)
    write_rows(path, race("a", "fwd", jconv=1.0, stock=2.0, torch=4.0))
    write_rows(path, other)
    new = race("a", "fwd", jconv=0.5, stock=2.0)
    write_rows(path, new)
    assert read_rows(path) == other + new
    assert [file.name for file in path.parent.iterdir()] == ["conv.jsonl"]


@pytest.mark.parametrize(
    "change",
    [
        {"processor": "Another CPU"},
        {"cores": 4},
        {"settings": {"MALLOC_TOP_PAD_": "1"}},
        {"versions": {"jaxlib": "0.11.2"}},
        {"versions": {"jaxlib": "0.12.0", "onednn": "3.2"}},
    ],
)
def test_rows_of_another_setting_stay(change, tmp_path):
    here = row()
    there = row(session=dataclasses.replace(SESSION, **change))
    write_rows(tmp_path / "rows", [here])
    write_rows(tmp_path / "rows", [there])
    assert read_rows(tmp_path / "rows") == [here, there]


@pytest.mark.parametrize(
    "change", [{"date": "2027-01-01T00:00:00+00:00"}, {"commit": "fff", "dirty": True}]
)
def test_rows_of_another_day_or_commit_are_replaced(change, tmp_path):
    newer = row(session=dataclasses.replace(SESSION, **change))
    write_rows(tmp_path / "rows", [row()])
    write_rows(tmp_path / "rows", [newer])
    assert read_rows(tmp_path / "rows") == [newer]


def test_no_file_has_no_rows(tmp_path):
    assert read_rows(tmp_path / "absent") == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"rows, line 2: Expecting"),
        ("[]", r"rows, line 2: bench: no row: .*; got \[\]"),
        ('{"pass": "fwd"}', r"rows, line 2: bench: no row: KeyError\('session'\)"),
        (row().to_json().replace('"family"', '"kind"'), r"line 2: bench: no row: .*'kind'"),
    ],
)
def test_names_the_line_that_is_no_row(line, message, tmp_path):
    (tmp_path / "rows").write_text(f"{row().to_json()}\n{line}\n")
    with pytest.raises(ValueError, match=message):
        read_rows(tmp_path / "rows")


def in_process(median, **changes):
    """The rows that one process measured of jconv, PyTorch taking a second."""
    return row(median=median, to_torch=spread(median), **changes)


def test_merged_takes_each_process_once():
    dates = [dataclasses.replace(SESSION, date=f"2026-11-2{day}") for day in (3, 1, 2)]
    processes = [
        in_process(seconds, rounds=rounds, session=date, load=load, compile_seconds=load)
        for seconds, rounds, date, load in zip(
            (0.5, 0.1, 0.2), (35, 7, 7), dates, (0.5, 2.0, 0.75), strict=True
        )
    ]
    found = merged(processes)
    assert found.to_torch.median == found.seconds.median == 0.2
    assert found.seconds == Spread.of([0.5, 0.1, 0.2])
    assert (found.rounds, found.processes, found.session) == (49, 3, dates[0])
    assert (found.load, found.compile_seconds) == (2.0, 0.75)
    assert found.to_stock is None


def test_merged_keeps_a_failure():
    """Who failed in one process has no time: it is not known what the others' are worth."""
    failed = row(seconds=None, failure="wrong: error 1", rounds=0, error=1.0)
    found = merged([in_process(0.5), failed, in_process(0.5)])
    assert (found.failure, found.error, found.seconds) == ("wrong: error 1", 1.0, None)
    assert found.to_torch is None


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [row(contender="jconv"), row(contender="stock")],
        [row(pass_="dx"), row(pass_="dw")],
        [row(), row(session=dataclasses.replace(SESSION, settings={"OMP_NUM_THREADS": "1"}))],
    ],
)
def test_merged_refuses_different_things(rows):
    with pytest.raises(ValueError, match="of one thing"):
        merged(rows)
