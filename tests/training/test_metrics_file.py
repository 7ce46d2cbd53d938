"""jconv.training.metrics_file: rows in, rows out, and what a kill leaves."""

from __future__ import annotations

import pytest

from jconv.training import MetricsFile, read_metrics


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "run" / "metrics.jsonl"
    file = MetricsFile(path)
    for step in (10, 20, 30):
        file.write("train", step, {"loss": 1 / step})
    file.write("eval", 30, {"accuracy": 0.5})
    file.close()
    return path


def test_rows_come_back_exactly(path):
    rows = read_metrics(path)
    assert [row["step"] for row in rows] == [10, 20, 30, 30]
    assert rows[0] == {"kind": "train", "step": 10, "loss": 1 / 10}
    assert rows[3] == {"kind": "eval", "step": 30, "accuracy": 0.5}


@pytest.mark.parametrize(
    ("after", "left"), [(0, []), (15, [10]), (20, [10, 20]), (99, [10, 20, 30, 30])]
)
def test_rows_after_the_checkpoint_are_dropped(after, left, path):
    file = MetricsFile(path, after=after)
    assert [row["step"] for row in read_metrics(path)] == left
    file.write("train", 100, {})
    file.close()
    assert [row["step"] for row in read_metrics(path)] == [*left, 100]
    assert [p.name for p in path.parent.iterdir()] == ["metrics.jsonl"]


def test_a_last_line_that_a_kill_cut_short_is_dropped(path):
    content = path.read_text()
    path.write_text(content[:-5])
    assert [row["step"] for row in read_metrics(path)] == [10, 20, 30]
    MetricsFile(path, after=99).close()
    assert path.read_text() == "".join(content.splitlines(keepends=True)[:3])


def test_a_broken_line_in_the_middle_is_an_error(path):
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[1][:-3], *lines[2:]]))
    with pytest.raises(ValueError, match=r"line 2 of 4 in .*metrics.jsonl is no JSON"):
        read_metrics(path)


@pytest.mark.parametrize(
    "row", ["3", '{"kind": "train"}', '{"kind": "x", "step": 1}', '{"kind": "eval", "step": "1"}',
            '{"kind": "eval", "step": 1, "loss": "low"}'],
)  # fmt: skip
def test_a_line_that_is_no_row_is_an_error(row, path):
    path.write_text(path.read_text() + row + "\n")
    with pytest.raises(ValueError, match=r"line 5 of 5 in .* must have a kind, train or eval"):
        read_metrics(path)


def test_bytes_that_are_no_text_are_an_error(path):
    path.write_bytes(b"\xff" + path.read_bytes())
    with pytest.raises(ValueError, match=r"metrics.jsonl is no text"):
        read_metrics(path)


def test_a_missing_file_has_no_rows(tmp_path):
    assert read_metrics(tmp_path / "none.jsonl") == []
