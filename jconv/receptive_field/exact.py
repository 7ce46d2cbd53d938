"""The exact receptive field: of every output element the set of input positions that it reads."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jconv.receptive_field.bits import Bits, Sets
from jconv.receptive_field.interpreter import interpret
from jconv.receptive_field.theoretical import checked_axes, traced


@dataclasses.dataclass(frozen=True)
class ExactField:
    """Which input positions the elements of one output depend on.

    Attributes:
      shape: the output's shape.
      extents: extents of the input's axes that were asked for.
      unknown: operations that no rule knows, which were taken to read everything.
    """

    shape: tuple[int, ...]
    extents: tuple[int, ...]
    unknown: tuple[str, ...]
    _words: np.ndarray = dataclasses.field(repr=False)

    def __getitem__(self, index: Any) -> np.ndarray:
        """bool (..., *extents): what the elements at a NumPy index read; `field[...]` is all."""
        words = np.broadcast_to(self._words, (*self.shape, self._words.shape[-1]))
        index = index if isinstance(index, tuple) else (index,)
        index = index if any(part is Ellipsis for part in index) else (*index, Ellipsis)
        return self._bits(words[(*index, slice(None))])

    def pixels(self, *axes: int) -> np.ndarray:
        """bool (extents of the output's `axes`, *extents): what the elements of each output pixel
        read together, all channels and examples.
        """
        kept = {axis % len(self.shape) for axis in axes}
        rest = tuple(d for d in range(len(self.shape)) if d not in kept)
        words = np.bitwise_or.reduce(self._words, axis=rest, keepdims=True)
        full = [n if d in kept else 1 for d, n in enumerate(self.shape)]
        words = np.broadcast_to(words, (*full, words.shape[-1])).squeeze(rest)
        order = np.argsort(np.argsort([axis % len(self.shape) for axis in axes]))
        return self._bits(words.transpose(*order, len(axes)))

    def _bits(self, words):
        count = int(np.prod(self.extents))
        bits = np.unpackbits(
            np.ascontiguousarray(words, "<u8").view(np.uint8), axis=-1, count=count,
            bitorder="little",
        )  # fmt: skip
        return bits.astype(bool).reshape(*words.shape[:-1], *self.extents)


def exact(
    fn: Callable[..., Any],
    x: Any,
    *args: Any,
    axes: int | Sequence[int] = (1, 2),
    limit: int = 1 << 30,
) -> Any:
    """Which positions along axes of x every element of every output of `fn(x, *args)` depends
    on.

    As `theoretical`, with sets in the place of bounds: the holes of a dilation, the phases of a
    transposed convolution, what is gathered at known positions and what a border cuts off are seen.
    Several axes are followed together: the sets are of positions in their product. Weights count
    as unlike zero, but for the zeros of a known matrix, such as that of a resize. Never too small;
    too large behind what `unknown` names, as there, and behind a convolution's batch groups where
    the batch is followed.

    Args:
      fn, args: as in `theoretical`.
      x: an array or a `jax.ShapeDtypeStruct`.
      axes: the axes of x to follow, negative ones from the end.
      limit: bytes that the sets of one intermediate value may take; a bit for each pair of an
        element (channels that read the same count once) and a position.

    Returns:
      The same pytree, of `ExactField`s.

    Raises:
      ValueError: x is no single array, has not these axes, or the sets do not fit into the limit.
    """
    axes = checked_axes("exact", x, axes)
    program, shapes = traced(fn, x, args)
    domain = Sets(limit)
    start = domain.start(x.shape, axes)
    found = interpret(domain, program, start)
    extents = tuple(x.shape[axis] for axis in axes)
    leaves = [
        _field(dep if dep is not None else domain.nothing(start, leaf.shape), leaf.shape, extents)
        for dep, leaf in zip(found, jax.tree.leaves(shapes), strict=True)
    ]
    return jax.tree.unflatten(jax.tree.structure(shapes), leaves)


def _field(dep: Bits, shape, extents):
    return ExactField(tuple(shape), extents, tuple(sorted(dep.unknown)), dep.words)
