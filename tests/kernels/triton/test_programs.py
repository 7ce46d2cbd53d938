"""Steps of training compiled for one and for four H200s, without any: calls and collectives."""

from __future__ import annotations

import functools

import jax
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from tests.kernels.triton import h200, steps

pytestmark = h200.needs_compiler
each_network = pytest.mark.parametrize("name", steps.NETWORKS)
EXAMPLES = 8  # on each device


@functools.cache
def program(name, count, *, kind=AxisType.Auto, manual=False):
    """A step on `count` GPUs, `EXAMPLES` images on each, the parameters whole on all."""
    devices = h200.mesh(count, kind)
    params = h200.on(devices, P(), steps.parameters(name))
    batch = h200.on(devices, P("d"), steps.images(EXAMPLES * count))
    step = steps.step(name, "triton", "d" if manual else None)
    if manual:
        step = jax.shard_map(step, mesh=devices, in_specs=(P(), P("d")), out_specs=P())
    with jax.set_mesh(devices):
        return h200.compiled(step, params, batch)


@each_network
def test_a_step_on_one_gpu(name):
    whole = program(name, 1)
    names = {call: n for call, n in whole.names().items() if call.startswith("jconv")}
    assert names == steps.KERNELS[name]
    assert whole.targets == {"sm_90a"}
    assert not whole.collectives


@each_network
@pytest.mark.parametrize("axes", ["automatic", "explicit", "manual"])
def test_a_step_on_four_gpus(name, axes):
    kind = AxisType.Explicit if axes == "explicit" else AxisType.Auto
    split = program(name, 4, kind=kind, manual=axes == "manual")
    assert split.kernels == program(name, 1).kernels
    assert set(split.collectives) == {"all-reduce"}
