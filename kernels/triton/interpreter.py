"""Triton's interpreter on NumPy arrays: kernels run as they are written, without a GPU or PyTorch.

The interpreter asks of its tensors a small part of what `torch.Tensor` has; `HostTensor` is that
part. It works in place on the arrays' memory.
"""

from __future__ import annotations

import contextlib
import importlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

# The interpreter keeps the program's number and its own version of triton.language in globals.
ONE_AT_A_TIME = threading.RLock()


def run(
    kernel: Any,
    grid: Sequence[int],
    *operands: Any,
    results: Sequence[Any],
    constants: Mapping[str, Any],
) -> tuple[np.ndarray, ...]:
    """kernel[grid](*operands, *results, **constants).

    Results begin as NaN, or the dtype's largest integer: what no program writes is seen.
    """
    arrays = [np.ascontiguousarray(operand) for operand in operands]
    written = [unwritten(result.shape, result.dtype) for result in results]
    with ONE_AT_A_TIME, _patching_once():
        kernel[tuple(grid)](*map(HostTensor, [*arrays, *written]), **constants)
    return tuple(written)


@contextlib.contextmanager
def _patching_once() -> Iterator[None]:
    """Triton's interpreter changes all of triton.language when a kernel is called, and once more at
    every call of a function within: here it does so once for each module of functions, and kernels
    of many small functions take a fraction of the time. Without effect where Triton has no such
    step.
    """
    module: Any = importlib.import_module("triton.runtime.interpreter")
    patch, done = getattr(module, "_patch_lang", None), {}
    if patch is None:
        yield
        return

    def once(fn):
        key = id(fn.__globals__)
        if key not in done:
            done[key] = patch(fn)
        return done[key]

    module._patch_lang = once
    try:
        yield
    finally:
        module._patch_lang = patch


def unwritten(shape: Sequence[int], dtype: Any) -> np.ndarray:
    """An array that no kernel has written to."""
    dtype = np.dtype(dtype)
    floating = dtype.kind not in "iub"
    return np.full(shape, np.nan if floating else np.iinfo(dtype).max, dtype)


class HostTensor:
    """An array with those attributes of a `torch.Tensor` that the interpreter reads."""

    def __init__(self, array: np.ndarray):
        self._array = array
        self.dtype = array.dtype.name

    @property
    def shape(self) -> tuple[int, ...]:
        return self._array.shape

    def size(self) -> tuple[int, ...]:
        return self._array.shape

    def stride(self) -> tuple[int, ...]:
        return tuple(step // self._array.itemsize for step in self._array.strides)

    def storage_offset(self) -> int:
        return 0

    def data_ptr(self) -> int:
        return self._array.ctypes.data

    def untyped_storage(self) -> Storage:
        return Storage(self._array)

    def new_empty(self, *_: Any, **__: Any) -> HostTensor:
        return HostTensor(self._array)

    def set_(self, storage: Storage, *_: Any) -> None:
        self._array = storage.array


class Storage:
    """The memory of an array, which is on the host already: nothing is copied."""

    def __init__(self, array: np.ndarray):
        self.array = array

    def data_ptr(self) -> int:
        return self.array.ctypes.data

    def cpu(self) -> Storage:
        return self

    def copy_(self, other: Storage) -> None:
        """What the interpreter wrote is there."""
