"""The metrics of a run as JSON lines: one object per line, appended as the run goes on.

    {"kind": "train", "step": 50, "loss": 0.81, "accuracy": 0.75, ..., "seconds": 3.2, ...}
    {"kind": "eval", "step": 100, "loss": 0.52, "accuracy": 0.84, ..., "seconds": 6.0}

`step` counts the steps done. A value of a train row is the mean over the steps since the row
before, except `learning_rate`, which is the last one. `seconds` is the time since the run, or its
resumption, began; `images_per_second` is over the same steps.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

TIMES = ("seconds", "images_per_second")  # all that differs between a run and its repetition


class MetricsFile:
    """Appends rows to `path`.

    Args:
      after: the step from which the run goes on: rows of later steps, which a killed run wrote
        after its last checkpoint, are dropped. 0 starts an empty file.

    Attributes:
      train_rows: the train rows that were kept.
    """

    def __init__(self, path: str | Path, *, after: int = 0) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        kept = [row for row in read_metrics(self.path) if 0 < row["step"] <= after]
        # A new file in place of the old one: a kill in between loses neither.
        new = self.path.with_name(self.path.name + ".new")
        new.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
        os.replace(new, self.path)
        self._file = self.path.open("a", encoding="utf-8")
        self.train_rows = sum(row["kind"] == "train" for row in kept)

    def write(self, kind: str, step: int, values: dict[str, Any]) -> None:
        """Adds one row; it is in the hands of the operating system when this returns."""
        self._file.write(json.dumps({"kind": kind, "step": step, **values}) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    """The rows of a metrics file, without a last line that a kill cut short; none if it is missing.

    Raises:
      ValueError: the file is no text, a line before the last is no JSON, or a line is no row.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    except UnicodeDecodeError as error:
        raise ValueError(f"read_metrics: {path} is no text: {error}") from error
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            if number == len(lines):
                break
            raise ValueError(
                f"read_metrics: line {number} of {len(lines)} in {path} is no JSON: {error}"
            ) from error
        if not _is_row(row):
            raise ValueError(
                f"read_metrics: line {number} of {len(lines)} in {path} must have a kind, train "
                f"or eval, a whole step, and numbers; got {line}"
            )
        rows.append(row)
    return rows


def _is_row(row: Any) -> bool:
    if not isinstance(row, dict) or row.get("kind") not in ("train", "eval"):
        return False
    values = [value for name, value in row.items() if name != "kind"]
    numbers = all(value is None or isinstance(value, int | float) for value in values)
    return type(row.get("step")) is int and numbers
