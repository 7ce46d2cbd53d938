"""How fast jconv is on this machine, against stock JAX and PyTorch: cases, timing, tables.

    with bench.torch_peer() as peer:  # None where there is no PyTorch
        for rows in bench.sweep(["c3_56x64", "maxpool2"], peer=peer):
            bench.write_rows(Path("rows.jsonl"), rows)

`jconv bench` and the scripts in experiments/bench/ are made of these functions. Their figures are
those of one machine at one time: other work on it shows in the rows' `load`.
"""

from jconv.bench.cases import CASES as CASES
from jconv.bench.cases import QUICK as QUICK
from jconv.bench.cases import SUITE as SUITE
from jconv.bench.cases import Case as Case
from jconv.bench.cases import pairs as pairs
from jconv.bench.cases import select as select
from jconv.bench.contest import TORCH_OPS as TORCH_OPS
from jconv.bench.contest import Entry as Entry
from jconv.bench.contest import measure as measure
from jconv.bench.contest import race as race
from jconv.bench.everywhere import DENSE as DENSE
from jconv.bench.everywhere import everywhere as everywhere
from jconv.bench.machine import Session as Session
from jconv.bench.machine import cores as cores
from jconv.bench.machine import session as session
from jconv.bench.peer import TORCH_PYTHON as TORCH_PYTHON
from jconv.bench.peer import Peer as Peer
from jconv.bench.rows import Row as Row
from jconv.bench.rows import merged as merged
from jconv.bench.rows import read_rows as read_rows
from jconv.bench.rows import write_rows as write_rows
from jconv.bench.suite import sweep as sweep
from jconv.bench.suite import torch_peer as torch_peer
from jconv.bench.table import lines as lines
from jconv.bench.table import one_line as one_line
from jconv.bench.table import rich_table as rich_table
from jconv.timing import Compiled as Compiled
