"""`jconv bench`: a layer over `jconv.bench`."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

from rich.console import Console

from jconv import bench


@dataclasses.dataclass(frozen=True)
class Bench:
    """Time jconv on this machine against stock JAX, and PyTorch where there is one.

    The whole suite takes some ten minutes; --quick one or two. Let nothing else run meanwhile.
    """

    ops: tuple[str, ...] = ()
    """Names of cases (c3_56x64), families (depthwise) or operations (max_pool); none for the whole
    suite."""
    quick: bool = False
    """A few small cases of every kind."""
    rounds: int = 7
    """How often the contenders take turns; the medians are over so many ratios."""
    output: Path | None = None
    """A file of JSON lines to add the rows to, each case when it is done."""
    torch_python: Path | None = None
    """An interpreter with PyTorch; the default is .torch/bin/python, if it is there."""

    def run(self) -> None:
        """Prints each case when it is done, and the table; Ctrl-C keeps what is done."""
        names = bench.select(self.ops, bench.QUICK if self.quick else bench.SUITE)
        total, done = len(list(bench.pairs(names))), []
        try:
            with bench.torch_peer(self.torch_python) as peer:
                if peer is None:
                    _tell(f"no PyTorch: {bench.TORCH_PYTHON} is absent (see --torch-python)")
                for rows in bench.sweep(names, rounds=self.rounds, peer=peer):
                    done.append(rows)
                    _tell(f"{len(done)}/{total}  {bench.one_line(rows)}")
                    if self.output is not None:
                        bench.write_rows(self.output, rows)
        finally:
            if done:
                _print_table(done)
            if self.output is not None and done:
                _tell(f"{len(done)} of {total} passes are in {self.output}")


def _tell(line: str) -> None:
    """Progress goes to standard error: standard output is the table."""
    print(line, file=sys.stderr, flush=True)


def _print_table(done: list[list[bench.Row]]) -> None:
    session, table = done[0][0].session, bench.lines(row for rows in done for row in rows)
    # A file or a pipe has no width: there the lines are as long as they need to be.
    console = Console() if sys.stdout.isatty() else Console(width=160)
    console.print(f"{session.describe()}; milliseconds", markup=False, highlight=False)
    console.print(bench.rich_table(table, spreads=console.width >= 110))
    for line in table:
        for row in line.failures:
            console.print(f"{row.case} {row.pass_}, {row.contender}: {row.failure}", markup=False)
