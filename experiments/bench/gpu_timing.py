"""What the parts of gpu.py share: timing on a GPU, time that is left, and rows as they are made.

A GPU works through what it is sent while the host goes on. So a contender's calls are sent one
after the other and waited for once, at the end; what is measured is the GPU, as long as a call
takes it longer than sending takes the host. `dispatch_seconds` says how long that is: rows that are
not three times as long are marked, for they measure the host. Contenders take turns, as
jconv/timing.py has it. Operands that would stay in the cache from call to call are several sets,
used in turn.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jconv import bench
from jconv.bench.contest import failure_of
from jconv.bench.rows import STOCK, TORCH
from jconv.timing import Spread, Timed, compete, ratio

CACHE = 120e6  # bytes: twice the second-level cache of an H200
MOST_SETS = 8


@dataclasses.dataclass
class Work:
    """A part of the script: where its rows go, how long it may take, and on what scale.

    Attributes:
      out: the folder of all parts' files.
      part: its name, which its file has.
      until: when it should stop, by `time.monotonic()`.
      tiny: a rehearsal on a CPU: small shapes, one round.
      session: the machine.
    """

    out: Path
    part: str
    until: float
    tiny: bool
    session: bench.Session

    @property
    def rounds(self) -> int:
        """How often contenders take turns."""
        return 1 if self.tiny else 7

    def time_left(self) -> bool:
        """Whether another row may be begun; says so when not."""
        left = time.monotonic() < self.until
        if not left:
            print(f"{self.part}: out of time", flush=True)
        return left

    def write(self, values: Mapping[str, Any]) -> None:
        """One more line of the part's file, at once."""
        with (self.out / f"{self.part}.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")

    def ceilings(self) -> dict[str, float]:
        """What the part of that name measured: "copy" in bytes, "matmul" in FLOP a second."""
        path = self.out / "ceilings.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return {row["what"]: row["per_second"] for row in map(json.loads, lines)}


class Queued:
    """Calls of a compiled program, sent one after the other and waited for once.

    Args:
      program: is compiled when this is made, and called once.
      sets: of arguments; calls take them in turn.
    """

    def __init__(self, program: Callable[..., Any], sets: Sequence[Sequence[Any]]):
        started = time.perf_counter()
        self._run, self._sets = jax.jit(program), sets
        self.result = jax.block_until_ready(self._run(*sets[0]))
        self.compile_seconds = time.perf_counter() - started

    def seconds(self, calls: int) -> float:
        """How long so many calls take."""
        result = None
        started = time.perf_counter()
        for number in range(calls):
            result = self._run(*self._sets[number % len(self._sets)])
        jax.block_until_ready(result)
        return time.perf_counter() - started


def dispatch_seconds() -> float:
    """How long the host takes to send one call, by a program that computes next to nothing."""
    nothing = Queued(lambda x: x + 1, [(jnp.zeros(8),)])
    return min(nothing.seconds(200) / 200 for _ in range(3))


def copies(make: Callable[[int], Any], size: int) -> list[Any]:
    """As many sets of operands, `make(number)` of `size` bytes each, as don't fit the cache."""
    return [make(number) for number in range(min(max(int(CACHE / max(size, 1)), 1), MOST_SETS))]


def rows(
    work: Work, name: str, family: str, pass_: str, entries: Mapping[str, bench.Entry], *,
    least_bytes: int, flops: int = 0, dispatch: float = 0.0,
) -> list[bench.Row]:  # fmt: skip
    """Times those entries that are fit for it, in turns, and writes the rows of all.

    Args:
      least_bytes: that a call must move, each operand and each result once.
      flops: products and sums that a call must do.
      dispatch: as `dispatch_seconds` returns it.
    """
    fit: dict[str, Timed] = {n: entry.timed for n, entry in entries.items() if entry.timed}
    times = compete(fit, rounds=work.rounds, round_seconds=0.0 if work.tiny else 0.02)
    ceilings, found = work.ceilings(), []
    for contender, entry in entries.items():
        seconds = Spread.of(times[contender]) if contender in times else None
        to_stock, to_torch = (
            ratio(times[contender], times[other])
            if seconds is not None and contender != other and other in times
            else None
            for other in (STOCK, TORCH)
        )
        by_name: dict[str, float] = {}
        if seconds is not None:
            by_name = {"copy": least_bytes / seconds.median, "matmul": flops / seconds.median}
            if seconds.median < 3 * dispatch:
                entry.implementation += ", bound by the host"
        shares = [by_name[key] / ceilings[key] for key in by_name if key in ceilings]
        row = bench.Row(
            case=name, family=family, pass_=pass_, contender=contender,
            implementation=entry.implementation, seconds=seconds, to_stock=to_stock,
            to_torch=to_torch, rounds=work.rounds,
            operand_bytes=least_bytes, temporary_bytes=entry.temporary_bytes,
            compile_seconds=entry.compile_seconds, error=entry.error, failure=entry.failure,
            load=None, session=work.session, bytes_per_second=by_name.get("copy"),
            flops_per_second=by_name.get("matmul") if flops else None,
            of_ceiling=max(shares, default=None),
        )  # fmt: skip
        work.write(json.loads(row.to_json()))
        found.append(row)
    print(f"{work.part}: {described(found)}", flush=True)
    return found


def described(found: Sequence[bench.Row]) -> str:
    """The rows of one pass in a line."""
    words = [found[0].case, found[0].pass_]
    for row in found:
        if row.seconds is None:
            words.append(f"{row.contender} failed: {(row.failure or '')[:120]}")
            continue
        share = "" if row.of_ceiling is None else f" ({100 * row.of_ceiling:.0f} %)"
        words.append(f"{row.contender} {1e6 * row.seconds.median:.1f} us{share}")
    return "  ".join(words)


def attempt(implementation: str, make: Callable[[], Any]) -> bench.Entry:
    """The contender that `make()` returns, or what went wrong."""
    try:
        timed = make()
    except Exception as error:  # a contender that fails must not stop the others
        return bench.Entry(implementation, failure=failure_of(error))
    return bench.Entry(
        implementation, timed, compile_seconds=getattr(timed, "compile_seconds", None)
    )
