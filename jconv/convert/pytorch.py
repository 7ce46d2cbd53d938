"""PyTorch's parameters, as a mapping from names to arrays, into an NNX model of the same structure.

    PyTorch                         jconv and Flax
    ...N.weight   K C/G *window     kernel  *window C/G K      convolution, 1-D to 3-D
    ...N.weight   out in            kernel  in out             linear layer
    ...N.weight   C                 scale   C                  normalisation
    ...N.bias, running_mean, running_var    bias, mean, var

Names are compared without the `layers` that `nnx.Sequential` puts in, so `layer1.0.conv1` is
`layer1.layers.0.conv1`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

STATISTICS = {"running_mean": "mean", "running_var": "var"}
IGNORED = (
    "num_batches_tracked"  # PyTorch counts batches; no computation reads it with a fixed momentum
)


def from_pytorch(model: nnx.Module, arrays: Mapping[str, Any]) -> None:
    """Writes `arrays`, a PyTorch state dict as NumPy arrays by name, into `model`.

    Nothing is written unless every array has its place and every parameter its array. The dtypes of
    the model are kept.

    Raises:
      ValueError: names without a place in the model, parameters without an array, or shapes that
        don't fit; all of them are listed.
    """
    state = nnx.state(model, nnx.Any(nnx.Param, nnx.BatchStat))
    variables = {_plain(path): variable for path, variable in nnx.to_flat_state(state)}
    given = {}
    for name, array in arrays.items():
        if not name.endswith(IGNORED):
            path, value = _translated(name, np.asarray(array))
            given[path] = (name, value)
    problems = [f"no array for {path}" for path in sorted(variables.keys() - given.keys())]
    problems += [
        f"no place for {name}" for path, (name, _) in sorted(given.items()) if path not in variables
    ]
    for path in sorted(variables.keys() & given.keys()):
        name, value = given[path]
        shape = variables[path][...].shape
        if value.shape != shape:
            problems.append(f"{name} is {value.shape} in jconv's layout, {path} is {shape}")
    if problems:
        raise ValueError(
            f"from_pytorch: {type(model).__name__} and the arrays differ: {'; '.join(problems)}"
        )
    for path, (_, value) in given.items():
        variables[path][...] = jnp.asarray(value, variables[path][...].dtype)
    nnx.update(model, state)


def _plain(path: tuple[Any, ...]) -> str:
    return ".".join(str(part) for part in path if part != "layers")


def _translated(name: str, array: np.ndarray) -> tuple[str, np.ndarray]:
    """The path in the model, and the array in its layout."""
    module, _, leaf = name.rpartition(".")
    if leaf == "weight":
        leaf = "kernel" if array.ndim > 1 else "scale"
        # K C *window -> *window C K, and out in -> in out
        array = np.moveaxis(array, (0, 1), (-1, -2)) if array.ndim > 1 else array
    return f"{module}.{STATISTICS.get(leaf, leaf)}", array
