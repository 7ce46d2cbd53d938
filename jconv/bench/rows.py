"""What was measured, as JSON lines: one object per contender in one pass of one case.

    {"case": "c3_56x64", "pass": "fwd", "contender": "jconv", "implementation": ..., "seconds":
     {"median": ..., "p20": ..., "p80": ...}, "to_stock": {...}, ..., "session": {"commit": ...}}

A ratio is the contender's time over another's, round by round: below 1 the contender is faster.
A contender that failed, or whose results are wrong, has `failure` and no times.
"""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self

from jconv.bench.machine import Session
from jconv.timing import Spread

JCONV, STOCK, TORCH = "jconv", "stock", "torch"


@dataclasses.dataclass(frozen=True)
class Row:
    """One contender in one pass of one case.

    Attributes:
      case, family, pass_: what was computed; "pass" in JSON.
      contender: "jconv" is the table's choice, "jconv:NAME" an implementation by name; "stock",
        "torch".
      implementation: what ran: of jconv, which row of each operation's table.
      seconds: per call; None where there is a failure.
      to_stock, to_torch: this contender's time over theirs; None where they were not timed.
      rounds: in how many it was timed; 0 where there is a failure.
      operand_bytes: of arguments and results together.
      temporary_bytes: the most that the program needs beside them; None where nobody says.
      compile_seconds: tracing, lowering and compiling; None for PyTorch, which does none.
      error: max|result - right| / max|right| against float64; None where it was not taken.
      failure: why there are no times, or None.
      load: processes that wanted to run in the minute before (Unix's load average); None where the
        system doesn't say.
      session: the machine and its settings.
      bytes_per_second: of a call, by the fewest bytes that it can move; None where not counted.
      flops_per_second: of a call, by the fewest products and sums; None where not counted.
      of_ceiling: the larger of the two as a fraction of what this machine was measured to do.
      processes: in how many, one after the other, it was timed. Spreads are over rounds in one,
        over the processes' medians in several (`merged`).
    """

    case: str
    family: str
    pass_: str
    contender: str
    implementation: str
    seconds: Spread | None
    to_stock: Spread | None
    to_torch: Spread | None
    rounds: int
    operand_bytes: int
    temporary_bytes: int | None
    compile_seconds: float | None
    error: float | None
    failure: str | None
    load: float | None
    session: Session
    bytes_per_second: float | None = None
    flops_per_second: float | None = None
    of_ceiling: float | None = None
    processes: int = 1

    def to_json(self) -> str:
        """One line."""
        values = {name.rstrip("_"): value for name, value in dataclasses.asdict(self).items()}
        return json.dumps(_rounded(values), allow_nan=False)

    @classmethod
    def from_json(cls, line: str) -> Self:
        """The row in a line.

        Raises:
          ValueError: the line is no JSON, or no row.
        """
        values = json.loads(line)
        try:
            values["pass_"] = values.pop("pass")
            values["session"] = Session(**values["session"])
            for name in ("seconds", "to_stock", "to_torch"):
                values[name] = None if values[name] is None else Spread(**values[name])
            return cls(**values)
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"bench: no row: {error!r}; got {line.strip()[:200]}") from error

    @property
    def key(self) -> tuple[Any, ...]:
        """Rows of one key are measurements of the same thing: the newest counts."""
        return *self.session.setting, self.case, self.pass_


def merged(rows: Sequence[Row]) -> Row:
    """One row of several, of one thing measured in as many processes.

    Where the allocator puts what a process computes, and whether it hands memory back between
    calls, is settled early in its life and can change a time by half: rounds in one process share
    it, and know less than their spread says. So a process counts once, by its median.

    Raises:
      ValueError: no rows, or rows of different contenders, cases, passes or settings.
    """
    if len({(row.contender, *row.key) for row in rows}) != 1:
        raise ValueError(f"bench: rows of one thing are merged; got {len(rows)}, of more or none")
    newest = max(rows, key=lambda row: row.session.date)

    def over(name: str) -> list[Any]:
        return [value for row in rows if (value := getattr(row, name)) is not None]

    def spread(name: str) -> Spread | None:
        medians = [found.median for found in over(name)]
        return Spread.of(medians) if len(medians) == len(rows) else None

    compiling = over("compile_seconds")
    return dataclasses.replace(
        newest,
        **{name: spread(name) for name in ("seconds", "to_stock", "to_torch")},
        **{name: max(over(name), default=None) for name in ("temporary_bytes", "error", "load")},
        rounds=sum(over("rounds")),
        compile_seconds=statistics.median(compiling) if compiling else None,
        failure=next(iter(over("failure")), None),
        processes=sum(over("processes")),
    )


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Adds rows to a file, in the place of older measurements of the same case, pass and setting.

    The file is replaced in one step: whoever is stopped meanwhile loses nothing.
    """
    rows = list(rows)
    keys = {row.key for row in rows}
    kept = [row for row in read_rows(path) if row.key not in keys]
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(path.name + ".new")
    new.write_text("".join(row.to_json() + "\n" for row in [*kept, *rows]), encoding="utf-8")
    os.replace(new, path)


def read_rows(path: Path) -> list[Row]:
    """The rows of a file, none if it is missing.

    Raises:
      ValueError: a line is no row; the message names it.
    """
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            rows.append(Row.from_json(line))
        except ValueError as error:
            raise ValueError(f"{path.name}, line {number}: {error}") from error
    return rows


def _rounded(value: Any) -> Any:
    """Numbers to four digits, which is more than a time is good for."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {name: _rounded(entry) for name, entry in value.items()}
    return value
