"""A network's layers, from one trace of shapes: nothing is computed."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
from flax import nnx

from jconv.summary.layer_calls import Call, CallRecorder, Variable
from jconv.summary.receptive_fields import call_fields
from jconv.summary.table import Row, Summary


def summarize(
    model_or_fn: nnx.Module | Callable[..., Any],
    *inputs: Any,
    depth: int | None = None,
    fields: bool = True,
) -> Summary:
    """What each layer of a model returns, sees, holds and costs on these inputs.

    Args:
      model_or_fn: an NNX module, or a pure function; modules that it calls are then among `inputs`:
        `summarize(ResNet.endpoints, model, x)`.
      inputs: arrays, `jax.ShapeDtypeStruct`s, or pytrees of them.
      depth: layers nested deeper than this are added to the layer around them; 1 shows what the
        model itself calls.
      fields: whether to follow the receptive fields, of the first input (N, *spatial, C) that has
        spatial axes; a few tenths of a second for networks of a hundred layers. In training mode
        batch norm reads the whole batch, and so does all behind it: use `model.eval()`.

    Raises:
      ValueError: the inputs do not fit the model (the message names the layer that could not take
        them), an input is not an array, or depth < 1.
    """
    if depth is not None and depth < 1:
        raise ValueError(f"summary: layers are nested at depth 1 and deeper; got depth={depth}")
    is_module = isinstance(model_or_fn, nnx.Module)
    args = (model_or_fn, *inputs) if is_module else inputs
    name = type(model_or_fn).__name__ if is_module else _name(model_or_fn)
    graphs, arrays = _parted(args)
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
        program = jax.make_jaxpr(traced)(arrays)
    finally:
        recorder.forget_arrays()
    leaves = [
        (graph is None, leaf)
        for graph, array in zip(graphs, arrays, strict=True)
        for leaf in jax.tree.leaves(array)
    ]
    found = call_fields(program, [given for given, _ in leaves]) if fields else {}
    rows = _rows(recorder.finish(program.jaxpr, found), recorder.variables, depth)
    return Summary(name, tuple(leaf.shape for given, leaf in leaves if given), rows)


def _parted(args: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """The graph of each module, None for what is none, and the shapes of the arrays of each."""
    parts = [nnx.split(arg) if isinstance(arg, nnx.Module) else (None, arg) for arg in args]
    return [graph for graph, _ in parts], [jax.tree.map(_abstract, array) for _, array in parts]


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
            receptive_field=call.field,
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
