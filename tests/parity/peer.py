"""PyTorch at the other end of a pipe: evaluates one function after the other, with its gradients.

    python peer.py      runs with PyTorch's interpreter, and imports torch, torchvision and NumPy

A message is its length in bytes, 8 of them little-endian, and an .npz archive. The request's entry
`call` is JSON: {"name": "nn.functional.conv2d", "args": [...], "kwargs": {...}}, the name below
`torch`, or one of torchvision in full, and {"array": k} in the place of the archive's entry `a<k>`,
{"constant": k} of one without a gradient. The answer holds the results as y0, y1, ..., and for
every other floating-point array that was given the gradient of sum(y0 * cotangent) as g<k>; or
`error`, the text of what PyTorch raised.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import io
import json
import struct
import sys

import numpy as np

ABSENT = "no torchvision that works with this PyTorch"


@dataclasses.dataclass(frozen=True)
class Constant:
    """An array in which PyTorch's side takes no gradient."""

    array: np.ndarray


def send(stream, arrays) -> None:
    """Writes one message."""
    archive = io.BytesIO()
    np.savez(archive, **arrays)
    stream.write(struct.pack("<q", archive.tell()))
    stream.write(archive.getvalue())
    stream.flush()


def receive(stream):
    """Reads one message: its arrays by name, or None at the end of the stream."""
    head = stream.read(8)
    if len(head) < 8:
        return None
    body = io.BytesIO(stream.read(struct.unpack("<q", head)[0]))
    with np.load(body, allow_pickle=False) as archive:
        return dict(archive)


def cotangent(shape) -> np.ndarray:
    """What both sides multiply a result by before they take the gradient: float64, in -1 to 1."""
    return np.cos(np.arange(np.prod(shape, dtype=int)) * 1.7).reshape(shape)


def vision():
    """torchvision, if it can be imported: one built for another PyTorch can't."""
    try:
        return importlib.import_module("torchvision")
    except Exception as error:
        raise ImportError(f"{ABSENT}: {error}") from error


def answer(request):
    """The results and gradients that a request asks for."""
    import torch

    call = json.loads(str(request["call"]))
    tensors = {k: torch.tensor(v) for k, v in request.items() if k != "call"}

    def filled(value):
        if isinstance(value, list):
            return [filled(v) for v in value]
        if not isinstance(value, dict):
            return value
        ((kind, k),) = value.items()
        tensor = tensors[f"a{k}"]
        return tensor.requires_grad_(kind == "array" and tensor.is_floating_point())

    first, *others = path = call["name"].split(".")
    root, path = (vision(), others) if first == "torchvision" else (torch, path)
    function = functools.reduce(getattr, path, root)
    keywords = {name: filled(value) for name, value in call["kwargs"].items()}
    results = function(*(filled(value) for value in call["args"]), **keywords)
    results = results if isinstance(results, tuple) else (results,)
    found = {f"y{i}": result.detach().numpy() for i, result in enumerate(results)}
    given = {f"g{name[1:]}": tensor for name, tensor in tensors.items() if tensor.requires_grad}
    if results[0].requires_grad:
        weights = torch.tensor(cotangent(tuple(results[0].shape))).to(results[0].dtype)
        grads = torch.autograd.grad(
            (results[0] * weights).sum(), list(given.values()), allow_unused=True
        )
        for (name, tensor), grad in zip(given.items(), grads, strict=True):
            found[name] = np.zeros(tuple(tensor.shape)) if grad is None else grad.numpy()
    return found


def main() -> None:
    """Answers requests until the pipe is closed."""
    while (request := receive(sys.stdin.buffer)) is not None:
        try:
            found = answer(request)
        except (RuntimeError, ValueError, TypeError, ImportError) as error:
            found = {"error": np.array(str(error))}
        send(sys.stdout.buffer, found)


if __name__ == "__main__":
    main()
