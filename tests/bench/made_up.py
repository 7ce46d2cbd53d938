"""Rows with made-up numbers, and cases that compute in no time."""

from __future__ import annotations

from jconv.bench.cases import Case
from jconv.bench.machine import Session
from jconv.bench.rows import Row
from jconv.timing import Spread

SESSION = Session(
    commit="abc1234",
    dirty=False,
    date="2026-11-21T12:00:00+00:00",
    device="cpu",
    processor="Some CPU",
    cores=2,
    versions={"jaxlib": "0.12.0"},
    settings={},
)

TINY = {
    "plain": Case("conv", (2, 6, 5, 3), (3, 2, 3, 4), padding=1),
    "stride": Case("conv", (3, 9, 8, 2), (3, 3, 2, 5), stride=2, padding=1),
    "pixels_never_read": Case("conv", (2, 7, 6, 2), (1, 1, 2, 3), stride=3),
    "dilation": Case("conv", (2, 9, 7, 3), (3, 3, 3, 2), padding=2, dilation=2),
    "grouped": Case("conv", (2, 6, 5, 4), (3, 3, 2, 6), padding=1, groups=2),
    "depthwise": Case("conv", (2, 7, 6, 3), (3, 3, 1, 3), stride=2, padding=1, groups=3),
    "depthwise_wider": Case("conv", (2, 6, 5, 3), (3, 3, 1, 6), padding=1, groups=3),
    "one_axis": Case("conv", (2, 9, 3), (5, 3, 4), padding=2),
    "three_axes": Case("conv", (1, 4, 5, 3, 2), (3, 2, 3, 2, 3), padding=1),
    "transposed": Case("conv_transpose", (2, 4, 3, 5), (4, 4, 2, 5), stride=2, padding=1),
    "transposed_groups": Case("conv_transpose", (2, 4, 3, 4), (2, 2, 3, 4), stride=2, groups=2),
    "max_pool": Case("max_pool", (2, 7, 6, 3), window=3, stride=2, padding=1),
    "avg_pool": Case("avg_pool", (2, 6, 8, 3), window=2, stride=2),
    "avg_pool_padding": Case("avg_pool", (2, 6, 7, 3), window=3, stride=2, padding=1),
    "batch_norm": Case("batch_norm", (3, 4, 5, 2)),
    "layer_norm": Case("layer_norm", (2, 3, 4, 6)),
    "group_norm": Case("group_norm", (2, 3, 4, 6), groups=2),
}


def spread(median: float) -> Spread:
    """Of rounds a quarter faster and slower."""
    return Spread(median, 0.75 * median, 1.25 * median)


def row(case="c3_56x64", pass_="fwd", contender="jconv", median=0.01, **changes) -> Row:
    """A row as `measure` makes it."""
    values = {
        "case": case,
        "family": "dense",
        "pass_": pass_,
        "contender": contender,
        "implementation": "direct",
        "seconds": spread(median),
        "to_stock": None,
        "to_torch": None,
        "rounds": 7,
        "operand_bytes": 1000,
        "temporary_bytes": 500,
        "compile_seconds": 0.25,
        "error": 1e-6,
        "failure": None,
        "load": 0.5,
        "session": SESSION,
    }
    return Row(**(values | changes))


def race(case, pass_, *, jconv, stock, torch=None, **changes) -> list[Row]:
    """jconv, stock JAX and PyTorch in one pass, with these times in seconds."""
    fraction = {"to_stock": spread(jconv / stock), "to_torch": torch and spread(jconv / torch)}
    rows = [row(case, pass_, "jconv", jconv, **fraction, **changes)]
    rows.append(row(case, pass_, "stock", stock, **changes))
    return rows + ([row(case, pass_, "torch", torch, **changes)] if torch else [])
