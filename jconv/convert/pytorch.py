"""PyTorch's parameters, as a mapping from names to arrays, into an NNX model of the same structure.

    PyTorch                         jconv and Flax
    ...N.weight   K C/G *window     kernel  *window C/G K      convolution, 1-D to 3-D
    ...N.weight   C K *window       kernel  *window C K        transposed convolution, mirrored
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

from jconv import nn

STATISTICS = {"running_mean": "mean", "running_var": "var"}
# PyTorch counts batches; no computation reads the count where the momentum is fixed.
IGNORED = "num_batches_tracked"


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
    modules = {_plain(path): module for path, module in nnx.iter_modules(model, graph=False)}
    given = {}
    for name, array in arrays.items():
        if not name.endswith(IGNORED):
            path, value = _translated(name, np.asarray(array), modules)
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


def _translated(name: str, array: np.ndarray, modules: Mapping[str, Any]) -> tuple[str, np.ndarray]:
    """The path in the model, and the array in its layout."""
    module, _, leaf = name.rpartition(".")
    if leaf == "weight" and array.ndim == 1:
        leaf = "scale"
    elif leaf == "weight":
        leaf, layer = "kernel", modules.get(module)
        if isinstance(layer, nn.ConvTranspose | nnx.ConvTranspose):
            array = _transposed(array, layer.transpose_kernel)
        else:
            array = np.moveaxis(array, (0, 1), (-1, -2))
    return f"{module}.{STATISTICS.get(leaf, leaf)}", array


def _transposed(array: np.ndarray, transpose_kernel: bool) -> np.ndarray:
    """C K *window to *window K C where the layer mirrors its kernel itself, else *window C K."""
    if transpose_kernel:
        return np.moveaxis(array, (0, 1), (-1, -2))
    return np.flip(np.moveaxis(array, (0, 1), (-2, -1)), tuple(range(array.ndim - 2)))
