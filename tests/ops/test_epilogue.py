"""jconv.scale_bias_act against the definition; its three primitives, closed under derivatives."""

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
from jconv.ops import epilogue
from jconv.ops.epilogue import scale_bias_act
from jconv.receptive_field import theoretical
from tests import often
from tests.oracles import activations as oracle
from tests.tolerance import assert_close

each_activation = pytest.mark.parametrize("activation", epilogue.ACTIVATIONS)
N, C = 2, 5
SHAPE = (N, 3, 4, C)


def operands(dtype="float32", shape=SHAPE):
    """x, scale, bias, gate and dy; z lies between -6 and 9, on both sides of every kink."""
    random = np.random.default_rng(0)
    draw = lambda *s: jnp.asarray(random.standard_normal(s), dtype)  # noqa: E731
    x, scale, bias = 2 * draw(*shape), 1 + draw(shape[-1]) / 2, 1 + draw(shape[-1])
    return x, scale, bias, draw(shape[0], shape[-1]), draw(*shape)


@each_activation
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_matches_definition(activation, dtype):
    x, scale, bias, gate, _ = operands(dtype)
    y = scale_bias_act(x, scale, bias, activation=activation, gate=gate)
    assert y.dtype == dtype
    assert_close(y, oracle.scale_bias_act(x, scale, bias, gate, activation), terms=2)


@pytest.mark.parametrize("shape", [(3, 7), (2, 3, 7), (2, 1, 3, 2, 7)], ids=str)
def test_any_number_of_axes(shape):
    x, scale, bias, gate, _ = operands(shape=shape)
    y = scale_bias_act(x, scale, bias, activation="relu6", gate=gate)
    assert_close(y, oracle.scale_bias_act(x, scale, bias, gate, "relu6"), terms=2)


def test_what_is_left_out_is_neutral():
    x, scale, bias, gate, _ = operands()
    one, none = np.ones(C), np.zeros(C)
    ones = np.ones((N, C))
    for given, expected in (
        ({}, (one, none, ones)),
        ({"scale": scale}, (scale, none, ones)),
        ({"bias": bias}, (one, bias, ones)),
        ({"gate": gate}, (one, none, gate)),
    ):
        y = scale_bias_act(x, **given, activation="silu")
        assert_close(y, oracle.scale_bias_act(x, *expected, "silu"), terms=2)


@pytest.mark.parametrize("shape", [(N, 1, 1, C), (1, C), (N, 1), (C,), (1, 1, 1, C), ()], ids=str)
def test_gates_that_broadcast(shape):
    x, scale, bias, gate, _ = operands()
    gate = gate.ravel()[: int(np.prod(shape))].reshape(shape)
    wide = np.broadcast_to(np.asarray(gate).reshape(-1, shape[-1] if shape else 1), (N, C))

    def f(gate):
        return scale_bias_act(x, scale, bias, activation="gelu", gate=gate)

    assert_close(f(gate), oracle.scale_bias_act(x, scale, bias, wide, "gelu"), terms=2)
    assert jax.grad(lambda g: jnp.sum(f(g)))(gate).shape == shape


@pytest.mark.parametrize(
    "activation",
    often.cases({str(name): name for name in epilogue.ACTIVATIONS}, ("silu", "relu6")),
)
def test_derivatives_against_differences(activation, x64):
    """To order 2, in all four operands."""
    *given, _ = operands("float64", (2, 2, 3))

    def f(x, scale, bias, gate):
        return scale_bias_act(x, scale, bias, activation=activation, gate=gate)

    check_grads(jax.jit(f), given, order=2, modes=["fwd", "rev"], eps=1e-5, rtol=1e-4, atol=1e-5)


@each_activation
def test_gradient_is_that_of_the_activation(activation, x64):
    """With the activation's slopes by differences of the definition in float64."""
    x, scale, bias, gate, dy = operands("float64")
    _, vjp = jax.vjp(
        lambda *a: scale_bias_act(*a[:3], activation=activation, gate=a[3]), x, scale, bias, gate
    )
    act = np.vectorize(oracle.ACTIVATIONS[activation])
    z, step = np.asarray(x * scale + bias), 1e-6
    slope = (act(z + step) - act(z - step)) / (2 * step)
    gates, dy = np.asarray(gate)[:, None, None], np.asarray(dy)
    t = dy * gates * slope
    expected = t * scale, (t * x).sum((0, 1, 2)), t.sum((0, 1, 2)), (dy * act(z)).sum((1, 2))
    for a, e in zip(vjp(jnp.asarray(dy)), expected, strict=True):
        np.testing.assert_allclose(a, e, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize(
    ("activation", "kinks", "slopes"),
    [("relu", [0.0], [0]), ("relu6", [0.0, 6.0], [0, 0]), ("hard_swish", [-3.0, 3.0], [0, 1])],
)
def test_slopes_at_kinks(activation, kinks, slopes):
    f = functools.partial(scale_bias_act, activation=activation)
    found = jax.grad(lambda x: jnp.sum(f(x)))(jnp.asarray(kinks)[:, None])
    np.testing.assert_array_equal(found[:, 0], slopes)


def test_the_two_derivatives_are_transposes(x64):
    *given, dy = operands("float64", (2, 2, 3))
    given = tuple(given)

    def f(x, scale, bias, gate):
        return scale_bias_act(x, scale, bias, activation="silu", gate=gate)

    _, back = jax.vjp(f, *given)
    tangents = tuple(map(jnp.cos, given))
    (forth,) = jax.linear_transpose(back, dy)(tangents)
    np.testing.assert_allclose(forth, jax.jvp(f, given, tangents)[1], rtol=1e-12)
    again = jax.linear_transpose(lambda *t: jax.jvp(f, given, t)[1], *given)(dy)
    for a, e in zip(again, back(dy), strict=True):
        np.testing.assert_allclose(a, e, rtol=1e-12)


def test_what_is_kept_for_the_gradient():
    """x itself, and what is as small as the parameters."""
    x, scale, bias, gate, _ = operands("bfloat16", (4, 5, 5, 8))
    f = functools.partial(scale_bias_act, activation="gelu_exact")
    _, vjp = jax.vjp(lambda x, s, b, g: f(x, s, b, gate=g), x, scale, bias, gate)
    large = [a for a in jax.tree.leaves(vjp) if a.size >= x.size]
    assert [(a.shape, a.dtype) for a in large] == [(x.shape, jnp.bfloat16)]


def test_what_has_no_tangent_has_no_part_in_one():
    """Infinity times the tangent of a constant scale, 0, is no number."""
    infinite = jnp.full((1, 1), jnp.inf)
    relu = functools.partial(scale_bias_act, scale=jnp.ones(1), activation="relu")
    assert jax.jvp(relu, (infinite,), (jnp.ones((1, 1)),))[1] == 1


@each_activation
def test_bfloat16_is_rounded_once(activation):
    """y and dx are those of float32, rounded; the other sums are of float32."""
    x, *parameters, dy = operands("bfloat16")
    parameters = [a.astype("float32") for a in parameters]

    def run(x, dy):
        y, vjp = jax.vjp(
            lambda x, s, b, g: scale_bias_act(x, s, b, activation=activation, gate=g),
            x, *parameters,
        )  # fmt: skip
        return y, *vjp(dy)

    run = jax.jit(run)
    narrow, wide = run(x, dy), run(x.astype("float32"), dy.astype("float32"))
    assert [a.dtype for a in narrow] == ["bfloat16"] * 2 + ["float32"] * 3
    for a, e in zip(narrow, wide, strict=True):
        assert_close(a, e, terms=24)


def test_sums_of_bfloat16_are_of_float32():
    """4096 ones and a half: a sum of bfloat16 gets no further than 256."""
    x = jnp.ones((4096, 1), jnp.bfloat16)
    f = lambda bias: jnp.sum(scale_bias_act(x, None, bias).astype("float32"))  # noqa: E731
    assert jax.grad(f)(jnp.zeros(1, jnp.bfloat16)) == 4096


def test_vmap_over_gates_and_over_parameters():
    x, scale, bias, gate, _ = operands()
    f = functools.partial(scale_bias_act, activation="hard_swish")
    many = lambda a: jnp.stack([a, 2 * a, jnp.cos(a)])  # noqa: E731
    grad = jax.grad(lambda *a: jnp.sum(jnp.sin(f(*a[:3], gate=a[3]))), (0, 1, 2, 3))
    for axes in ((None, None, None, 0), (None, 0, 0, None), (0, None, None, 0), (0, 0, 0, 0)):
        given = [
            a if axis is None else many(a)
            for a, axis in zip((x, scale, bias, gate), axes, strict=True)
        ]
        found = jax.vmap(grad, axes)(*given)
        for i in range(3):
            one = grad(*(a if axis is None else a[i] for a, axis in zip(given, axes, strict=True)))
            for a, e in zip(found, one, strict=True):
                assert_close(a[i], e, terms=24)


def test_a_row_by_name_is_that_of_the_gradient_too():
    x, scale, bias, _, _ = operands()
    for name in (None, "direct"):
        f = functools.partial(scale_bias_act, activation="silu", implementation=name)
        choices = jconv.explain_choice(jax.grad(lambda x, f=f: jnp.sum(f(x, scale, bias))), x)
        assert {c.op: c.requested for c in choices} == {
            "scale_bias_act": name, "scale_bias_act_grad": name,
        }  # fmt: skip
    choices = jconv.explain_choice(scale_bias_act, x, scale, bias, platform="cuda")
    assert [c.implementation for c in choices] == ["direct"]


@pytest.mark.devices
@pytest.mark.parametrize("activation", ["gelu_exact", "hard_swish"])
def test_derivatives_inside_a_shard_map(activation, x64):
    """To order 2, with checks of what varies: JAX 0.12 refuses its own of erfc there."""
    x, scale, bias, _, _ = operands("float64", (8, 3, 2))

    def loss(x, scale, bias):
        return jnp.sum(jnp.sin(scale_bias_act(x, scale, bias, activation=activation)))

    def both(*given):
        grad = jax.grad(loss, (0, 1, 2))
        return grad(*given), jax.grad(lambda *a: jnp.sum(jnp.sin(grad(*a)[0])))(*given)

    mesh = jax.make_mesh((8,), ("d",), axis_types=(AxisType.Auto,))
    specs = P("d"), P(), P()
    split = jax.shard_map(both, mesh=mesh, in_specs=specs, out_specs=(specs, P("d")))
    found, expected = (jax.jit(f)(x, scale, bias) for f in (split, both))
    for a, e in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, e, rtol=1e-10, atol=1e-10)


@pytest.mark.devices
@pytest.mark.parametrize(
    ("image", "parameters"),
    [(P(None, None, None, "d"), P()), (P(), P("d")), (P("d"), P())],
    ids=["channels_of_x", "channels_of_parameters", "examples"],
)
def test_gradients_lie_as_what_they_belong_to(image, parameters):
    """On explicit axes, whatever is split and what is not."""
    devices = jax.make_mesh((8,), ("d",), axis_types=(AxisType.Explicit,))
    x, scale, bias, gate, _ = operands(shape=(8, 3, 3, 16))

    def loss(x, scale, bias, gate):
        return jnp.sum(jnp.sin(scale_bias_act(x, scale, bias, activation="silu", gate=gate)))

    grad = jax.grad(loss, (0, 1, 2, 3))
    expected = jax.jit(grad)(x, scale, bias, gate)
    specs = image, parameters, parameters, P()
    with jax.set_mesh(devices):
        laid = [
            jax.device_put(a, NamedSharding(devices, spec))
            for a, spec in zip((x, scale, bias, gate), specs, strict=True)
        ]
        found = jax.jit(grad)(*laid)
    assert [jax.typeof(g) for g in found] == [jax.typeof(a) for a in laid]
    for a, e in zip(found, expected, strict=True):
        assert_close(a, e, terms=72)


@each_activation
def test_receptive_field_is_one_pixel(activation):
    x, gate = jnp.ones((1, 9, 9, 4)), jnp.ones((1, 4))

    def f(x):
        return scale_bias_act(x, activation=activation, gate=gate)

    field = theoretical(f, x)
    assert (field.size, field.stride, field.unknown) == ((1, 1), (1, 1), ())


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"x": np.zeros((2, 3), np.int32)}, r"x must be floating point; got x \(2, 3\) of int32"),
        ({"x": jnp.ones((2, 3), jnp.float8_e8m0fnu)}, "x must be of a dtype that has 0 and neg"),
        ({"x": jnp.zeros(3)}, r"x must be \(N, \.\.\., C\) with at least 2 axes; got x \(3,\)"),
        ({"scale": jnp.zeros(4)}, r"scale must be \(C,\) = \(3,\); got scale \(4,\), x"),
        ({"bias": jnp.zeros((1, 3))}, r"bias must be \(C,\) = \(3,\); got bias \(1, 3\), x"),
        ({"scale": np.ones(3, bool)}, r"scale must be floating point; got scale \(3,\) of bool"),
        ({"gate": jnp.zeros(3, int)}, r"gate must be floating point; got gate \(3,\) of int"),
        (
            {"gate": jnp.zeros((3, 3))},
            r"gate must broadcast to \(N, C\) = \(2, 3\) or to \(N, 1, C\); got gate \(3, 3\), x "
            r"\(2, 5, 3\)",
        ),
        ({"gate": jnp.zeros((2, 5, 3))}, r"gate must broadcast .*; got gate \(2, 5, 3\), x"),
        ({"activation": "swish"}, r"activation must be one of None, 'relu', .*; got .*='swish'"),
        ({"activation": ["relu"]}, r"activation must be one of .*; got activation=\['relu'\]"),
    ],
)
def test_says_what_is_wrong(kwargs, message):
    with pytest.raises(ValueError, match=f"^scale_bias_act: {message}"):
        scale_bias_act(**{"x": jnp.zeros((2, 5, 3)), **kwargs})


def test_says_that_there_is_no_such_row():
    with pytest.raises(ValueError, match=r"^scale_bias_act: implementation must be .*'winograd'"):
        scale_bias_act(jnp.zeros((2, 3)), implementation="winograd")
