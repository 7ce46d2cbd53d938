"""Which implementation runs: one literal table per operation, decided from static facts alone.

The rows stand best first; a row is supported or says in words why not. The last row of a table
supports everything on every platform: it is the operation's definition. The choice is made when the
operation is lowered, once for each platform.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from jconv.core.parts import Parts

type Reason = str | None


def _supports_all(*avals: Any, **static: Any) -> Reason:
    return None


@dataclasses.dataclass(frozen=True)
class Implementation:
    """One way to compute an operation.

    Attributes:
      name: what a caller passes as `implementation=`.
      body: `body(*arrays, **static)`, traceable.
      unsupported: `unsupported(*avals, **static)`: why the body can't compute the call, in words,
        or None if it can.
      slower: `slower(*avals, **static)`: why the rule passes over a body that can compute the call,
        a measured reason; without effect where the row is named.
      platforms: where it runs ("cpu", "cuda", "rocm", "tpu"), None for everywhere.
      by_name_only: never chosen by the rule, only when it is named.
      split_only: chosen by the rule only in a program that XLA splits over several devices.
      here_only: chosen by the rule only in a program for this machine, whole: not in one that XLA
        splits, which knows nothing of a call outside and would gather its operands, nor in one that
        is exported.
      inline: computed without the primitive, so that a jaxpr shows the body's own operations.
      parts: `parts(*avals, **static)`: along which axes the call falls into parts, for a body that
        XLA can't see into: where a program is split over devices, each computes its part. The body
        takes `across` beside the static arguments: the axes of the mesh to sum over what has not
        the axes that they split.
    """

    name: str
    body: Callable[..., Any]
    unsupported: Callable[..., Reason] = _supports_all
    slower: Callable[..., Reason] = _supports_all
    platforms: tuple[str, ...] | None = None
    by_name_only: bool = False
    split_only: bool = False
    here_only: bool = False
    inline: bool = False
    parts: Callable[..., Parts] | None = None


@dataclasses.dataclass(frozen=True)
class Choice:
    """What runs for one call of one operation, and why.

    Attributes:
      op: the operation, such as "conv_filter_grad".
      operands: type and shape of each operand, such as "float32[8,32,32,3]".
      platform: "cpu", "cuda", "rocm" or "tpu".
      implementation: the row of the table that runs.
      requested: the name that the caller asked for, or None where the rule chose.
      rejected: (name, reason) for every better row that was passed over; ("tuned", reason) where a
        measured choice was not followed.
      tuned: the file of the measurement that was followed, or None.
    """

    op: str
    operands: tuple[str, ...]
    platform: str
    implementation: str
    requested: str | None
    rejected: tuple[tuple[str, str], ...]
    tuned: str | None = None

    def __str__(self) -> str:
        why = "asked for by name" if self.requested else "first supported row of the table"
        why = why if self.tuned is None else f"tuned: {self.tuned}"
        passed = "".join(f"; not {name}: {reason}" for name, reason in self.rejected)
        call = f"{self.op}({', '.join(self.operands)})"
        return f"{call} on {self.platform}: {self.implementation} ({why}{passed})"


@dataclasses.dataclass(frozen=True)
class Program:
    """What a call is lowered into: split over several devices by XLA, exported elsewhere."""

    split: bool = False
    exported: bool = False


WHOLE = Program()


@dataclasses.dataclass(frozen=True)
class Measured:
    """What a measurement says of one call.

    Attributes:
      implementation: the row that was fastest, or the table's choice where none was clearly faster.
      file: where it is written.
      by_name: rows that are `by_name_only` took part.
      foreign: why it does not hold on this machine, or None if it does.
    """

    implementation: str
    file: str
    by_name: bool = False
    foreign: Reason = None


def choose(
    op: str,
    table: Sequence[Implementation],
    avals: Sequence[Any],
    static: dict[str, Any],
    *,
    platform: str,
    name: str | None,
    program: Program = WHOLE,
    measured: Measured | None = None,
) -> tuple[Implementation, Choice]:
    """The row of `table` that computes the call, and the account of why.

    A name goes before a measurement, a measurement before the order of the table.

    Raises:
      ValueError: no row is called `name`.
      NotImplementedError: the row called `name` can't compute this call, with its reason.
    """
    operands = tuple(aval.str_short() for aval in avals)
    rejected = []
    if name is None and measured is not None:
        found = _followed(measured, table, avals, static, platform, program)
        if isinstance(found, Implementation):
            choice = Choice(op, operands, platform, found.name, None, (), tuned=measured.file)
            return found, choice
        rejected.append(("tuned", f"{measured.implementation} in {measured.file}, but {found}"))
    for row in candidates(op, table, name):
        reason = _reason_against(row, avals, static, platform)
        if reason is None and name is None:
            reason = _reason_in(program, row) or row.slower(*avals, **static)
        if reason is None:
            return row, Choice(op, operands, platform, row.name, name, tuple(rejected))
        rejected.append((row.name, reason))
    raise refusal(op, rejected, avals)


def _followed(
    measured: Measured,
    table: Sequence[Implementation],
    avals: Sequence[Any],
    static: dict[str, Any],
    platform: str,
    program: Program,
) -> Implementation | str:
    """The row that a measurement says should compute the call, or why it can't be followed."""
    if measured.foreign is not None:
        return measured.foreign
    if program != WHOLE:
        return "measured in a program for this machine, whole"
    rows = [row for row in table if row.name == measured.implementation and not row.inline]
    if not rows:
        return "there is no such implementation"
    if rows[0].by_name_only and not measured.by_name:
        return "it is for those who ask for it by name"
    reason = _reason_in(program, rows[0]) or _reason_against(rows[0], avals, static, platform)
    return rows[0] if reason is None else reason


def _reason_in(program: Program, row: Implementation) -> Reason:
    if row.split_only and not program.split:
        return "only where XLA splits the program over several devices"
    if row.here_only and program.split:
        return "not where XLA splits the program over several devices"
    if row.here_only and program.exported:
        return "not in a program that is exported"
    return None


def refusal(
    op: str, rejected: Sequence[tuple[str, str]], avals: Sequence[Any]
) -> NotImplementedError:
    """The error that says why none of the implementations that were asked for runs the call."""
    reasons = "; ".join(f"{name!r} can't compute this call: {reason}" for name, reason in rejected)
    operands = ", ".join(aval.str_short() for aval in avals)
    return NotImplementedError(f"{op}: implementation {reasons}; got {operands}")


def one_body(body: Callable[..., Any], *better: Implementation) -> tuple[Implementation, ...]:
    """The table of an operation with one body of its own: "direct", and "lax" for it without a
    primitive; `better` are rows that stand before it.
    """
    inline = Implementation("lax", body, by_name_only=True, inline=True)
    return inline, *better, Implementation("direct", body)


def comparable(
    table: Sequence[Implementation],
    avals: Sequence[Any],
    static: dict[str, Any],
    platform: str,
    *,
    by_name: bool,
) -> list[Implementation]:
    """The rows that can compute a call in a program for one device of this machine.

    Args:
      by_name: those that the rule never chooses too.
    """
    return [
        row
        for row in table
        if (by_name or not row.by_name_only)
        and not row.inline
        and _reason_in(WHOLE, row) is None
        and _reason_against(row, avals, static, platform) is None
    ]


def candidates(
    op: str, table: Sequence[Implementation], name: str | None
) -> Sequence[Implementation]:
    """The rows that may compute a call: those the rule may choose from, or the one called `name`.

    Raises:
      ValueError: no row is called `name`.
    """
    if name is None:
        return [row for row in table if not row.by_name_only]
    rows = [row for row in table if row.name == name]
    if not rows:
        names = ", ".join(repr(row.name) for row in table)
        raise ValueError(f"{op}: implementation must be None or one of {names}; got {name!r}")
    return rows


def _reason_against(
    row: Implementation, avals: Sequence[Any], static: dict[str, Any], platform: str
) -> Reason:
    if row.platforms is not None and platform not in row.platforms:
        return f"only on {', '.join(row.platforms)}"
    return row.unsupported(*avals, **static)
