"""vmap of the three convolutions of `conv_triangle`: the mapped axis, folded into another.

A mapped axis of length B goes into an axis that the operands don't share, so that nothing is
repeated:

    conv               x mapped    [BN C] [C K] -> [BN K]    w mapped    [N C] [C BK] -> [N BK]
    conv_input_grad    dy mapped   [BN K] [K C] -> [BN C]    w mapped    [N K] [K BC] -> [N BC]
    conv_filter_grad   x mapped    [BC N] [N K] -> [BC K]    dy mapped   [C N] [N BK] -> [C BK]

Where both are mapped each example is a group of its own.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from jconv.core import explicit_sharding


def fold(op, axes, size, args, mapped, *, window, out_sharding, **static):
    """`op` on arguments whose mapped axis, of length `size`, is axis 0 of those with `mapped` true.

    The result has it first too.

    Args:
      axes: for each operand, the axis that takes B when it alone is mapped, and the result's axis
        that gives it back.
    """
    args, position = list(args), mapped.index(True)
    into, back = (-1, -1) if all(mapped) else axes[position]
    out_sharding = _folded_sharding(out_sharding, args[0], args[position], back, mapped)
    if all(mapped):
        args = [_merge(arg, -1, 1) for arg in args]
        window = dataclasses.replace(window, groups=size * window.groups)
        groups = 1
    else:
        args[position] = _merge(args[position], into, _groups_of(into, window))
        groups = _groups_of(back, window)
    out = op(*args, window=window, out_sharding=out_sharding, **static)
    return _split(out, back, size, groups)


def _folded_sharding(sharding, image, arg, axis, mapped):
    """The sharding of a result into whose `axis` the first axis of `arg` is folded.

    Where none was given the result is split as the examples of `image` are.
    """
    folded, examples = (explicit_sharding(jax.typeof(array)) for array in (arg, image))
    if folded is None or folded.spec[0] is None:
        return sharding
    spec = [examples.spec[mapped[0]] if examples else None, *[None] * (image.ndim - mapped[0] - 1)]
    if sharding is not None:
        spec = list(sharding.spec)
    spec[axis] = folded.spec[0]
    return NamedSharding(folded.mesh, P(*spec))


def _groups_of(axis, window):
    """The last axis of every array holds its channels group by group; no other axis does."""
    return window.groups if axis == -1 else 1


def _merge(array, axis, groups):
    """B ... G*m ... -> ... G*B*m ..."""
    batch, *shape = array.shape
    axis %= len(shape)
    array = array.reshape(batch, *shape[:axis], groups, shape[axis] // groups, *shape[axis + 1 :])
    return jnp.moveaxis(array, 0, axis + 1).reshape(
        *shape[:axis], batch * shape[axis], *shape[axis + 1 :]
    )


def _split(array, axis, batch, groups):
    """... G*B*m ... -> B ... G*m ..."""
    axis %= array.ndim
    before, length, after = array.shape[:axis], array.shape[axis], array.shape[axis + 1 :]
    array = array.reshape(*before, groups, batch, length // (groups * batch), *after)
    return jnp.moveaxis(array, axis + 1, 0).reshape(batch, *before, length // batch, *after)
