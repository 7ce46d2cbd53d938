"""Many cases, one after the other, and the peer that PyTorch runs in."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import jax.numpy as jnp

from jconv.bench.cases import Case, pairs
from jconv.bench.contest import TORCH_OPS, measure
from jconv.bench.machine import cores, session
from jconv.bench.peer import TORCH_PYTHON, Peer
from jconv.bench.programs import ours, stock
from jconv.bench.rows import Row
from jconv.timing import ROUNDS, Compiled

FIRST = Case("conv", (1, 4, 4, 8), (3, 3, 8, 8))


@contextlib.contextmanager
def torch_peer(python: Path | None = None, file: Path = TORCH_OPS) -> Iterator[Peer | None]:
    """PyTorch in a process of its own with as many threads as JAX has; None where there is none.

    Args:
      python: the interpreter; None takes `TORCH_PYTHON`, if it is there.
      file: the module whose functions it times.

    Raises:
      FileNotFoundError: no interpreter at the path that was given.
      RuntimeError: the interpreter has no PyTorch.
    """
    if python is None and not TORCH_PYTHON.is_file():
        yield None
        return
    with Peer(python or TORCH_PYTHON, file, threads=cores()) as peer:
        yield peer


def sweep(
    names: Iterable[str], *, rounds: int = ROUNDS, others: bool = True, peer: Peer | None = None
) -> Iterator[list[Row]]:
    """The rows of each pass of each case, as they are measured.

    Args:
      others: jconv's other implementations too, beside the one that it chooses.

    Raises:
      ValueError: less than one round.
      KeyError: a name that is no case's.
    """
    now = session(**(peer.versions if peer else {}))
    for program in (ours, stock):  # what only the first compilation of a process waits for
        Compiled(program(FIRST, "fwd"), [jnp.zeros(FIRST.x), jnp.zeros(FIRST.w)])
    for name, case, pass_ in pairs(names):
        yield measure(name, case, pass_, now, rounds=rounds, others=others, peer=peer)
