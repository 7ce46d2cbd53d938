"""The receptive fields of a model's endpoints and layers, from shapes alone."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Sequence
from typing import Any

from flax import nnx

from jconv.receptive_field import ReceptiveField, theoretical
from jconv.receptive_field.named import named_fields
from jconv.summary.layer_calls import CALL

_OWN_SCOPE = re.compile(rf"{CALL}\d+/?")


def receptive_fields(model: nnx.Module, x: Any) -> dict[str, ReceptiveField]:
    """What the pixels of each endpoint of a model see of x (N, H, W, C), along H and W.

    Nothing is computed: the model may be abstract (`nnx.eval_shape`), x a `jax.ShapeDtypeStruct`. A
    model without a method `endpoints` has one, called "output".

    Raises:
      ValueError: x is not (N, H, W, C).
    """
    graph, state = nnx.split(model)

    names: list[str] = []  # jit and jax.tree put dicts into the order of their keys

    def endpoints(x, state):
        out = endpoints_of(nnx.merge(graph, state), x)
        names[:] = out
        return out

    if len(getattr(x, "shape", ())) != 4:
        raise ValueError(f"receptive_fields: x must be an array (N, H, W, C); got {x!r}")
    fields = theoretical(endpoints, x, state)
    return {name: fields[name] for name in names}


def endpoints_of(model: Any, x: Any) -> dict[str, Any]:
    """The named intermediates of a model for x, or its result as "output" if it names none."""
    return model.endpoints(x) if hasattr(model, "endpoints") else {"output": model(x)}


def call_fields(program: Any, given: Sequence[bool]) -> dict[str, ReceptiveField]:
    """The fields of what each call of a layer returns, by the names that `CallRecorder` gives.

    The image is the first argument that is given and has three axes or more, (N, *spatial, C); all
    but its first and its last are followed. Without such a one there are no fields.

    Args:
      program: the closed jaxpr of the trace.
      given: of each argument of it, whether it may be the image; the others are weights.
    """
    for number, (var, may_be) in enumerate(zip(program.jaxpr.invars, given, strict=True)):
        shape = var.aval.shape
        if may_be and len(shape) > 2 and math.prod(shape):
            fields = named_fields(program, number, range(1, len(shape) - 1), CALL)
            return {name: _as_written(field) for name, field in fields.items()}
    return {}


def _as_written(field: ReceptiveField) -> ReceptiveField:
    """Without the scopes of the recorder's own in what is said about branches."""
    notes = (_OWN_SCOPE.sub("", note) for note in field.misaligned)
    cleaned = (note.replace(" in :", ":").replace("/:", ":") for note in notes)
    return dataclasses.replace(field, misaligned=tuple(dict.fromkeys(cleaned)))
