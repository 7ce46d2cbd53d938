"""Data parallelism over the local devices: the batch is split, the state is the same everywhere.

    data_parallel   jit, its arguments placed on a mesh. The step is written for the whole batch
                    and XLA inserts the communication: gradients and batch-norm statistics are
                    those of the whole batch by themselves.
    pmap_step       the step is written for one device's share and made with `axis_name="data"`:
                    gradients and metrics are averaged over the devices, and layers that keep
                    running statistics normalise over them. For code bases built on `jax.pmap`;
                    the arrays of the state have a leading device axis.

Both equal one device with the whole batch, up to the order of sums in float32, where nothing is
random. Augmentation and dropout draw the same numbers on any number of devices under
`data_parallel`; under pmap each device draws its own.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jconv.training.step import Batch

AXIS = "data"


def mesh(devices: Sequence[Any] | None = None) -> Mesh:
    """A mesh of one axis, "data", over `devices`; all local ones by default."""
    devices = jax.local_devices() if devices is None else list(devices)
    return jax.make_mesh((len(devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=devices)


def replicate(tree: Any, mesh: Mesh) -> Any:
    """`tree` with every array whole on every device of `mesh`.

    The copy on the device where an array was is that array itself: a step that is given the result
    to write over takes `tree` too.
    """
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def data_parallel(
    step: Callable[[Any, Batch], Any], mesh: Mesh, *, donate: bool = True
) -> Callable[[Any, Batch], Any]:
    """`step(state, batch)` jitted over `mesh`: the batch split along its first axis, all else whole
    on every device.

    For the train step, and with `donate=False` for the evaluation step. The state comes from
    `replicate`.

    Raises:
      ValueError: `step` was made with an `axis_name`; when called, the batch does not divide by the
        devices.
    """
    if getattr(step, "axis_name", None) is not None:
        raise ValueError(
            "data_parallel: takes a step made without axis_name, pmap_step takes one made with it;"
            f" got axis_name={step.axis_name!r}"  # pyright: ignore[reportFunctionMemberAccess]
        )
    whole, split = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec(AXIS))
    jitted = jax.jit(
        step, in_shardings=(whole, split), out_shardings=whole, donate_argnums=0 if donate else ()
    )  # fmt: skip

    @functools.wraps(step)
    def run(state: Any, batch: Batch) -> Any:
        _check_divides("data_parallel", batch, mesh.size)
        return jitted(state, batch)

    return run


def pmap_step(
    step: Callable[[Any, Batch], Any], devices: Sequence[Any] | None = None
) -> Callable[[Any, Batch], Any]:
    """`step`, made with `axis_name="data"`, under `jax.pmap` over `devices`, all local ones by
    default.

    It takes the state from `pmap_replicate`, donated, and a host batch of any size that divides by
    the devices; it returns the state, still with its device axis, and the metrics without one.

    Raises:
      ValueError: `step` was made without that axis name; when called, the batch does not divide by
        the devices.
    """
    if getattr(step, "axis_name", None) != AXIS:
        raise ValueError(
            f"pmap_step: takes a step made with axis_name={AXIS!r}, or every device would train a "
            f"network of its own; got axis_name={getattr(step, 'axis_name', None)!r}"
        )
    devices = jax.local_devices() if devices is None else list(devices)
    mapped = jax.pmap(step, axis_name=AXIS, devices=devices, donate_argnums=0)

    @functools.wraps(step)
    def run(state: Any, batch: Batch) -> Any:
        _check_divides("pmap_step", batch, len(devices))
        shares = {k: np.reshape(v, (len(devices), -1, *np.shape(v)[1:])) for k, v in batch.items()}
        state, metrics = mapped(state, shares)
        return state, pmap_unreplicate(metrics)

    return run


def pmap_replicate(tree: Any, devices: Sequence[Any] | None = None) -> Any:
    """`tree` with a leading axis in every array, one entry per device, for `pmap_step`."""
    devices = jax.local_devices() if devices is None else list(devices)
    split = NamedSharding(mesh(devices), PartitionSpec(AXIS))
    stack = lambda x: jnp.broadcast_to(jnp.asarray(x)[None], (len(devices), *jnp.shape(x)))  # noqa: E731
    return jax.device_put(jax.tree.map(stack, tree), split)


def pmap_unreplicate(tree: Any) -> Any:
    """The first device's entry of every array, without its device axis."""
    # x[0] would gather over all devices: the shard is read where it lies.
    return jax.tree.map(lambda x: x.addressable_shards[0].data[0], tree)


def _check_divides(who: str, batch: Batch, devices: int) -> None:
    for name, value in batch.items():
        if np.shape(value)[0] % devices:
            raise ValueError(
                f"{who}: the batch size must be a multiple of the {devices} devices; got {name} "
                f"{np.shape(value)}"
            )
