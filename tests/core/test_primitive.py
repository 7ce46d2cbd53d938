"""An operation as a JAX primitive: evaluation, lowering per platform, batching, sharding."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from jconv.core import Implementation, Operation
from tests.core.operations import fold, scale

op = scale("primitive_scale")
x = np.arange(12, dtype=np.float32).reshape(4, 3)
odd = x[:3]


@pytest.mark.parametrize("run", [lambda f: f, jax.jit], ids=["eager", "jit"])
@pytest.mark.parametrize(
    ("rows", "name", "factor"),
    [(x, None, 10), (odd, None, 1), (x, "named", 1000), (x, "always", 1), (odd, "inline", 1)],
)
def test_the_chosen_row_runs(run, rows, name, factor):
    f = run(functools.partial(op, by=2, implementation=name))
    np.testing.assert_array_equal(f(rows), rows * 2 * factor)


def test_one_equation_with_its_static_parameters():
    (eqn,) = jax.make_jaxpr(functools.partial(op, by=2))(x).jaxpr.eqns
    assert eqn.primitive is op.primitive
    assert eqn.params == {"by": 2, "implementation": None}


def test_an_inline_row_leaves_its_own_equations():
    eqns = jax.make_jaxpr(functools.partial(op, by=2, implementation="inline"))(x).jaxpr.eqns
    assert op.primitive not in {eqn.primitive for eqn in eqns}


def test_each_platform_gets_its_row():
    f = jax.jit(functools.partial(op, by=2))
    shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
    factors = {"cuda": "2.000000e+02", "cpu": "2.000000e+01", "tpu": "2.000000e+01"}
    for platform, factor in factors.items():
        assert factor in f.trace(shape).lower(lowering_platforms=(platform,)).as_text()
    both = f.trace(shape).lower(lowering_platforms=("cpu", "cuda")).as_text()
    assert factors["cpu"] in both
    assert factors["cuda"] in both


def test_a_row_that_does_not_support_the_call_raises_when_called():
    message = (
        r"^primitive_scale: implementation 'even' can't compute this call: "
        r"only an even number of rows, got 3; got float32\[3,3\]$"
    )
    with pytest.raises(NotImplementedError, match=message):
        op(odd, by=1, implementation="even")


def test_a_row_of_another_platform_raises_when_lowered():
    with pytest.raises(
        NotImplementedError, match="'elsewhere' can't compute this call: only on cuda"
    ):
        op(x, by=1, implementation="elsewhere")


@pytest.mark.parametrize("mode", [jax.disable_jit, lambda: jax.debug_nans(True)])
def test_without_jit(mode):
    """The chosen row runs by itself."""
    nans = x * np.nan
    with mode():
        np.testing.assert_array_equal(op(x, by=2), x * 20)
    with jax.debug_nans(True), pytest.raises(FloatingPointError):
        jax.block_until_ready(op(nans, by=2))


def test_unknown_implementation():
    with pytest.raises(ValueError, match="primitive_scale: implementation must be None or one of"):
        op(x, by=1, implementation="fastest")


def test_offers_what_its_table_has():
    assert [op.offers(name) for name in ("even", "unheard-of", None)] == ["even", None, None]


def test_evaluation_compiles_once_per_type():
    traces = []

    def body(x):
        traces.append(x.shape)
        return x + 1

    counted = Operation("primitive_counted", (Implementation("only", body),), fold=fold)
    for _ in range(3):
        counted(x)
    compiled = len(traces)
    counted(x)
    assert len(traces) == compiled
    counted(odd)
    assert len(traces) > compiled


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_batch(axis):
    batch = np.arange(24, dtype=np.float32).reshape(2, 4, 3)
    moved = np.moveaxis(batch, 0, axis)
    np.testing.assert_array_equal(jax.vmap(functools.partial(op, by=2), axis)(moved), batch * 20)


def test_batch_of_no_examples():
    y = jax.vmap(functools.partial(op, by=2))(jnp.zeros((0, 4, 3)))
    assert (y.shape, y.dtype) == ((0, 4, 3), jnp.float32)


def test_several_results():
    pair = Operation(
        "primitive_pair",
        (Implementation("only", lambda x, *, by: (x * by, x.astype(jnp.int32))),),
        fold=lambda *a, **k: fold(pair, *a, **k),
        multiple_results=True,
    )
    y, z = pair(x, by=3)
    np.testing.assert_array_equal(y, x * 3)
    assert (z.dtype, z.shape) == (jnp.int32, x.shape)
    y, z = jax.jit(jax.vmap(lambda x: pair(x, by=3)))(x[None])
    np.testing.assert_array_equal(y, x[None] * 3)
    np.testing.assert_array_equal(z, x[None].astype(np.int32))


def varying(x):
    aval = jax.typeof(x)
    return aval.vma if hasattr(aval, "vma") else aval.mat.varying


@pytest.mark.devices
def test_operands_that_vary_differently_are_aligned():
    """shard_map wants all operands of a primitive to vary over the same axes of the mesh."""
    seen = []

    def body(a, b):
        seen.append((varying(a), varying(b)))
        return a + b

    add = Operation("primitive_add", (Implementation("only", body),), fold=lambda *a: None)
    mesh = jax.make_mesh((8,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
    rows, bias = np.arange(16, dtype=np.float32).reshape(8, 2), np.ones((1, 2), np.float32)
    f = jax.shard_map(add, mesh=mesh, in_specs=(P("d"), P()), out_specs=P("d"))
    np.testing.assert_array_equal(jax.jit(f)(rows, bias), rows + bias)
    assert seen[0] == (frozenset({"d"}), frozenset({"d"}))
    # A result that varies may not pass for one that does not.
    g = jax.shard_map(add, mesh=mesh, in_specs=(P("d"), P()), out_specs=P())
    with pytest.raises(ValueError, match="out_specs"):
        jax.jit(g)(rows, bias)
