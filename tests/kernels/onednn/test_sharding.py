"""Programs that XLA splits over several devices: no operand is gathered."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jconv_kernels import onednn
from jconv_kernels.onednn import sharding

from jconv.window import Window
from tests.kernels.onednn.calls import needs_onednn, static_of
from tests.ops.conv_cases import Case

pytestmark = [needs_onednn, pytest.mark.devices]
P = PartitionSpec
DENSE = Case(x=(8, 5, 6, 4), window=(3, 3), k=8)
GROUPED = Case(x=(8, 5, 6, 4), window=(3, 3), k=8, groups=2)


def split(f, arrays, specs, **axes):
    """f on arrays that lie split over a mesh: the result, and the program's text."""
    mesh = jax.make_mesh(tuple(axes.values()), tuple(axes), axis_types=(AxisType.Auto,) * len(axes))
    placed = [jax.device_put(a, NamedSharding(mesh, s)) for a, s in zip(arrays, specs, strict=True)]
    compiled = jax.jit(f).lower(*placed).compile()
    return compiled(*placed), compiled.as_text()


def operands(case, key):
    (x, w), static = case.arrays(key, "float32"), static_of(case, "float32")
    dy = jax.random.normal(key, (case.x[0], *static["window"].output, case.k))
    return {"conv_forward": (x, w), "conv_input_grad": (dy, w), "conv_filter_grad": (x, dy)}, static


@pytest.mark.parametrize("name", ["conv_forward", "conv_input_grad", "conv_filter_grad"])
@pytest.mark.parametrize("case", [DENSE, GROUPED], ids=["dense", "grouped"])
def test_split_over_examples(case, name, key):
    arrays, static = operands(case, key)
    run = functools.partial(getattr(sharding, name), **static)
    specs = (P("d"), P("d") if name == "conv_filter_grad" else P())
    result, text = split(run, arrays[name], specs, d=8)
    whole = getattr(onednn, name)(*arrays[name], **static)
    np.testing.assert_allclose(result, whole, rtol=1e-4, atol=1e-4)
    assert "jconv_onednn" in text
    assert "all-gather" not in text
    assert ("all-reduce" in text) is (name == "conv_filter_grad")


@pytest.mark.parametrize(
    ("name", "specs"),
    [
        ("conv_forward", (P("d"), P(None, None, None, "m"))),
        ("conv_input_grad", (P("d"), P(None, None, "m"))),
        ("conv_filter_grad", (P("d", None, None, "m"), P("d"))),
    ],
)
def test_split_over_examples_and_channels(name, specs, key):
    arrays, static = operands(DENSE, key)
    run = functools.partial(getattr(sharding, name), **static)
    result, text = split(run, arrays[name], specs, d=4, m=2)
    whole = getattr(onednn, name)(*arrays[name], **static)
    np.testing.assert_allclose(result, whole, rtol=1e-4, atol=1e-4)
    assert "all-gather" not in text


def test_examples_that_do_not_divide(key):
    """A part would hold padding: every device computes the whole."""
    case = Case(x=(6, 5, 6, 4), window=(3, 3), k=8)
    (x, dy), static = operands(case, key)[0]["conv_filter_grad"], static_of(case, "float32")
    mesh = jax.make_mesh((8,), ("d",), axis_types=(AxisType.Auto,))

    def f(x, dy):
        x, dy = (jax.lax.with_sharding_constraint(a, NamedSharding(mesh, P("d"))) for a in (x, dy))
        return sharding.conv_filter_grad(x, dy, **static)

    placed = (jax.device_put(a, NamedSharding(mesh, P())) for a in (x, dy))
    whole = onednn.conv_filter_grad(x, dy, **static)
    np.testing.assert_allclose(jax.jit(f)(*placed), whole, rtol=1e-4, atol=1e-4)


def test_pooling(key):
    window = Window.of((6, 8), (2, 3), stride=2, padding=1)
    x = jax.random.normal(key, (8, 6, 8, 4))
    dtype = x.dtype
    dy, tap = onednn.max_pool_argmax(x, window=window)
    static = {"window": window, "dtype": dtype}
    for name, arrays, options in (
        ("max_pool", (x,), {"window": window}),
        ("max_pool_argmax", (x,), {"window": window}),
        ("pool_put", (dy, tap), static),
        ("window_sum", (x,), static),
        ("window_spread", (dy,), static),
    ):
        run = functools.partial(getattr(sharding, name), **options)
        specs = [P("d", None, None, "m")] * len(arrays)
        result, text = split(run, arrays, specs, d=4, m=2)
        whole = getattr(onednn, name)(*arrays, **options)
        jax.tree.map(np.testing.assert_array_equal, result, whole)
        assert "all-gather" not in text


def test_one_device(key):
    arrays, static = operands(DENSE, key)
    x, w = arrays["conv_forward"]
    y = jax.jit(functools.partial(sharding.conv_forward, **static))(x, w)
    np.testing.assert_array_equal(y, onednn.conv_forward(x, w, **static))


def test_without_the_rule_operands_are_gathered(key):
    """What this is for."""
    arrays, static = operands(DENSE, key)
    run = functools.partial(onednn.conv_forward, **static)
    _, text = split(run, arrays["conv_forward"], (P("d"), P()), d=8)
    assert "all-gather" in text


def test_explicit_axes_are_refused():
    mesh = jax.make_mesh((8,), ("d",), axis_types=(AxisType.Explicit,))
    x = jax.device_put(jnp.zeros(DENSE.x), NamedSharding(mesh, P("d")))
    w = jnp.zeros(DENSE.w)
    reason = onednn.conv_forward_unsupported(
        *map(jax.typeof, (x, w)), **static_of(DENSE, "float32")
    )
    assert reason == "not where axes of the mesh are explicit: use jax.shard_map there"
