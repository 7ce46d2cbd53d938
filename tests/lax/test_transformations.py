"""jconv.lax under what draws do not cover: second derivatives, meshes, export, empty batches."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from jax.test_util import check_grads

import jconv.lax
from tests.lax.calls import primitives

GROUPED = {
    "window_strides": (2, 1),
    "padding": ((1, -1), (0, 2)),
    "lhs_dilation": (1, 2),
    "feature_group_count": 2,
}
BATCH_GROUPED = {"window_strides": (1, 2), "padding": "SAME", "batch_group_count": 2}
SHAPES = {"grouped": ((2, 4, 4, 3), (4, 2, 2, 2)), "batch_grouped": ((4, 2, 4, 3), (4, 2, 2, 2))}
CALLS = {"grouped": GROUPED, "batch_grouped": BATCH_GROUPED}
each_call = pytest.mark.parametrize("name", CALLS)


def operands(name, dtype="float32"):
    random = np.random.default_rng(0)
    return tuple(jnp.asarray(random.standard_normal(shape), dtype) for shape in SHAPES[name])


def call(library, name):
    return functools.partial(_convolve, library, **CALLS[name])


def _convolve(library, x, w, **options):
    return library.conv_general_dilated(x, w, **options)


def test_second_derivatives(x64):
    f, args = jax.jit(call(jconv.lax, "grouped")), operands("grouped", "float64")
    check_grads(f, args, order=2, modes=["fwd", "rev"], rtol=1e-5, atol=1e-7)


def every_function(library, x, w):
    """A number that depends on all six functions."""
    numbers = ("NCHW", "OIHW", "NCHW")
    whole = jnp.tile(w, (1, 2, 1, 1))
    local = jnp.tile(w.reshape(4, 8, 1, 1), (1, 2, 4, 3))
    results = [
        library.conv(x, whole, (1, 1), "SAME"),
        library.conv_with_general_padding(x, whole, (1, 1), "VALID", None, None),
        library.conv_general_dilated(x, w, **GROUPED),
        library.conv_general_dilated_local(x, local, (1, 1), "SAME", (2, 2)),
        library.conv_general_dilated_patches(x, (2, 2), (1, 1), "SAME"),
        library.conv_transpose(
            x, whole, (2, 1), "SAME", dimension_numbers=numbers, transpose_kernel=True
        ),
    ]
    return sum(jnp.sin(y).sum() for y in results)


def test_no_convolution_of_jax_is_left():
    """In the derivatives of any order of any function, and under vmap."""
    args = operands("grouped")
    f = functools.partial(every_function, jconv.lax)
    grad = jax.grad(f, (0, 1))
    second = jax.jacfwd(lambda *a: jax.tree.map(jnp.sum, grad(*a)), (0, 1))
    stacked = [jnp.stack([a, a]) for a in args]
    for program, inputs in [(f, args), (grad, args), (second, args), (jax.vmap(grad), stacked)]:
        found = primitives(program, *inputs)
        assert "conv" in found
        assert "conv_general_dilated" not in found
    assert "conv_general_dilated" in primitives(functools.partial(every_function, lax), *args)
    np.testing.assert_allclose(f(*args), every_function(lax, *args), rtol=1e-5)


@each_call
def test_shard_map(name):
    """With checks of what varies, the filter being the same everywhere."""
    x, w = operands(name)
    x = jnp.concatenate([x + i for i in range(8)])
    mesh = jax.make_mesh((8,), ("d",), axis_types=(AxisType.Auto,))

    def run(library):
        f = jax.shard_map(call(library, name), mesh=mesh, in_specs=(P("d"), P()), out_specs=P("d"))
        return jax.jit(jax.value_and_grad(lambda x, w: jnp.sin(f(x, w)).sum(), (0, 1)))(x, w)

    for a, e in zip(jax.tree.leaves(run(jconv.lax)), jax.tree.leaves(run(lax)), strict=True):
        np.testing.assert_allclose(a, e, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("numbers", [("NCHW", "OIHW", "NCHW"), ("NHWC", "HWIO", "HWNC")], ids=str)
def test_explicit_sharding(numbers):
    """Types as jax.lax's, for a sharded batch and for sharded features that the call asks for."""
    mesh = jax.make_mesh((4, 2), ("d", "m"), axis_types=(AxisType.Explicit,) * 2)
    batch, features = (numbers[2].index(letter) for letter in "NC")
    asked = [None] * 4
    asked[batch], asked[features] = "d", "m"
    shapes = {"N": 4, "C": 3, "H": 4, "W": 3, "I": 3, "O": 4}
    specs = [P(*({"N": "d", "O": "m"}.get(letter) for letter in spec)) for spec in numbers[:2]]
    x, w = (jnp.ones([shapes[letter] for letter in spec]) for spec in numbers[:2])

    def run(library, x, w, **options):
        def f(x, w):
            return library.conv_general_dilated(
                x, w, (1, 1), "SAME", dimension_numbers=numbers, **options
            )

        grads = jax.jit(jax.grad(lambda x, w: jnp.sin(f(x, w)).sum(), (0, 1)))(x, w)
        return jax.jit(f)(x, w), *grads

    with jax.set_mesh(mesh):
        x, split, whole = (
            jax.device_put(a, NamedSharding(mesh, spec))
            for a, spec in [(x, specs[0]), (w, specs[1]), (w, P())]
        )
        cases = [
            (whole, {}),
            (whole, {"out_sharding": P(*asked)}),
            (split, {"out_sharding": P(*asked)}),
        ]
        for w, options in cases:
            ours, theirs = (run(library, x, w, **options) for library in (jconv.lax, lax))
            for a, e in zip(ours, theirs, strict=True):
                assert jax.typeof(a) == jax.typeof(e)
                np.testing.assert_allclose(a, e, rtol=1e-5)
        with pytest.raises(Exception, match="out_sharding") as refusal:
            run(jconv.lax, x, split)
        with pytest.raises(refusal.type):
            run(lax, x, split)


@each_call
def test_export_with_a_symbolic_batch(name):
    x, w = operands(name)
    (n,) = jax.export.symbolic_shape("n")
    n = n * (2 if name == "batch_grouped" else 1)
    shapes = (
        jax.ShapeDtypeStruct((n, *x.shape[1:]), x.dtype),
        jax.ShapeDtypeStruct(w.shape, w.dtype),
    )
    grad = jax.grad(lambda x, w: jnp.sin(call(jconv.lax, name)(x, w)).sum(), (0, 1))
    exported = jax.export.export(jax.jit(grad))(*shapes)
    for a, e in zip(exported.call(x, w), grad(x, w), strict=True):
        np.testing.assert_allclose(a, e, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("padding", ["SAME", "VALID", ((1, 0), (0, 2))], ids=str)
def test_export_with_a_symbolic_image(padding):
    """Any number of rows; with "SAME" the gradients too, which jax.lax's own refuse."""

    def f(x, w):
        return jconv.lax.conv(x, w, (2, 1), padding)

    grad = jax.grad(lambda x, w: jnp.sin(f(x, w)).sum(), (0, 1))
    n, h = jax.export.symbolic_shape("n, h")
    x, w = jnp.ones((2, 3, 7, 4)), jnp.ones((5, 3, 3, 2))
    shapes = jax.ShapeDtypeStruct((n, 3, h, 4), x.dtype), jax.ShapeDtypeStruct(w.shape, w.dtype)
    for program in (f, grad) if padding == "SAME" else (f,):
        exported = jax.export.export(jax.jit(program))(*shapes)
        for a, e in zip(exported.call(x, w), program(x, w), strict=True):
            np.testing.assert_allclose(a, e, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "shape", [(0, 4, 4, 3), (2, 4, 0, 3), (2, 0, 4, 3)], ids=["examples", "rows", "channels"]
)
def test_nothing_to_convolve(shape):
    x, w = jnp.ones(shape), jnp.ones((4, shape[1], 2, 2))

    def run(library):
        y, vjp = jax.vjp(lambda *a: library.conv(*a, (1, 1), "SAME"), x, w)
        return y, *vjp(jnp.ones_like(y))

    for a, e in zip(run(jconv.lax), run(lax), strict=True):
        np.testing.assert_array_equal(a, e)
