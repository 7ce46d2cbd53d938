"""Standardisation of pixels in Triton's interpreter against the definition: batch, group, instance
norm, and layer norm over images.
"""

from __future__ import annotations

import functools
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jconv
from jconv.ops import standardize as definition
from tests.kernels.triton.calls import interpreted
from tests.tolerance import assert_close

pytestmark = interpreted
CASES = {  # x, axes, scale
    "batch": ((3, 5, 7, 20), (0, 1, 2), (1, 1, 1, 20)),
    "batch_of_rows": ((33, 37), (0,), (1, 37)),
    "one_scale": ((3, 5, 7, 20), (0, 1, 2), (1, 1, 1, 1)),
    "instance": ((3, 7, 5, 37), (1, 2), (1, 1, 1, 37)),
    "groups_of_ten": ((2, 5, 7, 5, 10), (1, 2, 4), (1, 1, 1, 5, 10)),
    "groups_of_three": ((2, 5, 7, 11, 3), (1, 2, 4), (1, 1, 1, 11, 3)),
    "one_group": ((3, 5, 7, 40), (1, 2, 3), (1, 1, 1, 40)),
    "scales_of_examples": ((4, 3, 13, 20), (1, 2), (4, 1, 1, 20)),
    "channels_first": ((3, 5, 7, 6), (0, 2, 3), (1, 5, 1, 1)),
}
WAYS = {  # which kernels, and what is made small so that there are several tiles
    "spread": ("batch_norm", {"PROGRAMS": 4, "ELEMENTS": 512}),
    "in_registers": ("group_norm", {}),
    "in_tiles": ("group_norm", {"MOST_HELD": 0, "MOST_HELD_BACK": 0, "ELEMENTS": 512}),
}
RELU = ("float32", {"centre": True, "bounds": (0.0, float("inf"))})
OTHERS = {
    "bfloat16": ("bfloat16", {"centre": True, "bounds": (0.0, 0.5)}),
    "not_centred": ("float32", {"centre": False, "bounds": None}),
}
CALLS = {name: (*case, *RELU) for name, case in CASES.items()} | {
    f"{name}_{other}": (*CASES[name], *options)
    for name in ("batch", "groups_of_ten")
    for other, options in OTHERS.items()
}
each_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


@pytest.fixture
def by(monkeypatch):
    """Computes by the kernels of one way."""

    def choose(way):
        module, small = way
        group_norm, chosen = (
            importlib.import_module(f"jconv_kernels.triton.{name}")
            for name in ("group_norm", module)
        )
        monkeypatch.setattr(group_norm, "pays", lambda cut: module == "group_norm")
        for name, value in small.items():
            monkeypatch.setattr(chosen, name, value)

    return choose


def operands(shape, axes, line, dtype):
    kept = tuple(1 if axis in axes else n for axis, n in enumerate(shape))
    random = np.random.default_rng(0)
    draw = lambda *s: jnp.asarray(random.standard_normal(s), "float32")  # noqa: E731
    x = (3 + 2 * draw(*shape)).astype(dtype)
    return x, draw(*shape).astype(dtype), draw(*line), draw(*line), draw(*kept), draw(*kept)


@pytest.mark.parametrize(("shape", "axes", "line", "dtype", "options"), CALLS.values(), ids=CALLS)
@each_way
def test_forward_and_gradient(shape, axes, line, dtype, options, way, by):
    by(way)
    x, dz, scale, bias, dmean, dvariance = operands(shape, axes, line, dtype)
    static = {"axes": axes, "epsilon": 0.1, **options}

    def both(name, x, dz):
        run = functools.partial(definition.standardize, **static, implementation=name)
        z, mean, variance = run(x, scale, bias)
        run = functools.partial(definition.grad, **static, implementation=name)
        return z, mean, variance, *run(dz, dmean, dvariance, x, scale, bias, mean, variance)

    found = jax.jit(functools.partial(both, "triton"))(x, dz)
    expected = jax.jit(functools.partial(both, "direct"))(x.astype("float32"), dz.astype("float32"))
    assert [a.dtype for a in found] == [dtype, "float32", "float32", dtype, "float32", "float32"]
    for a, e in zip(found, expected, strict=True):
        assert_close(a, e, terms=x.size)


@each_way
def test_a_mean_far_from_zero_costs_nothing(way, by):
    by(way)
    x = 2.0**20 + jnp.asarray(np.random.default_rng(0).standard_normal((2, 9, 31, 5)), "float32")
    wide, axes = np.asarray(x, np.float64), (1, 2)
    z = jconv.instance_norm(x, epsilon=0.0, implementation="triton")
    expected = (wide - wide.mean(axes, keepdims=True)) / wide.std(axes, keepdims=True)
    assert_close(z, expected, terms=279)


def test_infinite_numbers_pass_a_relu(by):
    by(WAYS["spread"])
    case = CASES["batch"]
    x, dz, scale, bias, dmean, dvariance = operands(*case, "float32")
    bias = bias.at[..., 3].set(jnp.inf)
    static = {"axes": case[1], "epsilon": 0.1, "centre": True, "bounds": (0.0, float("inf"))}
    statistics = (a(x, case[1], keepdims=True) for a in (jnp.mean, jnp.var))
    _, _, dbias = definition.grad(
        dz, dmean, dvariance, x, scale, bias, *statistics, **static, implementation="triton"
    )
    assert_close(dbias[..., 3], jnp.sum(dz[..., 3])[None, None, None], terms=105)


def batch_norm(x, scale, **options):
    """All three results in one."""
    y, mean, variance = jconv.batch_norm(x, scale, activation="relu", **options)
    return y + (mean * variance)[None, None, None]


NORMS = {
    "batch": batch_norm,
    "group": lambda x, scale, **k: jconv.group_norm(x, scale, groups=5, **k),
    "instance": lambda x, scale, **k: jconv.instance_norm(x, scale, activation="relu6", **k),
}


@pytest.mark.parametrize("op", NORMS.values(), ids=NORMS)
def test_under_transformations(op):
    x = operands((2, 3, 4, 20), (1, 2), (1, 1, 1, 20), "float32")[0]
    scale = jnp.linspace(0.5, 2, 20)

    def loss(x, scale, name):
        return jnp.sum(jnp.sin(op(x, scale, implementation=name)))

    def several(x, scale, name):
        grad = jax.grad(functools.partial(loss, name=name), (0, 1))
        remat = jax.grad(jax.checkpoint(functools.partial(loss, name=name)))
        images = jnp.stack([x, jnp.cos(x)])
        return (
            grad(x, scale),
            remat(x, scale),
            jax.jvp(grad, (x, scale), (jnp.cos(x), scale)),
            jax.vmap(grad, (0, None))(images, scale),
            jax.vmap(grad)(images, jnp.stack([scale, 1 / scale])),
        )

    found, expected = (
        jax.jit(functools.partial(several, name=name))(x, scale) for name in ("triton", "direct")
    )
    jax.tree.map(functools.partial(assert_close, terms=960), found, expected)


@pytest.mark.devices
@pytest.mark.parametrize(
    ("op", "spec"),
    [
        (NORMS["batch"], P("d")),
        (NORMS["batch"], P(None, None, None, "d")),
        (NORMS["group"], P("d")),
    ],
    ids=["batch_by_examples", "batch_by_channels", "group_by_examples"],
)
def test_split_over_devices(op, spec):
    """Explicit axes: under automatic ones a callback, the interpreter's, is freed too early."""
    mesh = jax.make_mesh((2,), ("d",), axis_types=(AxisType.Explicit,))
    x = operands((4, 3, 5, 20), (1, 2), (1, 1, 1, 20), "float32")[0]
    scale = jnp.linspace(0.5, 2, 20)

    def both(x, scale, name):
        loss = lambda x, scale: jnp.sum(jnp.sin(op(x, scale, implementation=name)))  # noqa: E731
        y, gradients = jax.value_and_grad(loss, (0, 1))(x, scale)
        moved = lambda x: op(x, scale, implementation=name)  # noqa: E731
        return y, gradients, jax.jvp(moved, (x,), (jnp.cos(x),))

    expected = jax.jit(functools.partial(both, name="direct"))(x, scale)
    with jax.set_mesh(mesh):
        laid = jax.device_put(x, NamedSharding(mesh, spec))
        scale = jax.device_put(scale, NamedSharding(mesh, P()))
        compiled = jax.jit(functools.partial(both, name="triton")).lower(laid, scale).compile()
        found = compiled(laid, scale)
    jax.tree.map(functools.partial(assert_close, terms=1200), found, expected)
    if spec == P("d"):
        assert "all-gather" not in compiled.as_text()


@pytest.mark.parametrize(
    ("shape", "axes", "line", "message"),
    [
        ((2, 3, 4, 5, 6), (1, 3), (1,) * 5, r"only for axes in a row, .* got axes \(1, 3\)"),
        ((2, 3, 2**20), (0,), (1, 3, 1), "only for fewer than 1048576 channels, got 3145728"),
        ((2, 3, 4), (1,), (1, 3, 1), r"only for a scale that all pixels share, got .*\(1, 3, 1\)"),
    ],
)
def test_says_why_not(shape, axes, line, message):
    x, scale = jax.ShapeDtypeStruct(shape, "float32"), jax.ShapeDtypeStruct(line, "float32")
    static = {"axes": axes, "epsilon": 0.1, "centre": True, "bounds": None}
    run = functools.partial(definition.standardize, **static, implementation="triton")
    with pytest.raises(NotImplementedError, match=f"'triton' can't compute this call: {message}"):
        jax.eval_shape(run, x, scale, scale)
