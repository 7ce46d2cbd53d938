"""Convolutions on eight devices: the examples stay where they are.

XLA's partitioner gathers the examples of a grouped convolution (openxla/xla#47945).
"""

from __future__ import annotations

import collections
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jconv
import jconv.lax
from tests import often

pytestmark = pytest.mark.devices

CASES = {
    "dense": ((8, 5, 4, 4), (3, 2, 4, 6), {}),
    "grouped": ((8, 5, 4, 4), (3, 2, 2, 6), {"groups": 2, "stride": (2, 1), "dilation": (1, 2)}),
    "depthwise": ((8, 5, 4, 4), (3, 2, 1, 8), {"groups": 4}),
    "one_axis": ((8, 7, 6), (3, 2, 6), {"groups": 3}),
}
each_case = pytest.mark.parametrize("name", CASES)
each_kind = pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=str)


def mesh(*sizes, kind=AxisType.Auto):
    return jax.make_mesh(sizes, ("d", "m")[: len(sizes)], axis_types=(kind,) * len(sizes))


def arrays(*shapes):
    random = np.random.default_rng(0)
    return [random.standard_normal(shape).astype(np.float32) for shape in shapes]


def placed(arrays, mesh, *specs):
    pairs = zip(arrays, specs, strict=True)
    return [jax.device_put(array, NamedSharding(mesh, spec)) for array, spec in pairs]


def collectives(f, *args) -> dict[str, int]:
    """How often each kind of communication occurs in the compiled program."""
    text = jax.jit(f).lower(*args).compile().as_text()
    kinds = "all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter"
    return dict(collections.Counter(re.findall(rf" ({kinds})(?:-start)?\(", text)))


def both(f):
    """y, and the gradients of a loss."""
    return lambda *a: (f(*a), jax.grad(lambda *a: jnp.sin(f(*a)).sum(), (0, 1))(*a))


def same(actual, expected):
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, e, rtol=1e-4, atol=1e-4 * np.abs(e).max(initial=1.0))


@pytest.mark.parametrize("name", often.names(CASES, ("grouped", "one_axis")))
@each_kind
def test_examples_stay_on_their_devices(name, kind):
    """Of a step only the filter's gradient is communicated: one sum over the devices."""
    x_shape, w_shape, options = CASES[name]
    whole = arrays(x_shape, w_shape)
    f = functools.partial(jconv.conv, **options)
    devices = mesh(8, kind=kind)
    with jax.set_mesh(devices):
        x, w = placed(whole, devices, P("d"), P())
        assert collectives(f, x, w) == {}
        assert collectives(both(f), x, w) == {"all-reduce": 1}
        y, grads = jax.jit(both(f))(x, w)
    same((y, grads), jax.jit(both(f))(*whole))
    assert y.sharding.spec[0] == "d"
    if kind == AxisType.Explicit:
        assert [jax.typeof(g) for g in grads] == [jax.typeof(a) for a in (x, w)]


def test_xla_alone_gathers_them():
    """The reason for all this: when it fails XLA has learnt it, and the row `shifted` may go."""
    x_shape, w_shape, options = CASES["grouped"]
    x, w = placed(arrays(x_shape, w_shape), mesh(8), P("d"), P())
    f = functools.partial(jconv.conv, implementation="direct", **options)
    assert "all-gather" in collectives(f, x, w)


def test_transposed():
    y, w = placed(arrays((8, 3, 4, 6), (3, 2, 2, 6)), mesh(8), P("d"), P())
    f = functools.partial(jconv.conv_transpose, groups=2, stride=2)
    assert collectives(both(f), y, w) == {"all-reduce": 1}


@each_kind
def test_a_filter_for_each_example(kind):
    """vmap over both operands makes each example a group, and the groups stay too."""
    whole = arrays((8, 2, 5, 4, 4), (8, 3, 2, 2, 6))
    f = jax.vmap(functools.partial(jconv.conv, groups=2))
    devices = mesh(8, kind=kind)
    with jax.set_mesh(devices):
        split = placed(whole, devices, P("d"), P("d"))
        assert collectives(both(f), *split) == {}
        actual = jax.jit(both(f))(*split)
    same(actual, jax.jit(both(f))(*whole))


@each_kind
def test_gradients_of_each_example(kind):
    whole = arrays((8, 1, 5, 4, 4), (3, 2, 2, 6))
    f = functools.partial(jconv.conv, groups=2)
    per_example = jax.vmap(jax.grad(lambda x, w: jnp.sin(f(x, w)).sum(), (0, 1)), (0, None))
    devices = mesh(8, kind=kind)
    with jax.set_mesh(devices):
        split = placed(whole, devices, P("d"), P())
        assert collectives(per_example, *split) == {}
        actual = jax.jit(per_example)(*split)
    same(actual, jax.jit(per_example)(*whole))


def test_rows_or_groups_split_too():
    """Rows are exchanged with the neighbours alone, and groups not at all."""
    whole = arrays((8, 6, 4, 4), (3, 2, 2, 6))
    f = functools.partial(jconv.conv, groups=2)
    devices = mesh(4, 2)
    for specs, kinds in [
        ((P("d", "m"), P()), {"collective-permute"}),
        ((P("d", None, None, "m"), P(None, None, None, "m")), set()),
    ]:
        split = placed(whole, devices, *specs)
        assert set(collectives(f, *split)) <= kinds
        same(jax.jit(both(f))(*split), jax.jit(both(f))(*whole))


def test_which_formulation_is_lowered():
    """Matrix products where XLA splits the program; elsewhere a convolution, or oneDNN's."""
    x, w = arrays((8, 5, 4, 4), (3, 2, 2, 6))
    f = functools.partial(jconv.conv, groups=2)
    manual = jax.shard_map(f, mesh=mesh(8), in_specs=(P("d"), P()), out_specs=P("d"))
    split = placed((x, w), mesh(8), P("d"), P())
    for program, args, convolves in [(f, (x, w), True), (f, split, False), (manual, split, True)]:
        text = jax.jit(program).lower(*args).as_text()
        assert ("stablehlo.convolution" in text or "jconv_onednn_conv" in text) == convolves
        assert ("stablehlo.dot_general" in text) != convolves


def test_a_sharding_that_is_asked_for():
    """On explicit axes: features of a grouped convolution, which the type rule can't derive."""
    devices = mesh(4, 2, kind=AxisType.Explicit)
    whole = arrays((8, 4, 5, 4), (6, 2, 3, 2))
    f = functools.partial(
        jconv.lax.conv_general_dilated, window_strides=(1, 1), padding="SAME",
        feature_group_count=2,
    )  # fmt: skip
    with jax.set_mesh(devices):
        x, w = placed(whole, devices, P("d"), P("m"))
        step = both(functools.partial(f, out_sharding=P("d", "m")))
        y, grads = jax.jit(step)(x, w)
        assert jax.typeof(y).sharding.spec == P("d", "m", None, None)
        assert [jax.typeof(g) for g in grads] == [jax.typeof(a) for a in (x, w)]
    same((y, grads), jax.jit(both(f))(*whole))


@pytest.mark.parametrize("options", [{}, {"groups": 8}])
def test_features_split_over_explicit_axes(options):
    """What JAX's type rule leaves open `conv` says: y's features are split as w's are."""
    devices = mesh(8, kind=AxisType.Explicit)
    whole = arrays((2, 5, 4, 8), (3, 2, 8 // options.get("groups", 1), 16))
    f = functools.partial(jconv.conv, **options)
    with jax.set_mesh(devices):
        x, w = placed(whole, devices, P(), P(None, None, None, "d"))
        y, grads = jax.jit(both(f))(x, w)
        assert jax.typeof(y).sharding.spec[-1] == "d"
        assert [jax.typeof(g) for g in grads] == [jax.typeof(a) for a in (x, w)]
    same((y, grads), jax.jit(both(f))(*whole))
