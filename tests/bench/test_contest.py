"""One pass measured: who takes part, who is refused. What a clock said is not looked at."""

from __future__ import annotations

import dataclasses
import itertools

import jax.numpy as jnp
import pytest

from jconv.bench import contest
from jconv.bench.cases import CASES, Case
from jconv.bench.contest import measure
from jconv.bench.machine import session
from jconv.bench.programs import alternatives, chosen, stock
from jconv.bench.suite import sweep
from jconv.core import Implementation
from jconv.ops import conv_triangle
from jconv.timing import Compiled
from tests.bench.made_up import SESSION, TINY


class FakePeer:
    """Answers as PyTorch's process does; `wrong` is added to what stock JAX computes."""

    def __init__(self, wrong=0.0, raises=None):
        self.versions = {"torch": "9.9"}
        self.wrong, self.raises, self.asked = wrong, raises, []

    def prepare(self, name, arguments, arrays):
        self.asked.append((name, arguments))
        if self.raises:
            raise self.raises
        case = Case(**arguments["case"])
        results = stock(case, arguments["which"])(*map(jnp.asarray, arrays))
        return {str(i): result + self.wrong for i, result in enumerate(results)}

    def seconds(self, calls):
        return 0.25 * calls


def by_contender(rows):
    return {row.contender: row for row in rows}


@pytest.mark.parametrize("name", ["grouped", "max_pool", "batch_norm"])
def test_contenders(name):
    pass_ = TINY[name].passes[-1]
    rows = by_contender(measure(name, TINY[name], pass_, SESSION, rounds=2, peer=FakePeer()))
    assert {"jconv", "stock", "torch"} <= set(rows)
    for contender, row in rows.items():
        assert (row.case, row.pass_, row.failure, row.rounds) == (name, pass_, None, 2)
        assert row.seconds.p20 <= row.seconds.median <= row.seconds.p80
        assert (row.to_stock is None) == (contender == "stock")
        assert (row.to_torch is None) == (contender == "torch")
        assert (row.compile_seconds is None) == (contender == "torch")
        assert row.error < 1e-5
    assert rows["torch"].seconds.median == 0.25


def test_bytes():
    (row, *_) = measure("plain", TINY["plain"], "dw", SESSION, rounds=1)
    case = TINY["plain"]
    numbers = sum(jnp.zeros(shape).size for shape in (case.x, case.output, case.w))
    assert row.operand_bytes == 4 * numbers
    assert row.temporary_bytes >= 0


def test_without_a_peer_there_is_no_torch():
    rows = by_contender(measure("plain", TINY["plain"], "fwd", SESSION, rounds=1))
    assert "torch" not in rows
    assert rows["jconv"].to_torch is None
    assert rows["jconv"].to_stock is not None


def test_wrong_result_gets_no_number(monkeypatch):
    """Stock JAX without the padding's last row, and a peer whose numbers are off by one."""

    def off(case, pass_):
        return lambda x, w: tuple(y.at[-1, -1].multiply(0) for y in stock(case, pass_)(x, w))

    monkeypatch.setattr(contest, "stock", off)
    rows = by_contender(
        measure("plain", TINY["plain"], "fwd", SESSION, rounds=1, peer=FakePeer(wrong=1.0))
    )
    for contender in ("stock", "torch"):
        assert rows[contender].seconds is None
        assert "wrong: error" in rows[contender].failure
        assert rows[contender].error > 1e-3
    assert rows["jconv"].seconds is not None
    assert rows["jconv"].to_stock is None
    assert rows["jconv"].to_torch is None


def test_failure_is_a_row(monkeypatch):
    def fails(case, pass_):
        raise NotImplementedError("no\nway")

    monkeypatch.setattr(contest, "stock", lambda case, pass_: lambda *args: fails(case, pass_))
    monkeypatch.setattr(contest, "_bytes", lambda *args: 1)
    peer = FakePeer(raises=RuntimeError("out of memory"))
    rows = by_contender(measure("plain", TINY["plain"], "fwd", SESSION, rounds=1, peer=peer))
    assert rows["stock"].failure == "NotImplementedError: no way"
    assert rows["torch"].failure == "RuntimeError: out of memory"
    assert rows["jconv"].seconds is not None


def test_the_peer_is_told_the_whole_case():
    peer = FakePeer()
    measure("plain", TINY["plain"], "dx", SESSION, rounds=1, peer=peer)
    case = dataclasses.asdict(TINY["plain"])
    assert peer.asked == [("operation", {"case": case, "which": "dx"})]


def test_an_ended_peer_ends_the_measurement():
    peer = FakePeer(raises=ConnectionError("ended"))
    with pytest.raises(ConnectionError, match="ended"):
        measure("plain", TINY["plain"], "fwd", SESSION, rounds=1, peer=peer)


def test_every_other_implementation_takes_part(monkeypatch):
    """A row of the table, whatever it is, is found; the one that the rule takes is not run twice,
    nor jax.lax's spelling of it."""
    case, table = TINY["plain"], conv_triangle.forward.table
    direct = table[-1]
    new = Implementation("new", lambda *a, **k: direct.body(*a, **k), by_name_only=True)
    refusing = Implementation("refusing", direct.body, lambda *a, **k: "never", by_name_only=True)
    monkeypatch.setattr(conv_triangle.forward, "table", (new, refusing, *table))
    names = set(alternatives(case, "fwd"))
    assert "new" in names
    assert not names & {"refusing", "lax", chosen(case, "fwd")[0].partition(": ")[2]}
    assert "new" not in alternatives(case, "dx")
    rows = by_contender(measure("plain", case, "fwd", SESSION, rounds=1))
    assert rows["jconv:new"].implementation == "new"
    assert rows["jconv:new"].error < 1e-5


class Clock:
    """Takes `each` seconds a call, and writes down whose turn it was."""

    def __init__(self, name, each, log):
        self.name, self.each, self.log = name, each, log

    def seconds(self, calls):
        self.log.append(self.name)
        return next(self.each) * calls


def test_other_implementations_race_after_the_rest():
    """Against stock JAX and PyTorch once more: their times of the first race are not used."""
    log = []
    times = {"jconv": 1.0, "jconv:rows": 3.0, "stock": 2.0, "torch": 4.0}
    later = {"stock": 6.0, "torch": 12.0}

    entries = {}
    for name, first in times.items():
        then = itertools.repeat(later.get(name, first))
        entries[name] = contest.Entry(name, Clock(name, itertools.chain([first] * 3, then), log))
    rows = by_contender(
        contest.race("a", "dense", "fwd", entries, SESSION, rounds=2, operand_bytes=1, load=None)
    )
    assert log == [
        "jconv", "stock", "torch", "jconv", "stock", "torch", "stock", "torch", "jconv",
        "jconv:rows", "stock", "torch", "jconv:rows", "stock", "torch", "stock", "torch",
        "jconv:rows",
    ]  # fmt: skip
    assert rows["jconv"].to_stock.median == 0.5
    assert rows["jconv"].to_torch.median == 0.25
    assert rows["jconv:rows"].to_stock.median == 0.5
    assert rows["jconv:rows"].to_torch.median == 0.25
    assert rows["stock"].seconds.median == 2.0


@pytest.mark.parametrize(("rounds", "done"), [(2, 2), (7, 35)])
def test_more_rounds_where_a_ratio_is_not_known(rounds, done):
    """But not for somebody who asked for few."""
    noisy = Clock("stock", itertools.cycle([1.0, 2.0]), [])
    entries = {
        "jconv": contest.Entry("a", Clock("jconv", itertools.repeat(1.0), [])),
        "stock": contest.Entry("b", noisy),
    }
    found = contest.race(
        "a", "dense", "fwd", entries, SESSION, rounds=rounds, operand_bytes=1, load=None
    )
    assert {row.rounds for row in found} == {done}


def test_temporary_memory_is_the_programs():
    """What lies between two sorts along different axes has to be stored somewhere."""
    args = [jnp.ones((64, 64))]
    keeps = Compiled(lambda x: (jnp.sum(jnp.sort(jnp.sort(x, 0), 1)),), args)
    needs_none = Compiled(lambda x: (x + 1,), args)
    assert keeps.temporary_bytes >= 64 * 64 * 4
    assert needs_none.temporary_bytes == 0
    assert needs_none.results()[0].shape == (64, 64)


def test_sweep_goes_case_by_case(monkeypatch):
    monkeypatch.setitem(CASES, "tiny", TINY["avg_pool"])
    found = list(sweep(["tiny"], rounds=1, peer=FakePeer()))
    assert [rows[0].pass_ for rows in found] == ["fwd", "full"]
    assert found[0][0].session.versions["torch"] == "9.9"


def test_session_describes_the_machine(monkeypatch):
    monkeypatch.setenv("MALLOC_TOP_PAD_", "1000")
    monkeypatch.setenv("LD_PRELOAD", "")
    now = session(torch="2.13")
    assert now.versions["torch"] == "2.13"
    assert {"jax", "jaxlib", "flax", "python"} <= set(now.versions)
    assert now.settings["MALLOC_TOP_PAD_"] == "1000"
    assert now.cores >= 1
    assert now.processor
    assert "MALLOC_TOP_PAD_=1000" in now.describe()
    assert "jaxlib" in now.describe()
