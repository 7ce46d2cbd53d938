"""The receptive fields of a model's endpoints, from shapes alone."""

from __future__ import annotations

from typing import Any

from flax import nnx

from jconv.receptive_field import ReceptiveField, theoretical


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
        merged: Any = nnx.merge(graph, state)
        out = merged.endpoints(x) if hasattr(merged, "endpoints") else {"output": merged(x)}
        names[:] = out
        return out

    if len(getattr(x, "shape", ())) != 4:
        raise ValueError(f"receptive_fields: x must be an array (N, H, W, C); got {x!r}")
    fields = theoretical(endpoints, x, state)
    return {name: fields[name] for name in names}
