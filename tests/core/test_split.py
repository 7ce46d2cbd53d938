"""Rows for programs that XLA splits over several devices, and rows for all others."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jconv.core import Implementation, Operation, bilinear, explicit_sharding
from jconv.core.dispatch import Program
from tests.core.operations import fold

# Rows that differ in what they compute tell which one ran.
op = Operation(
    "split_scale",
    (
        Implementation("split", lambda x: x * 10, split_only=True),
        Implementation("whole", lambda x: x),
    ),
    fold=lambda *a, **k: fold(op, *a, **k),
)
outside = Operation(
    "outside_scale",
    (
        Implementation("outside", lambda x: x * 100, here_only=True),
        Implementation("inside", lambda x: x),
    ),
    fold=lambda *a, **k: fold(outside, *a, **k),
)
x = np.arange(16, dtype=np.float32).reshape(8, 2)


def mesh(*sizes, kind=AxisType.Auto):
    return jax.make_mesh(sizes, ("d", "m")[: len(sizes)], axis_types=(kind,) * len(sizes))


def on(mesh):
    return jax.device_put(x, NamedSharding(mesh, P("d")))


def test_one_device():
    np.testing.assert_array_equal(jax.jit(op)(x), x)
    np.testing.assert_array_equal(jax.jit(functools.partial(op, implementation="split"))(x), x * 10)


@pytest.mark.devices
@pytest.mark.parametrize("run", [lambda f: f, jax.jit], ids=["eager", "jit"])
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_several_devices(kind, run):
    np.testing.assert_array_equal(run(op)(on(mesh(8, kind=kind))), x * 10)


@pytest.mark.devices
def test_inside_shard_map():
    """Nothing is split where all axes are manual; where one is not, XLA splits by that."""
    manual = jax.shard_map(op, mesh=mesh(8), in_specs=P("d"), out_specs=P("d"))
    np.testing.assert_array_equal(jax.jit(manual)(x), x)
    partly = jax.shard_map(op, mesh=mesh(4, 2), in_specs=P("d"), out_specs=P("d"), axis_names={"d"})
    np.testing.assert_array_equal(jax.jit(partly)(x), x * 10)


@pytest.mark.devices
def test_calls_outside_xla():
    """Not where XLA would gather their operands, and not in a program for other machines."""
    np.testing.assert_array_equal(jax.jit(outside)(x), x * 100)
    np.testing.assert_array_equal(jax.jit(outside)(on(mesh(8))), x)
    manual = jax.shard_map(outside, mesh=mesh(8), in_specs=P("d"), out_specs=P("d"))
    np.testing.assert_array_equal(jax.jit(manual)(x), x * 100)
    np.testing.assert_array_equal(jax.export.export(jax.jit(outside))(x).call(x), x)
    by_name = functools.partial(outside, implementation="outside")
    np.testing.assert_array_equal(jax.export.export(jax.jit(by_name))(x).call(x), x * 100)


def test_the_account_says_why_it_was_passed_over():
    _, choice = op.choose([jax.typeof(jnp.asarray(x))], "cpu", implementation=None)
    assert choice.implementation == "whole"
    assert choice.rejected == (("split", "only where XLA splits the program over several devices"),)
    program = Program(split=True)
    row, _ = op.choose([jax.typeof(jnp.asarray(x))], "cpu", implementation=None, program=program)
    assert row.name == "split"


def _dot(a, b, *, dtype, out_sharding):
    return jax.lax.dot(a, b, out_sharding=out_sharding).astype(dtype)


dot = Operation("split_dot", (Implementation("only", _dot),), fold=lambda *a: None)
bilinear(
    dot,
    lambda dy, b, **static: dot(dy, b.T, **static),
    lambda dy, a, **static: dot(a.T, dy, **static),
)


@pytest.mark.devices
def test_gradients_are_sharded_as_their_operands():
    """On a mesh with explicit axes, where a sharding is part of the type."""
    devices = mesh(8, kind=AxisType.Explicit)
    with jax.set_mesh(devices):
        a, b = on(devices), jax.device_put(np.ones((2, 3), np.float32), NamedSharding(devices, P()))

        def f(a, b):
            return jnp.sin(dot(a, b, dtype=jnp.dtype("float32"), out_sharding=None)).sum()

        da, db = jax.jit(jax.grad(f, (0, 1)))(a, b)
    assert (jax.typeof(da), jax.typeof(db)) == (jax.typeof(a), jax.typeof(b))
    np.testing.assert_allclose(db, x.T @ np.cos(x @ np.ones((2, 3))), rtol=1e-4, atol=1e-4)


@pytest.mark.devices
def test_explicit_sharding_is_none_elsewhere():
    assert explicit_sharding(jax.typeof(jnp.asarray(x))) is None
    assert explicit_sharding(jax.typeof(on(mesh(8)))) is None
    found = explicit_sharding(jax.typeof(on(mesh(8, kind=AxisType.Explicit))))
    assert found.spec == P("d", None)
