"""What a network is made of, layer by layer, from shapes alone: nothing is computed.

Rows add up to the totals: a row holds what its layer does itself, outside the layers it calls, and
a layer that only calls others has no row. A residual block, for one, stands after its layers, for
the sum that it returns.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from flax import nnx

from jconv.aligned import aligned
from jconv.summary.layer_calls import Call, CallRecorder, Variable


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
    """

    path: str
    type: str
    output: tuple[tuple[int, ...], ...]
    parameters: int
    statistics: int
    multiply_adds: int
    bytes: int


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
        """The cells of the table by column, the totals last."""
        rows = self.rows
        return {
            "layer": [*(row.path or "(itself)" for row in rows), "total"],
            "type": [*(row.type for row in rows), ""],
            "output": [*(", ".join(map(_shape, row.output)) for row in rows), ""],
            "parameters": [f"{r.parameters:,}" for r in (*rows, self)],
            "multiply-adds": [f"{r.multiply_adds:,}" for r in (*rows, self)],
            "bytes": [f"{r.bytes:,}" for r in (*rows, self)],
        }

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
        lines = aligned(columns, right={"parameters", "multiply-adds", "bytes", *(extra or ())})
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
                dataclasses.asdict(row) | {"output": [list(shape) for shape in row.output]}
                for row in self.rows
            ],
            "totals": {name: getattr(self, name) for name in totals},
        }

    def __str__(self) -> str:
        return self.table()


def summarize(
    model_or_fn: nnx.Module | Callable[..., Any], *inputs: Any, depth: int | None = None
) -> Summary:
    """What each layer of a model returns, holds and costs on these inputs.

    Args:
      model_or_fn: an NNX module, or a pure function; modules that it calls are then among `inputs`:
        `summarize(ResNet.endpoints, model, x)`.
      inputs: arrays, `jax.ShapeDtypeStruct`s, or pytrees of them.
      depth: layers nested deeper than this are added to the layer around them; 1 shows what the
        model itself calls.

    Raises:
      ValueError: the inputs do not fit the model (the message names the layer that could not take
        them), an input is not an array, or depth < 1.
    """
    if depth is not None and depth < 1:
        raise ValueError(f"summary: layers are nested at depth 1 and deeper; got depth={depth}")
    is_module = isinstance(model_or_fn, nnx.Module)
    args = (model_or_fn, *inputs) if is_module else inputs
    name = type(model_or_fn).__name__ if is_module else _name(model_or_fn)
    graphs, arrays = [], []
    for arg in args:
        graph, array = nnx.split(arg) if isinstance(arg, nnx.Module) else (None, arg)
        graphs.append(graph)
        arrays.append(jax.tree.map(_abstract, array))
    recorder = CallRecorder()

    def traced(arrays):
        recorder.see(jax.tree.leaves(arrays))
        values = [a if g is None else nnx.merge(g, a) for g, a in zip(graphs, arrays, strict=True)]
        modules = [(str(i), v) for i, v in enumerate(values) if isinstance(v, nnx.Module)]
        recorder.attach([("", modules[0][1])] if len(modules) == 1 else modules)
        result = (
            values[0](*values[1:]) if is_module else recorder.call("", name, model_or_fn, *values)
        )
        return jax.tree.leaves(result)

    try:
        jaxpr = jax.make_jaxpr(traced)(arrays).jaxpr
    finally:
        recorder.forget_arrays()
    rows = _rows(recorder.finish(jaxpr), recorder.variables, depth)
    given = [a for g, a in zip(graphs, arrays, strict=True) if g is None]
    return Summary(name, tuple(leaf.shape for leaf in jax.tree.leaves(given)), rows)


def _rows(calls: list[Call], variables: list[Variable], depth: int | None) -> tuple[Row, ...]:
    """One row per call that does or holds something itself, calls below `depth` added to the one
    around them."""
    first = {call.path: call for call in reversed(calls)}
    held: dict[int, list[Variable]] = {}
    for variable in variables:
        held.setdefault(id(_holder(variable.path, first)), []).append(variable)
    inside: dict[int, list[Call]] = {}
    for call in calls:
        inside.setdefault(id(_ancestor(call, depth)), []).append(call)
    rows = []
    for call in calls:
        together = inside.get(id(call), [])
        own = [variable for member in together for variable in held.get(id(member), [])]
        row = Row(
            path=call.path,
            type=call.type,
            output=call.output,
            parameters=sum(v.size for v in own if v.trained),
            statistics=sum(v.size for v in own if not v.trained),
            multiply_adds=sum(member.multiply_adds for member in together),
            bytes=sum(v.bytes for v in own) + sum(member.output_bytes for member in together),
        )
        at_bottom = not call.calls or call.level == depth
        if together and (at_bottom or row.parameters or row.multiply_adds or row.bytes):
            rows.append(row)
    return tuple(rows)


def _holder(path: str, first: dict[str, Call]) -> Call:
    """The call that a variable is listed with: the first of the innermost layer around it that was
    called at all."""
    while path and path not in first:
        path = path.rpartition(".")[0]
    return first[path]


def _ancestor(call: Call, depth: int | None) -> Call:
    while depth is not None and call.level > depth and call.parent is not None:
        call = call.parent
    return call


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    try:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
    except (AttributeError, TypeError) as error:
        message = f"summary: inputs are arrays or ShapeDtypeStructs; got {leaf!r}"
        raise ValueError(message) from error


def _name(fn: Callable[..., Any]) -> str:
    while isinstance(fn, functools.partial):
        fn = fn.func
    return getattr(fn, "__qualname__", type(fn).__name__)


def _shape(shape: tuple[int, ...]) -> str:
    return f"({', '.join(map(str, shape))})"
