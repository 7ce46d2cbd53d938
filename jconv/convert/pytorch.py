"""PyTorch's parameters, as a mapping from names to arrays, into an NNX model of the same structure.

    PyTorch                         jconv and Flax
    ...N.weight   K C/G *window     kernel  *window C/G K      convolution, 1-D to 3-D
    ...N.weight   C K *window       kernel  *window C K        transposed convolution, mirrored
    ...N.weight   out in            kernel  in out             linear layer
    ...N.weight   out in 1 *1       kernel  in out             1x1 convolution for a linear layer
    ...N.weight   C                 scale   C                  normalisation
    ...N.weight   1 or C            negative_slope () or C     PReLU
    ...N.bias, running_mean, running_var    bias, mean, var

Names are compared without the `layers` that `nnx.Sequential` puts in, so `layer1.0.conv1` is
`layer1.layers.0.conv1`. Where a linear layer reads a flattened image, PyTorch's rows stand channel
by channel (C H W) and jconv's pixel by pixel (H W C): `flattened` says what was flattened.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from jconv import nn

STATISTICS = {"running_mean": "mean", "running_var": "var"}
# PyTorch counts batches; no computation reads the count where the momentum is fixed.
IGNORED = "num_batches_tracked"
TRANSPOSED = (nn.ConvTranspose, nnx.ConvTranspose)
PRELU = (nn.PReLU, nnx.PReLU)
NOTHING: Mapping[str, tuple[int, ...]] = MappingProxyType({})


def from_pytorch(
    model: nnx.Module,
    arrays: Mapping[str, Any],
    *,
    flattened: Mapping[str, tuple[int, ...]] = NOTHING,
) -> None:
    """Writes `arrays`, a PyTorch state dict as NumPy arrays by name, into `model`.

    Nothing is written unless every array has its place and every parameter its array. The dtypes of
    the model are kept.

    Args:
      arrays: in the order of the network, as a state dict has it.
      flattened: for each linear layer (its name in PyTorch) that reads a flattened image, the
        image's (C, *spatial), such as {"fc1": (16, 7, 7)}. A linear layer that takes more features
        than the layer before it has channels must be named here.

    Raises:
      ValueError: names without a place in the model, parameters without an array, shapes that don't
        fit, or a linear layer whose image is not known; all of them are listed.
    """
    state = nnx.state(model, nnx.Any(nnx.Param, nnx.BatchStat))
    variables = {_plain(path): variable for path, variable in nnx.to_flat_state(state)}
    modules = {_plain(path): module for path, module in nnx.iter_modules(model, graph=False)}
    problems = _unknown_images(arrays, modules, flattened)
    given: dict[str, tuple[str, np.ndarray]] = {}
    for name, array in arrays.items():
        if name.rpartition(".")[2] != IGNORED:
            path, value = _translated(name, np.asarray(array), modules, flattened)
            if path in given:
                problems.append(f"{given[path][0]} and {name} have one place")
            given[path] = (name, value)
    problems += [f"no array for {path}" for path in sorted(variables.keys() - given.keys())]
    problems += [
        f"no place for {name}" for path, (name, _) in sorted(given.items()) if path not in variables
    ]
    for path in sorted(variables.keys() & given.keys()):
        name, value = given[path]
        problems += _misfit(name, value, path, variables[path][...])
    if problems:
        raise ValueError(
            f"from_pytorch: {type(model).__name__} and the arrays differ: {'; '.join(problems)}"
        )
    for path, (_, value) in given.items():
        variables[path][...] = jnp.asarray(value, variables[path][...].dtype)
    nnx.update(model, state)


def _plain(path: Iterable[Any]) -> str:
    return ".".join(str(part) for part in path if part not in ("layers", ""))


def _unknown_images(arrays, modules, flattened) -> list[str]:
    """Linear layers that read more than the layer before has channels and are not named, and names
    without such a layer."""
    sizes = {name.removesuffix(".weight"): np.shape(array) for name, array in arrays.items()}
    problems = [
        f"flattened names {layer}, an image {tuple(image)}, for which there is no such linear layer"
        for layer, image in flattened.items()
        if sizes.get(layer, ())[1:] != (math.prod(image),)
    ]
    channels = None
    for name, array in arrays.items():
        layer, _, leaf = name.rpartition(".")
        shape: tuple[int, ...] = np.shape(array)
        if leaf != "weight" or not shape:
            continue
        if len(shape) == 2 and layer not in flattened and channels not in (None, shape[1]):
            problems.append(
                f"{name} reads {shape[1]} features of a layer with {channels} channels; give "
                f"flattened={{{layer!r}: (C, *spatial)}}, the image that PyTorch flattened"
            )
        transposed = isinstance(modules.get(_plain(layer.split("."))), TRANSPOSED)
        channels = shape[int(transposed and len(shape) > 2)]
    return problems


def _misfit(name, value, path, variable) -> list[str]:
    if value.shape != variable.shape:
        return [f"{name} is {value.shape} in jconv's layout, {path} is {variable.shape}"]
    if np.iscomplexobj(value) and not jnp.iscomplexobj(variable):
        return [f"{name} is {value.dtype}, {path} is {variable.dtype}"]
    return []


def _translated(name, array, modules, flattened) -> tuple[str, np.ndarray]:
    """The path in the model, and the array in its layout."""
    module, _, leaf = name.rpartition(".")
    path = _plain(module.split("."))
    layer = modules.get(path)
    if leaf == "weight" and isinstance(layer, PRELU):
        leaf = "negative_slope"
        # One slope for all is (1,) in PyTorch, () in Flax.
        array = array.reshape(()) if array.size == 1 and not layer.negative_slope.ndim else array
    elif leaf == "weight" and array.ndim < 2:
        leaf = "scale"
    elif leaf == "weight":
        leaf = "kernel"
        if isinstance(layer, nnx.Linear) and set(array.shape[2:]) == {1}:
            array = array[(..., *(0,) * (array.ndim - 2))]  # torchvision's squeeze and excitation
        if isinstance(layer, TRANSPOSED):
            array = _transposed(array, layer.transpose_kernel)
        else:
            array = np.moveaxis(array, (0, 1), (-1, -2))
        image = flattened.get(module)
        if image is not None and math.prod(image) == len(array):
            rows = array.reshape(*image, -1)  # C *spatial out
            array = np.moveaxis(rows, 0, -2).reshape(array.shape)
    return _plain([path, STATISTICS.get(leaf, leaf)]), array


def _transposed(array: np.ndarray, transpose_kernel: bool) -> np.ndarray:
    """C K *window to *window K C where the layer mirrors its kernel itself, else *window C K."""
    if transpose_kernel:
        return np.moveaxis(array, (0, 1), (-1, -2))
    return np.flip(np.moveaxis(array, (0, 1), (-2, -1)), tuple(range(array.ndim - 2)))
