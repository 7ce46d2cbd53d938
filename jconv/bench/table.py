"""Rows put beside one another: one line per pass of a case, and means over families."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from jconv.bench.cases import CASES, CONVOLUTIONS
from jconv.bench.rows import JCONV, STOCK, TORCH, Row
from jconv.timing import Spread, geometric_mean


@dataclasses.dataclass(frozen=True)
class Line:
    """The contenders in one pass of one case; `others` are jconv's implementations by name."""

    case: str
    family: str
    pass_: str
    jconv: Row
    stock: Row | None
    torch: Row | None
    others: tuple[Row, ...]

    @property
    def to_stock(self) -> Spread | None:
        """jconv's time over stock JAX's."""
        return self.jconv.to_stock

    @property
    def to_torch(self) -> Spread | None:
        """jconv's time over PyTorch's."""
        return self.jconv.to_torch

    @property
    def failures(self) -> tuple[Row, ...]:
        """The rows without a time."""
        rows = (self.jconv, *self.others, self.stock, self.torch)
        return tuple(row for row in rows if row is not None and row.failure)


@dataclasses.dataclass(frozen=True)
class Mean:
    """Geometric means over the passes of the cases of a family; None where nothing was timed.

    Attributes:
      passes: how many there are.
      stock_over_jconv: how many times faster jconv is than stock JAX.
      jconv_over_torch: jconv's time as a fraction of PyTorch's.
    """

    family: str
    passes: int
    stock_over_jconv: float | None
    jconv_over_torch: float | None


def lines(rows: Iterable[Row]) -> list[Line]:
    """One per case and pass, in the order in which they first appear.

    Raises:
      ValueError: rows of several settings, or a pass without jconv.
    """
    rows = list(rows)
    if len({row.session.setting for row in rows}) > 1:
        raise ValueError("bench: a table is of one machine and one setting; got rows of several")
    together: dict[tuple[str, str], dict[str, Row]] = {}
    for row in rows:
        together.setdefault((row.case, row.pass_), {})[row.contender] = row
    found = []
    for (case, pass_), by_contender in together.items():
        if JCONV not in by_contender:
            raise ValueError(f"bench: rows of {case} {pass_} without jconv's own")
        ours = by_contender.pop(JCONV)
        stock, torch = by_contender.pop(STOCK, None), by_contender.pop(TORCH, None)
        others = tuple(by_contender.values())
        found.append(Line(case, ours.family, pass_, ours, stock, torch, others))
    return found


def means(table: Sequence[Line]) -> list[Mean]:
    """Of each family in order of appearance, of all convolutions, and of all."""
    families = list(dict.fromkeys(line.family for line in table))
    found = [_mean(name, [line for line in table if line.family == name]) for name in families]
    ours = [line for line in table if line.case in CASES]
    convolutions = [line for line in ours if CASES[line.case].op in CONVOLUTIONS]
    if convolutions:
        found.append(_mean("all convolutions", convolutions))
    return [*found, _mean("all", table)]


def worst(
    table: Sequence[Line], ratio: Callable[[Line], Spread | None], count: int = 5
) -> list[Line]:
    """The lines whose ratio is largest, the worst first."""
    timed = [(spread.median, line) for line in table if (spread := ratio(line)) is not None]
    return [line for _, line in sorted(timed, key=lambda pair: -pair[0])[:count]]


def rich_table(table: Sequence[Line], *, spreads: bool = True) -> Any:
    """The lines and their means as a `rich.table.Table`, times in milliseconds.

    Without PyTorch its columns are gone.

    Args:
      spreads: says behind each ratio where the middle three fifths of the rounds' lie.
    """
    from rich.table import Table

    with_torch = any(line.torch for line in table)
    shown = Table(box=None, header_style="bold")
    shown.add_column("case", no_wrap=True)
    shown.add_column("pass")
    shown.add_column("runs by")
    for name in ("jconv", "stock", "stock/jconv", *(("torch", "jconv/torch") * with_torch)):
        shown.add_column(name, justify="right", no_wrap=True)
    for line in table:
        cells = [line.case, line.pass_, line.jconv.implementation]
        cells += [milliseconds(line.jconv), milliseconds(line.stock)]
        cells += [in_words(inverse(line.to_stock), spreads=spreads)]
        if with_torch:
            cells += [milliseconds(line.torch), in_words(line.to_torch, spreads=spreads)]
        shown.add_row(*cells)
    shown.add_section()
    for mean in means(table):
        passes = f"{mean.passes} pass{'' if mean.passes == 1 else 'es'}"
        cells = [f"mean of {mean.family}", "", passes, "", "", number(mean.stock_over_jconv)]
        shown.add_row(*cells, *(["", number(mean.jconv_over_torch)] if with_torch else []))
    return shown


def one_line(rows: Sequence[Row]) -> str:
    """The rows of one pass in one line of text."""
    (line,) = lines(rows)
    words = [line.case, line.pass_, f"jconv {milliseconds(line.jconv)} ms"]
    if faster := inverse(line.to_stock):
        words.append(f"stock/jconv {number(faster.median)}")
    if line.to_torch:
        words.append(f"jconv/torch {number(line.to_torch.median)}")
    failed = ", ".join(row.contender for row in line.failures)
    return "  ".join([*words, f"failed: {failed}"] if failed else words)


def inverse(spread: Spread | None) -> Spread | None:
    """The spread of the inverse ratios."""
    return spread and Spread(1 / spread.median, 1 / spread.p80, 1 / spread.p20)


def milliseconds(row: Row | None) -> str:
    """A row's median time; "failed", or "" where there is none."""
    if row is None:
        return ""
    return "failed" if row.seconds is None else number(1e3 * row.seconds.median)


def in_words(spread: Spread | None, *, spreads: bool = True) -> str:
    """ "1.23 (1.04-1.31)", the percentiles only with `spreads`; "" for None."""
    if spread is None:
        return ""
    ends = f" ({number(spread.p20)}-{number(spread.p80)})" if spreads else ""
    return number(spread.median) + ends


def number(value: float | None) -> str:
    """Three digits, as a person writes them: 0.97, 12.3, 1,081."""
    if value is None:
        return ""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"


def _mean(name, table):
    faster = [1 / line.to_stock.median for line in table if line.to_stock]
    fraction = [line.to_torch.median for line in table if line.to_torch]
    return Mean(
        family=name,
        passes=len(table),
        stock_over_jconv=geometric_mean(faster) if faster else None,
        jconv_over_torch=geometric_mean(fraction) if fraction else None,
    )
