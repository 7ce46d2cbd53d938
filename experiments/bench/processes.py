"""A benchmark run in several processes, one after the other, and what they say together."""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from jconv import bench


def in_processes(measure: Callable[[Path], None], processes: int, results: Path) -> None:
    """Rows as `measure(folder)` writes them, merged over so many new processes.

    They are written to `results` after every process: Ctrl-C leaves those of the processes before.

    Args:
      measure: as a new process can import it.
    """
    with tempfile.TemporaryDirectory(prefix="jconv-bench-") as scratch:
        folders = [Path(scratch) / str(number) for number in range(processes)]
        for number, folder in enumerate(folders):
            spawn = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(1, mp_context=spawn) as pool:
                pool.submit(measure, folder).result()
            _merge(folders[: number + 1], results)


def _merge(folders, results):
    for path in sorted(folders[-1].glob("*/*.jsonl")):
        file = path.relative_to(folders[-1])
        found: dict[tuple, dict[str, list[bench.Row]]] = {}
        for folder in folders:
            for row in bench.read_rows(folder / file):
                found.setdefault(row.key, {}).setdefault(row.contender, []).append(row)
        for contenders in found.values():
            bench.write_rows(results / file, map(bench.merged, contenders.values()))
