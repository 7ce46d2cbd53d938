"""What a network is made of, layer by layer, as rows, totals and text.

Rows add up to the totals: a row holds what its layer does itself, outside the layers it calls, and
a layer that only calls others has no row. A residual block, for one, stands after its layers, for
the sum that it returns.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jconv.aligned import aligned
from jconv.receptive_field import ReceptiveField
from jconv.receptive_field.table import numbers, remarks

NUMBERS = ("field", "stride", "parameters", "multiply-adds", "bytes")  # columns, as headers


@dataclasses.dataclass(frozen=True)
class Row:
    """One call of one layer.

    Attributes:
      path: where the layer sits in the model, "stages.0.blocks.1.conv1"; "" is the model or
        function itself.
      type: the name of its class.
      output: the shapes of the arrays that it returns.
      parameters: trainable numbers (`nnx.Param`), at the layer's first call; 0 where they were
        counted before.
      statistics: other numbers that are saved with the model, such as the mean and variance of
        batch norm.
      multiply_adds: for the inputs as given, batch included.
      bytes: of parameters, statistics and outputs; an array that passes through a layer unchanged
        is counted once.
      receptive_field: what its outputs see of the image, the widest where it has several or runs
        several times; None where the inputs hold no image, or it was not asked for.
    """

    path: str
    type: str
    output: tuple[tuple[int, ...], ...]
    parameters: int
    statistics: int
    multiply_adds: int
    bytes: int
    receptive_field: ReceptiveField | None = None


@dataclasses.dataclass(frozen=True)
class Summary:
    """The layers of a network in the order in which they finish; `str(summary)` is the table.

    Attributes:
      name: the name of the model's class, or of the function.
      inputs: the shapes of the inputs.
      rows: one per call of a layer; they add up to the totals.
    """

    name: str
    inputs: tuple[tuple[int, ...], ...]
    rows: tuple[Row, ...]

    @property
    def parameters(self) -> int:
        """Trainable numbers of the whole model, also of layers that the call didn't reach."""
        return sum(row.parameters for row in self.rows)

    @property
    def statistics(self) -> int:
        """Numbers that are saved but not trained."""
        return sum(row.statistics for row in self.rows)

    @property
    def multiply_adds(self) -> int:
        """For the inputs as given, batch included; each is two floating-point operations."""
        return sum(row.multiply_adds for row in self.rows)

    @property
    def bytes(self) -> int:
        """Bytes of parameters, statistics and the outputs of all layers."""
        return sum(row.bytes for row in self.rows)

    def columns(self) -> dict[str, list[str]]:
        """The cells of the table by column, the totals last.

        Size and stride of the receptive fields are in pixels of the image; a field of stride 0 does
        not move, and is mostly the whole image. What no rule knows, which is taken to read
        everything, and branches that don't fit are remarked on where they come up first.
        """
        rows = self.rows
        cells = {
            "layer": [*(row.path or "(itself)" for row in rows), "total"],
            "type": [*(row.type for row in rows), ""],
            "output": [*(", ".join(map(_shape, row.output)) for row in rows), ""],
        }
        fields = [row.receptive_field for row in rows]
        if any(fields):
            cells["field"] = [*(numbers(f.size) if f else "" for f in fields), ""]
            cells["stride"] = [*(numbers(f.stride) if f else "" for f in fields), ""]
        cells |= {
            "parameters": [f"{r.parameters:,}" for r in (*rows, self)],
            "multiply-adds": [f"{r.multiply_adds:,}" for r in (*rows, self)],
            "bytes": [f"{r.bytes:,}" for r in (*rows, self)],
        }
        said: list[str] = [*_remarks(fields), ""]
        if any(said):
            cells["remarks"] = said
        return cells

    def table(self, extra: Mapping[str, Sequence[Any]] | None = None) -> str:
        """The summary as aligned text.

        Args:
          extra: more columns, `{header: one cell per row}`.

        Raises:
          ValueError: a column of `extra` has not one cell per row.
        """
        columns = self.columns()
        for header, cells in (extra or {}).items():
            if len(cells) != len(self.rows):
                raise ValueError(
                    f"summary: column {header!r} has {len(cells)} cells for {len(self.rows)} "
                    f"rows; got {', '.join(map(str, cells))}"
                )
            columns[header] = [*map(str, cells), ""]
        lines = aligned(columns, right={*NUMBERS, *(extra or ())})
        rule = "─" * max(map(len, lines))
        title = f"{self.name} on {', '.join(map(_shape, self.inputs))}"
        return "\n".join([title, "", lines[0], rule, *lines[1:-1], rule, lines[-1]])

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON-able values: name, inputs, rows, totals."""
        totals = ("parameters", "statistics", "multiply_adds", "bytes")
        return {
            "name": self.name,
            "inputs": [list(shape) for shape in self.inputs],
            "rows": [
                _values(row)
                | {
                    "output": [list(shape) for shape in row.output],
                    "receptive_field": _field_values(row.receptive_field),
                }
                for row in self.rows
            ],
            "totals": {name: getattr(self, name) for name in totals},
        }

    def __str__(self) -> str:
        return self.table()


def _remarks(fields: Sequence[ReceptiveField | None]) -> Iterator[str]:
    """For each field what is to be said of it, and was not said of one before it."""
    said: set[str] = set()
    for field in fields:
        if field is None:
            yield ""
            continue
        unknown, misaligned = (
            [note for note in notes if note not in said]
            for notes in (field.unknown, field.misaligned)
        )
        said.update(unknown, misaligned)
        yield remarks(unknown, misaligned)


def _values(row: Row) -> dict[str, Any]:
    return {field.name: getattr(row, field.name) for field in dataclasses.fields(row)}


def _field_values(field: ReceptiveField | None) -> dict[str, Any] | None:
    """A field as JSON has it: whole numbers, others as floating point."""
    if field is None:
        return None
    names = ("size", "stride", "padding", "centre")
    values = {
        name: [int(v) if v == int(v) else float(v) for v in getattr(field, name)] for name in names
    }
    return values | {"misaligned": list(field.misaligned), "unknown": list(field.unknown)}


def _shape(shape: tuple[int, ...]) -> str:
    return f"({', '.join(map(str, shape))})"
