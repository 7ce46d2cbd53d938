"""One pass of one case: every contender checked, then timed against the others."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jconv.bench.cases import Case
from jconv.bench.machine import Session
from jconv.bench.peer import Peer
from jconv.bench.programs import STOCK as STOCK_NAMES
from jconv.bench.programs import Program, alternatives, chosen, operands, ours, stock
from jconv.bench.reference import Expected, expected
from jconv.bench.rows import JCONV, STOCK, TORCH, Row
from jconv.timing import ROUNDS, Compiled, Spread, Timed, compete, ratio

SURE = 0.05
TORCH_OPS = Path(__file__).with_name("torch_ops.py")
FAILURES = (RuntimeError, NotImplementedError, ValueError, TypeError, MemoryError)


@dataclasses.dataclass
class Entry:
    """A contender before the race: what its row will say, and what is timed, if it is fit to be."""

    implementation: str
    timed: Timed | None = None
    temporary_bytes: int | None = None
    compile_seconds: float | None = None
    error: float | None = None
    failure: str | None = None


def measure(
    name: str,
    case: Case,
    pass_: str,
    session: Session,
    *,
    rounds: int = ROUNDS,
    others: bool = True,
    peer: Peer | None = None,
) -> list[Row]:
    """The rows of all contenders: jconv by its own choice, with `others` by each other
    implementation, stock JAX, and PyTorch if there is a peer.

    Who fails, or is wrong by more than rounding, gets a row that says so and no time.

    Args:
      peer: of `TORCH_OPS`.

    Raises:
      ValueError: less than one round.
      ConnectionError: the peer has ended.
    """
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    arrays = operands(case, pass_)
    right = expected(case, pass_, arrays)
    entries = dict(_jax_entries(case, pass_, arrays, right, others))
    if peer is not None:
        entries[TORCH] = _torch_entry(case, pass_, arrays, right, peer)
    return race(
        name, case.family, pass_, entries, session, rounds=rounds, load=load,
        operand_bytes=_bytes(case, pass_, arrays),
    )  # fmt: skip


def race(
    name: str,
    family: str,
    pass_: str,
    entries: dict[str, Entry],
    session: Session,
    *,
    rounds: int,
    operand_bytes: int,
    load: float | None,
) -> list[Row]:
    """Times those entries that are fit for it against one another: the rows of all.

    jconv's other implementations run after the rest, against stock JAX and PyTorch once more: what
    they allocate and free would change the memory that jconv's choice finds.

    Args:
      rounds: of `ROUNDS` or more, more follow until the medians of jconv's ratios are known to
        `SURE` of themselves.
    """
    times, rivals = _turns(entries, rounds)

    def against(contender, other):
        if contender == other or not {contender, other} <= times.keys():
            return None
        return ratio(times[contender], (rivals if ":" in contender else times)[other])

    return [
        Row(
            case=name,
            family=family,
            pass_=pass_,
            contender=contender,
            implementation=entry.implementation,
            seconds=Spread.of(times[contender]) if contender in times else None,
            to_stock=against(contender, STOCK),
            to_torch=against(contender, TORCH),
            rounds=len(times.get(contender, ())),
            operand_bytes=operand_bytes,
            temporary_bytes=entry.temporary_bytes,
            compile_seconds=entry.compile_seconds,
            error=entry.error,
            failure=entry.failure,
            load=load,
            session=session,
        )
        for contender, entry in entries.items()
    ]


def _turns(entries, rounds):
    """Seconds of each round of all that are fit, and of those that jconv's other implementations
    ran beside."""
    fit = {name: entry.timed for name, entry in entries.items() if entry.timed}
    first = {name: timed for name, timed in fit.items() if ":" not in name}
    times = compete(first, rounds=rounds, sure=SURE if rounds >= ROUNDS else math.inf)
    if len(fit) == len(first):
        return times, times
    rivals = compete({n: timed for n, timed in fit.items() if n != JCONV}, rounds=rounds)
    return rivals | times, rivals


def _jax_entries(case, pass_, arrays, right, others) -> Iterator[tuple[str, Entry]]:
    args = [jnp.asarray(array, jnp.dtype(case.dtype)) for array in arrays]
    yield JCONV, _compiled(_words(chosen(case, pass_)), ours(case, pass_), args, right)
    for name, runs in alternatives(case, pass_).items() if others else ():
        yield f"{JCONV}:{name}", _compiled(_words(runs), ours(case, pass_, name), args, right)
    yield STOCK, _compiled(STOCK_NAMES[case.op], stock(case, pass_), args, right)


def _compiled(implementation: str, program: Program, args: Any, right: Expected) -> Entry:
    entry = Entry(implementation)
    try:
        compiled = Compiled(program, args)
        results = [np.asarray(result) for result in compiled.results()]
    except FAILURES as error:
        entry.failure = failure_of(error)
        return entry
    entry.temporary_bytes = compiled.temporary_bytes
    entry.compile_seconds = compiled.compile_seconds
    return _judged(entry, compiled, results, right)


def _torch_entry(case, pass_, arrays, right, peer) -> Entry:
    entry = Entry(f"torch, {case.op}")
    arguments = {"case": dataclasses.asdict(case), "which": pass_}
    try:
        results = peer.prepare("operation", arguments, arrays).values()
    except RuntimeError as error:
        entry.failure = failure_of(error)
        return entry
    return _judged(entry, peer, results, right)


def _judged(entry: Entry, timed: Timed, results: Iterable[np.ndarray], right: Expected) -> Entry:
    error = right.error(list(results))
    if error <= right.tolerance:
        entry.timed, entry.error = timed, error
    elif math.isinf(error):
        entry.failure = "wrong: another shape, or entries that are no numbers"
    else:
        entry.error = error
        entry.failure = f"wrong: error {error:.1e}, rounding explains {right.tolerance:.1e}"
    return entry


def _bytes(case: Case, pass_: str, arrays: Iterable[np.ndarray]) -> int:
    """Of arguments and results."""
    args = [jax.ShapeDtypeStruct(array.shape, jnp.dtype(case.dtype)) for array in arrays]
    results = jax.eval_shape(stock(case, pass_), *args)
    return sum(a.size * a.dtype.itemsize for a in [*args, *results])


def _words(runs: Iterable[str]) -> str:
    """ "direct" where all operations run by that, else which runs by which."""
    runs = list(runs)
    names = {run.partition(": ")[2] for run in runs}
    return names.pop() if len(names) == 1 else ", ".join(runs)


def failure_of(error: BaseException) -> str:
    """What a row says of an error, in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
