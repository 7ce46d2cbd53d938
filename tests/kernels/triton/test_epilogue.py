"""What follows a convolution in Triton's interpreter against the definition."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jconv
from jconv.ops import epilogue as definition
from tests.kernels.triton.calls import interpreted
from tests.tolerance import assert_close

pytestmark = interpreted
SHAPES = {
    "image": (3, 5, 7, 20),
    "one_channel_more": (2, 3, 5, 65),
    "rows": (33, 37),
    "one_example": (1, 4, 3, 16),
}
each_activation = pytest.mark.parametrize("activation", definition.ACTIVATIONS)


@pytest.fixture(params=["one_tile", "several_tiles"])
def tiles(request, monkeypatch):
    """With blocks that hold an example's pixels, and with small ones, several to a program."""
    if request.param == "several_tiles":
        from jconv_kernels.triton import epilogue

        for name, value in {"PROGRAMS": 4, "ELEMENTS": 256, "ELEMENTS_BACK": 256}.items():
            monkeypatch.setattr(epilogue, name, value)


def operands(shape, dtype="float32"):
    random = np.random.default_rng(0)
    draw = lambda *s: jnp.asarray(random.standard_normal(s), "float32")  # noqa: E731
    parameters = 1 + draw(shape[-1]) / 2, 1 + draw(shape[-1]), draw(shape[0], shape[-1])
    return (2 * draw(*shape)).astype(dtype), *parameters, draw(*shape).astype(dtype)


def passes(activation, gated, name):
    """(x, scale, bias, gate, dy) to y and the gradients of all operands."""

    def run(x, scale, bias, gate, dy):
        def f(x, scale, bias, gate):
            return jconv.scale_bias_act(
                x, scale, bias, activation=activation, gate=gate if gated else None,
                implementation=name,
            )  # fmt: skip

        y, vjp = jax.vjp(f, x, scale, bias, gate)
        return y, *vjp(dy)

    return jax.jit(run)


def compared(shape, dtype, activation, gated):
    given = operands(shape, dtype)
    found = passes(activation, gated, "triton")(*given)
    wide = [a.astype("float32") for a in given]
    expected = passes(activation, gated, "direct")(*wide)
    assert [a.dtype for a in found] == [dtype] * 2 + ["float32"] * 3
    for a, e in zip(found, expected, strict=True):
        assert_close(a, e, terms=given[0].size)


@each_activation
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_each_activation(activation, dtype):
    compared((3, 2, 5, 20), dtype, activation, True)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("gated", [True, False], ids=["gated", "not_gated"])
def test_each_shape(shape, gated, tiles):
    compared(shape, "float32", "silu", gated)


def test_an_infinite_bias_makes_no_nan_of_what_is_not_there():
    x, scale, bias, gate, dy = operands(SHAPES["image"])
    bias, dy = bias.at[3].set(jnp.inf), abs(dy)
    found, expected = (
        passes("relu", True, name)(x, scale, bias, gate, dy) for name in ("triton", "direct")
    )
    for a, e in zip(found, expected, strict=True):
        assert_close(a, e, terms=x.size)
    assert np.isfinite(found[3][3])
    assert np.isposinf(found[4][:, 3]).all()


def test_under_transformations():
    x, scale, bias, gate, _ = operands((2, 3, 4, 20))

    def loss(x, scale, bias, gate, name):
        y = jconv.scale_bias_act(
            x, scale, bias, activation="hard_swish", gate=gate, implementation=name
        )
        return jnp.sum(jnp.sin(y))

    def several(*given, name):
        f = functools.partial(loss, name=name)
        grad = jax.grad(f, (0, 1, 2, 3))
        cosines = tuple(map(jnp.cos, given))
        stacked = tuple(jnp.stack([a, b]) for a, b in zip(given, cosines, strict=True))
        return (
            jax.grad(jax.checkpoint(f))(*given),
            jax.jvp(grad, given, cosines),
            jax.grad(lambda *a: jax.jvp(f, a, cosines)[1])(*given),
            jax.vmap(grad)(*stacked),
            jax.vmap(grad, (0, None, None, 0))(stacked[0], *given[1:3], stacked[3]),
            jax.vmap(grad, (None, 0, None, None))(x, stacked[1], *given[2:]),
        )

    given = x, scale, bias, gate
    found, expected = (
        jax.jit(functools.partial(several, name=name))(*given) for name in ("triton", "direct")
    )
    jax.tree.map(functools.partial(assert_close, terms=960), found, expected)


def test_the_gradient_inherits_the_name():
    x, scale, bias, gate, _ = operands((2, 3, 20))

    def loss(x):
        y = jconv.scale_bias_act(x, scale, bias, gate=gate, implementation="triton")
        return jnp.sum(y * y)

    for fn in (jax.grad(loss), jax.grad(lambda x: jax.vmap(loss)(x[None])[0])):
        choices = {c.op: c.implementation for c in jconv.explain_choice(fn, x)}
        assert choices == {"scale_bias_act": "triton", "scale_bias_act_grad": "triton"}
    hessian = {c.op for c in jconv.explain_choice(jax.hessian(loss), x)}
    assert "scale_bias_act_grad" in hessian


@pytest.mark.devices
@pytest.mark.parametrize("spec", [P("d"), P(None, None, None, "d")], ids=["examples", "channels"])
@pytest.mark.parametrize("gated", [True, False], ids=["gated", "not_gated"])
def test_split_over_devices(spec, gated):
    """Explicit axes: under automatic ones a callback, the interpreter's, is freed too early."""
    mesh = jax.make_mesh((2,), ("d",), axis_types=(AxisType.Explicit,))
    given = operands((2, 3, 5, 20))
    expected = passes("silu", gated, "direct")(*given)
    gate = P("d") if spec == P("d") else P()
    specs = spec, P(), P(), gate, spec
    with jax.set_mesh(mesh):
        laid = [
            jax.device_put(a, NamedSharding(mesh, s)) for a, s in zip(given, specs, strict=True)
        ]
        compiled = passes("silu", gated, "triton").lower(*laid).compile()
        found = compiled(*laid)
    assert [jax.typeof(g) for g in found[1:]] == [jax.typeof(a) for a in laid[:4]]
    for a, e in zip(found, expected, strict=True):
        assert_close(a, e, terms=given[0].size)
    if spec == P("d"):
        assert "all-gather" not in compiled.as_text()


@pytest.mark.parametrize(
    ("shape", "dtype", "message"),
    [
        ((2, 2**16, 2**14, 1), "float32", r"only arrays of fewer than 2\*\*31 elements, got"),
        ((2, 3, 2**20), "float32", "only for fewer than 1048576 channels, got 1048576"),
        ((2, 0, 4), "float32", "nothing to compute"),
        ((2, 3, 4), "float64", "only float32, bfloat16, float16, got float64"),
    ],
)
def test_says_why_not(shape, dtype, message, x64):
    x = jax.ShapeDtypeStruct(shape, dtype)
    run = functools.partial(jconv.scale_bias_act, implementation="triton")
    with pytest.raises(NotImplementedError, match=f"'triton' can't compute this call: {message}"):
        jax.eval_shape(run, x)
