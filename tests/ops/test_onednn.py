"""The rows of oneDNN in the tables: chosen, in every direction, or refused with a reason."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

import jconv
from tests.kernels.onednn.calls import needs_onednn

X, W = (4, 9, 8, 16), (3, 3, 8, 32)
CASES = {
    "conv": (functools.partial(jconv.conv, groups=2, stride=2), (X, W)),
    "conv_transpose": (functools.partial(jconv.conv_transpose, stride=2), (X, (3, 2, 4, 16))),
    "max_pool": (functools.partial(jconv.max_pool, window=3, stride=2), ((4, 9, 8, 32),)),
    "avg_pool": (functools.partial(jconv.avg_pool, window=2), ((4, 9, 8, 32),)),
}
each = pytest.mark.parametrize("name", CASES)


@pytest.fixture
def operands(name, key):
    shapes = CASES[name][1]
    keys = jax.random.split(key, len(shapes))
    return [jax.random.normal(*each) for each in zip(keys, shapes, strict=True)]


def step(f):
    """y, and the gradients of a loss."""
    return lambda *a: (f(*a), jax.grad(lambda *a: jnp.sin(f(*a)).sum(), range(len(a)))(*a))


def same(actual, expected):
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, e, rtol=1e-5, atol=1e-5 * np.abs(e).max())


@needs_onednn
@each
def test_forward_and_backward(name, operands):
    f = CASES[name][0]
    named = step(functools.partial(f, implementation="onednn"))
    on_xla = step(functools.partial(f, implementation="direct"))
    same(jax.jit(named)(*operands), jax.jit(on_xla)(*operands))
    gradient = jax.grad(lambda *a: named(*a)[0].sum(), range(len(operands)))
    ran = {choice.implementation for choice in jconv.explain_choice(gradient, *operands)}
    assert "onednn" in ran
    assert "direct" not in ran


@needs_onednn
@pytest.mark.devices
def test_inside_vmap_scan_and_shard_map(key):
    f = functools.partial(jconv.conv, implementation="onednn")
    on_xla = functools.partial(jconv.conv, implementation="direct")
    x, w = jax.random.normal(key, (8, 6, 5, 4)), jax.random.normal(key, (2, 3, 3, 4, 4))
    same(jax.vmap(f, (None, 0))(x, w), jax.vmap(on_xla, (None, 0))(x, w))

    def scanned(f):
        return lambda x, w: jax.lax.scan(lambda x, w: (f(x, w) / 8, None), x, w)[0]

    same(jax.jit(step(scanned(f)))(x, w), jax.jit(step(scanned(on_xla)))(x, w))
    mesh = jax.make_mesh((8,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
    over = jax.shard_map(
        step(f), mesh=mesh, in_specs=(P("d"), P()), out_specs=(P("d"), (P("d"), P()))
    )
    same(jax.jit(over)(x, w[0]), jax.jit(step(on_xla))(x, w[0]))


@needs_onednn
@pytest.mark.devices
def test_is_chosen_where_xla_compiles_the_program_whole():
    """Not where XLA splits it, nor where it is exported: XLA computes there."""
    x, w = jnp.ones((8, 4, 4, 2)), jnp.ones((3, 3, 2, 2))
    mesh = jax.make_mesh((8,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
    split = jax.device_put(x, jax.sharding.NamedSharding(mesh, P("d")))
    manual = jax.shard_map(jconv.conv, mesh=mesh, in_specs=(P("d"), P()), out_specs=P("d"))

    def calls(f, x):
        return "jconv_onednn_conv" in jax.jit(f).lower(x, w).as_text()

    assert calls(jconv.conv, x)
    assert not calls(jconv.conv, split)
    assert calls(manual, split)
    exported = jax.export.export(jax.jit(jconv.conv))(x, w)
    assert "jconv_onednn_conv" not in exported.mlir_module()


@needs_onednn
@pytest.mark.parametrize(
    ("c", "k", "name"), [(64, 3, "direct"), (3, 3, "onednn"), (3, 64, "onednn")]
)
def test_is_passed_over_from_many_channels_to_a_few(c, k, name):
    x, w = (jax.ShapeDtypeStruct(s, jnp.float32) for s in [(2, 8, 8, c), (3, 3, c, k)])
    (choice,) = jconv.explain_choice(jconv.conv, x, w)
    assert choice.implementation == name


def test_refused_by_name_with_the_reason():
    x, w = jnp.ones((1, 4, 4, 2), jnp.int32), jnp.ones((3, 3, 2, 2), jnp.int32)
    with pytest.raises(NotImplementedError, match=r"^conv: implementation 'onednn' can't compute"):
        jconv.conv(x, w, implementation="onednn")


@needs_onednn
@pytest.mark.parametrize(
    ("x", "features", "stride", "name"),
    [
        ((32, 56, 56, 64), 256, 1, "pointwise"),
        ((32, 56, 56, 64), 255, 1, "onednn"),
        ((1, 100, 100, 48), 192, 1, "pointwise"),
        ((1, 100, 99, 48), 192, 1, "onednn"),
        ((1, 100, 100, 47), 192, 1, "onednn"),
        ((1, 200, 200, 48), 192, 2, "onednn"),
    ],
)
def test_long_products_are_left_to_xla(x, features, stride, name):
    """From 10,000 pixels on, from 48 channels or more to four times as many, without a stride."""
    w = jax.ShapeDtypeStruct((1, 1, x[-1], features), "float32")
    choices = jconv.explain_choice(
        jax.grad(lambda w, x: jconv.conv(x, w, stride=stride).sum()),
        w,
        jax.ShapeDtypeStruct(x, "float32"),
    )
    assert {c.op: c.implementation for c in choices}["conv_filter_grad"] == name
