"""The operation behind every norm: three primitives, closed under derivatives."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from jax.test_util import check_grads

import jconv
from jconv import nn
from jconv.core.dispatch import choose
from jconv.ops import standardize as definition
from jconv.ops.layer_norms import group_norm, instance_norm, layer_norm, rms_norm
from tests.tolerance import assert_close

SHAPE, AXES = (2, 3, 2, 4), (1, 3)
SCALES = {
    "number": (1, 1, 1, 1),
    "within": (1, 1, 1, 4),
    "between": (1, 1, 2, 1),
    "both": (1, 3, 2, 4),
    "each": (2, 3, 2, 4),
}
OFTEN = ("within", "both")
each_scale = pytest.mark.parametrize(
    "scaled",
    [
        pytest.param(shape, id=name, marks=() if name in OFTEN else pytest.mark.slow)
        for name, shape in SCALES.items()
    ],
)
centred = pytest.mark.parametrize("centre", [True, False], ids=["centred", "not_centred"])
held = pytest.mark.parametrize("bounds", [None, (0.0, 0.5)], ids=["free", "held"])
STATIC = {"axes": AXES, "epsilon": 0.1}


def normal(seed, *shape, dtype="float64"):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def plain(x, scale, bias, *, axes, epsilon, centre, bounds):
    mean = jnp.mean(x, axes, keepdims=True) if centre else jnp.zeros_like(x[:, :1, :, :1])
    variance = jnp.mean((x - mean) ** 2, axes, keepdims=True)
    z = (x - mean) / jnp.sqrt(variance + epsilon) * scale + bias
    if bounds:
        z = jnp.where(z > bounds[0], jnp.where(z < bounds[1], z, bounds[1]), bounds[0])
    return z, mean, variance


@each_scale
@centred
@held
def test_every_derivative_is_that_of_the_definition(scaled, centre, bounds, x64):
    """Forward, backward, and both of each, through all three results."""
    operands = normal(0, *SHAPE), normal(1, *scaled), normal(2, *scaled)
    tangents = tuple(jnp.sin(a) for a in operands)

    def run(f):
        f = functools.partial(f, **STATIC, centre=centre, bounds=bounds)

        def loss(*operands):
            return sum(jnp.sum(jnp.sin(r)) for r in f(*operands))

        grad = jax.grad(loss, (0, 1, 2))
        slope = functools.partial(jax.jvp, loss, tangents=tangents)
        return jax.jit(
            lambda *operands: (
                jax.jvp(f, operands, tangents),
                grad(*operands),
                jax.jvp(grad, operands, tangents),
                jax.grad(lambda *o: slope(o)[1], (0, 1, 2))(*operands),
            )
        )(*operands)

    found, expected = run(definition.standardize), run(plain)
    for a, e in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, e, rtol=1e-9, atol=1e-10)


@each_scale
@held
@pytest.mark.parametrize("operation", [definition.tangent, definition.grad], ids=lambda o: o.name)
def test_transposes_and_derivatives_in_what_is_kept(operation, bounds, scaled, x64):
    """Against differences, in all eight operands; and the transpose's transpose."""
    x, scale, bias = normal(0, *SHAPE), normal(1, *scaled), normal(7, *scaled)
    mean, variance = jnp.mean(x, AXES, keepdims=True), jnp.var(x, AXES, keepdims=True)
    wide, kept = normal(2, *SHAPE), (normal(3, *mean.shape), normal(4, *mean.shape))
    scales = normal(5, *scaled), normal(6, *scaled)
    linear = (wide, *scales) if operation is definition.tangent else (wide, *kept)

    def f(*operands):
        return tuple(operation(*operands, **STATIC, centre=True, bounds=bounds))

    check_grads(
        jax.jit(f), (*linear, x, scale, bias, mean, variance), order=1, modes=["fwd", "rev"],
        eps=1e-5, rtol=1e-5, atol=1e-6,
    )  # fmt: skip

    def at(*linear):
        return f(*linear, x, scale, bias, mean, variance)

    back = jax.linear_transpose(at, *linear)
    forth = jax.linear_transpose(lambda *c: back(c), *at(*linear))
    for a, e in zip(forth(linear), at(*linear), strict=True):
        np.testing.assert_allclose(a, e, rtol=1e-12, atol=1e-12)


def test_what_is_kept_for_the_gradient():
    """x itself, and what is as small as the statistics: neither y nor x in float32."""
    x, c = normal(0, 4, 5, 5, 8, dtype="bfloat16"), jnp.ones(8)
    for norm in (
        lambda *a: jconv.batch_norm(*a)[0], layer_norm, instance_norm,
        functools.partial(group_norm, groups=2),
    ):  # fmt: skip
        _, vjp = jax.vjp(norm, x, c, c)
        large = [a for a in jax.tree.leaves(vjp) if a.size >= x.size]
        assert [(a.shape[0], a.size, a.dtype) for a in large] == [(4, x.size, jnp.bfloat16)]


def test_an_activation_keeps_nothing_more(key):
    """Its gradient is told from x, not from z."""
    x, c = jax.random.normal(key, (4, 5, 5, 8)), jnp.ones(8)
    for name, norm in NORMS.items():
        _, vjp = jax.vjp(functools.partial(norm, activation="relu"), x, c, c)
        large = [a for a in jax.tree.leaves(vjp) if a.size >= x.size]
        assert len(large) == 1, name


@pytest.mark.parametrize("activation", ["relu", "relu6"])
def test_an_activation_is_that_behind_the_norm(activation):
    x, dz = (normal(i, 6, 4, 32, dtype="float32") for i in range(2))
    scale, bias = (6 * normal(i, 32, dtype="float32") for i in (2, 3))
    after = getattr(nn, activation)

    def both(f):
        z, vjp = jax.vjp(f, x, scale, bias)
        return z, *vjp(dz)

    for norm in NORMS.values():
        found = jax.jit(both, static_argnums=0)(functools.partial(norm, activation=activation))
        expected = jax.jit(both, static_argnums=0)(lambda *a, norm=norm: after(norm(*a)))
        assert float(expected[0].max()) > 5
        for a, e in zip(found, expected, strict=True):
            assert_close(a, e, terms=64)


NORMS = {
    "batch": lambda x, *c, **o: jconv.batch_norm(x, *c, **o)[0],
    "layer": layer_norm,
    "group": functools.partial(group_norm, groups=4),
}


@pytest.mark.parametrize("name", NORMS)
def test_gradients_far_from_zero(name, x64):
    """At a mean of 10^4 no further from float64 than twice the direct form, differentiated."""
    x = normal(0, 8, 6, 32, dtype="float32") + 1e4
    dz, scale = normal(1, 8, 6, 32, dtype="float32"), normal(2, 32, dtype="float32")
    norm = NORMS[name]
    axes = {"batch": (0, 1), "layer": (2,), "group": (1, 3)}[name]

    def direct(x, scale):
        split = x.reshape(8, 6, 4, 8) if name == "group" else x
        mean = jnp.mean(split, axes, keepdims=True)
        variance = jnp.mean((split - mean) ** 2, axes, keepdims=True)
        return ((split - mean) / jnp.sqrt(variance + 1e-5)).reshape(x.shape) * scale

    def both(f, *operands):
        z, vjp = jax.vjp(f, *operands)
        return z, *vjp(dz.astype(z.dtype))

    run = jax.jit(both, static_argnums=0)
    exact = run(direct, x.astype("float64"), scale.astype("float64"))
    theirs, ours = run(direct, x, scale), run(norm, x, scale)
    for e, t, o in zip(exact, theirs, ours, strict=True):
        worst = np.abs(np.float64(t) - e).max()
        assert np.abs(np.float64(o) - e).max() <= 2 * worst


@pytest.mark.parametrize("name", NORMS)
def test_tiny_numbers(name):
    """z is that of numbers 2^50 times as large, and dx 2^50 times as large as theirs."""
    x, dz = (normal(i, 6, 4, 32, dtype="float32") for i in range(2))

    @jax.jit
    def run(x):
        z, vjp = jax.vjp(lambda x: NORMS[name](x, epsilon=0.0), x)
        return z, vjp(dz)[0]

    (z, dx), (expected_z, expected_dx) = run(x * 2.0**-50), run(x)
    assert_close(z, expected_z, terms=24)
    assert_close(dx * 2.0**-50, expected_dx, terms=24)


@pytest.mark.parametrize("name", NORMS)
def test_bfloat16_is_rounded_once(name):
    """z and dx are those of float32, rounded; dscale and dbias are summed in float32."""
    x, dz = (normal(i, 6, 4, 32, dtype="bfloat16") for i in range(2))
    scale = normal(2, 32, dtype="float32")

    def run(x, dz):
        z, vjp = jax.vjp(NORMS[name], x, scale, scale)
        return z, *vjp(dz)

    run = jax.jit(run)
    narrow, wide = run(x, dz), run(x.astype("float32"), dz.astype("float32"))
    assert [a.dtype for a in narrow] == ["bfloat16", "bfloat16", "float32", "float32"]
    for a, e in zip(narrow, wide, strict=True):
        assert_close(a, e, terms=32)


def test_a_row_by_name_is_that_of_the_gradient_too():
    """ "one_pass" is a row of the forward pass alone; "direct" is one of all three."""
    x = normal(0, 2, 3, 4, dtype="float32")
    for name, gradient in (("one_pass", None), ("direct", "direct")):
        f = jax.grad(lambda x, name=name: jnp.sum(layer_norm(x, implementation=name)))
        found = {c.op: c.requested for c in jconv.explain_choice(f, x)}
        assert found == {"standardize": name, "standardize_grad": gradient}
    choices = jconv.explain_choice(lambda x: layer_norm(x), x, platform="cuda")
    assert [c.implementation for c in choices] == ["direct"]


@pytest.mark.parametrize("platform", ["one_pass", "direct"])
def test_rows_agree_far_from_zero(platform):
    x = normal(0, 64, 8, dtype="float32") + 1e4
    z = layer_norm(x, axes=0, implementation=platform)
    wide = np.asarray(x, np.float64)
    expected = (wide - wide.mean(0)) / np.sqrt(wide.var(0) + 1e-5)
    assert_close(z, expected, terms=64)


@centred
@pytest.mark.parametrize(
    ("shape", "axes", "bounds"),
    [((64, 49, 96), (2,), None), ((98, 2, 30, 50), (2, 3), (0.0, 0.5)), ((5, 7), (1,), None)],
    ids=["chunks", "two_axes_held", "one_chunk"],
)
def test_gradient_row_by_row(shape, axes, bounds, centre):
    """Some rows after the others give what all do at once, in float64."""
    first = len(shape) - len(axes)
    scaled = (1,) * first + shape[first:]
    kept = shape[:first] + (1,) * len(axes)
    shapes = shape, kept, kept, shape, scaled, scaled, kept, kept
    *operands, variance = (normal(i, *s, dtype="float32") for i, s in enumerate(shapes))
    operands.append(jnp.abs(variance))
    static = {"axes": axes, "epsilon": 0.1, "centre": centre, "bounds": bounds}
    run = functools.partial(definition.grad, **static, implementation="rows")
    found = run(*operands)
    with jax.enable_x64(True):
        wide = [jnp.asarray(np.asarray(a), "float64") for a in operands]
        expected = definition.grad(*wide, **static, implementation="direct")
    for a, e in zip(found, expected, strict=True):
        assert a.shape == e.shape
        assert_close(a, e, terms=wide[0].size)


def test_large_rows_go_row_by_row_on_xla_alone():
    table = [row for row in definition.grad.table if not row.name.startswith("onednn")]

    def chosen(*shape):
        x, kept, line = (
            jax.core.ShapedArray(s, np.float32)
            for s in (shape, (*shape[:-1], 1), (1,) * (len(shape) - 1) + shape[-1:])
        )
        avals = x, kept, kept, x, line, line, kept, kept
        static = {"axes": (len(shape) - 1,), "epsilon": 0.1, "centre": True, "bounds": None}
        row, choice = choose("grad", table, avals, static, platform="cpu", name=None)
        return row.name, dict(choice.rejected).get("rows", "")

    assert chosen(64, 197, 768)[0] == "rows"
    assert chosen(4, 3, 64) == (
        "direct", "slower below 8388608 bytes, which stay in the cache anyway",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("shape", "scaled", "axes", "message"),
    [
        ((3, 4, 5), (1, 4, 1), (1,), r"only for the last axes, got axes \(1,\)"),
        ((3, 4, 5), (1, 1, 1), (2,), r"only for a scale of each number .*, got scale \(1, 1, 1\)"),
        ((0, 4, 5), (1, 1, 5), (2,), "something to compute"),
    ],
)
def test_row_by_row_says_what_it_can_not_compute(shape, scaled, axes, message):
    kept = tuple(1 if axis in axes else n for axis, n in enumerate(shape))
    shapes = shape, kept, kept, shape, scaled, scaled, kept, kept
    static = {"axes": axes, "epsilon": 0.1, "centre": True, "bounds": None}
    with pytest.raises(NotImplementedError, match=message):
        definition.grad(*map(jnp.zeros, shapes), **static, implementation="rows")


@pytest.mark.devices
@pytest.mark.parametrize("op", [layer_norm, rms_norm, instance_norm], ids=lambda op: op.__name__)
def test_channels_over_explicit_axes(op):
    """x split along its channels, scale not: gradients are laid out as what they belong to."""
    devices = jax.make_mesh((8,), ("d",), axis_types=(AxisType.Explicit,))
    x, scale = normal(0, 2, 3, 3, 16, dtype="float32"), normal(1, 16, dtype="float32")
    axes = {"axes": (1, 2)} if op is not instance_norm else {}

    def loss(x, scale):
        return jnp.sum(jnp.sin(op(x, scale, **axes)))

    expected = jax.jit(jax.grad(loss, (0, 1)))(x, scale)
    with jax.set_mesh(devices):
        split = jax.device_put(x, NamedSharding(devices, P(None, None, None, "d")))
        whole = jax.device_put(scale, NamedSharding(devices, P()))
        found = jax.jit(jax.grad(loss, (0, 1)))(split, whole)
    assert [jax.typeof(g) for g in found] == [jax.typeof(a) for a in (split, whole)]
    for a, e in zip(found, expected, strict=True):
        assert_close(a, e, terms=64)
