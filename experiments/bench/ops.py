"""Operations of jconv against stock JAX and PyTorch: the rows behind docs/benchmarks_cpu.md.

    python experiments/bench/ops.py [--ops depthwise maxpool2] [--more] [--no-others]
    python experiments/bench/ops.py --no-others --rounds 5 --processes 3

Writes results/<device>/<operation>.jsonl beside this script, each pass of a case when it is done,
of several processes after each: a newer measurement takes the place of the older one of the same
machine and setting. It takes some ten minutes on two cores, with nothing else running; `table.py`
makes the document.
"""

from __future__ import annotations

import functools
from pathlib import Path

import tyro
from processes import in_processes

from jconv import bench

RESULTS = Path(__file__).parent / "results"


def main(
    ops: tuple[str, ...] = (),
    more: bool = False,
    rounds: int = 7,
    processes: int = 1,
    others: bool = True,
    torch_python: Path | None = None,
    results: Path = RESULTS,
) -> None:
    """Measures and writes; Ctrl-C leaves what is done.

    Args:
      ops: names of cases, families or operations; none for the whole suite.
      more: the sizes beside the suite too.
      rounds: how often the contenders take turns; from 7 on, more where jconv's ratios are not
        known to 5 %.
      processes: how many do all this, one after the other; a row is then the median of theirs.
      others: times jconv's other implementations too; without them it takes a third as long.
      torch_python: an interpreter with PyTorch; the default is .torch/bin/python, if it is there.
      results: the folder that the rows go to.
    """
    names = bench.select(ops, bench.CASES if more else bench.SUITE)
    if processes > 1:
        measure = functools.partial(_measure, names, rounds, others, torch_python)
        in_processes(measure, processes, results)
    else:
        _measure(names, rounds, others, torch_python, results)


def _measure(names, rounds, others, torch_python, results):
    with bench.torch_peer(torch_python) as peer:
        if peer is None:
            print(f"no PyTorch: {bench.TORCH_PYTHON} is absent", flush=True)
        for rows in bench.sweep(names, rounds=rounds, others=others, peer=peer):
            op, device = bench.CASES[rows[0].case].op, rows[0].session.device
            bench.write_rows(results / device / f"{op}.jsonl", rows)
            print(bench.one_line(rows), flush=True)


if __name__ == "__main__":
    tyro.cli(main)
