"""`jconv bench` on a case of no size."""

from __future__ import annotations

import pytest

from jconv import bench
from jconv.bench.cases import CASES
from jconv.bench.rows import read_rows
from jconv.cli.bench import Bench
from tests.bench.made_up import TINY, race


@pytest.fixture(autouse=True)
def tiny(monkeypatch, tmp_path):
    """A case called tiny, in a folder where no PyTorch is found."""
    monkeypatch.setitem(CASES, "tiny", TINY["max_pool"])
    monkeypatch.chdir(tmp_path)


def test_prints_a_table_and_writes_rows(capsys, tmp_path):
    Bench(ops=("tiny",), rounds=1, output=tmp_path / "rows.jsonl").run()
    printed = capsys.readouterr()
    assert "tiny" in printed.out
    assert "stock/jconv" in printed.out
    assert "mean of pool" in printed.out
    assert "no PyTorch: .torch/bin/python is absent" in printed.err
    assert "2 of 2 passes are in" in printed.err
    rows = read_rows(tmp_path / "rows.jsonl")
    assert {(row.pass_, row.contender) for row in rows} >= {
        ("fwd", "jconv"), ("fwd", "stock"), ("full", "jconv"), ("full", "stock")
    }  # fmt: skip


def test_ctrl_c_leaves_what_is_done(capsys, tmp_path, monkeypatch):
    rows = race("tiny", "fwd", jconv=0.01, stock=0.02)

    def interrupted(names, **options):
        yield rows
        raise KeyboardInterrupt

    monkeypatch.setattr(bench, "sweep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Bench(ops=("tiny",), output=tmp_path / "rows.jsonl").run()
    assert read_rows(tmp_path / "rows.jsonl") == rows
    printed = capsys.readouterr()
    assert "2.00 (1.60-2.67)" in printed.out
    assert "1 of 2 passes are in" in printed.err


def test_wrong_results_are_said(capsys, monkeypatch):
    rows = [*race("tiny", "fwd", jconv=0.01, stock=0.02)]
    rows.append(bench.Row(**{**vars(rows[1]), "contender": "torch", "failure": "wrong: [error]"}))
    monkeypatch.setattr(bench, "sweep", lambda names, **options: iter([rows]))
    Bench(ops=("tiny",)).run()
    assert "tiny fwd, torch: wrong: [error]" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [({"ops": ("tinny",)}, "did you mean tiny"), ({"ops": ("tiny",), "rounds": 0}, "rounds=0")],
)
def test_says_what_is_wrong(options, message):
    with pytest.raises(ValueError, match=message):
        Bench(**options).run()


def test_an_interpreter_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="no interpreter for PyTorch"):
        Bench(ops=("tiny",), torch_python=tmp_path / "python").run()
