"""Every transformation of JAX on every operation, against the same transformation of plain JAX.

All in float64, so the two differ by rounding alone. Several transformations share one compiled
program where a wrong one would still be told apart: results are compared leaf by leaf.

The operations with primitives and rules of their own run in every test; those that are composed of
them run in `test_in_short`, and in all the others with `-m slow`.
"""

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

import jconv
from jconv import losses
from tests import often
from tests.ops import (
    activations_losses_operations,
    conv_variant_operations,
    field_operations,
    lax_operations,
    norm_operations,
    operations,
    pool_operations,
    sampling_operations,
)
from tests.tolerance import epsilons

pytestmark = pytest.mark.usefixtures("x64")


# Further shapes of primitives that others in CORE have.
VARIANTS = (
    "conv_1d", "conv_3d", "depthwise", "dilated", "strided", "input_dilated",
    "conv_transpose_circular",
)  # fmt: skip
CORE = {name: op for name, op in operations.OPS.items() if name not in VARIANTS}
FAMILIES = {name: operations.OPS[name] for name in VARIANTS} | {
    name: op
    for family in (
        activations_losses_operations,
        conv_variant_operations,
        field_operations,
        lax_operations,
        norm_operations,
        pool_operations,
        sampling_operations,
    )
    for name, op in family.OPS.items()
}
OPS = CORE | FAMILIES


def each(names):
    return often.names(names, CORE)


@pytest.fixture
def op(name):
    return OPS[name]


each_op = pytest.mark.parametrize("name", each(OPS))


def same(program, op, *operands, tolerance=1e-10):
    """Runs `program(f, *operands)`, compiled, with both formulations and compares all results."""
    actual, expected = (jax.jit(functools.partial(program, f))(*operands) for f in (op.f, op.plain))
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert a.dtype == e.dtype
        size = np.abs(e).max(initial=1.0)
        np.testing.assert_allclose(a, e, rtol=tolerance, atol=tolerance * size)


def loss(f):
    """A scalar whose derivatives of all orders depend on every result."""
    return lambda *operands: sum(jnp.sum(jnp.sin(y)) for y in jax.tree.leaves(f(*operands)))


def grad(f, operands):
    return jax.grad(loss(f), tuple(range(len(operands))))


# The drop-ins are checked in tests/lax; the others take two seconds or more to compile, and are
# near relations of what is checked often, or differentiated in tests of their own.
SELDOM = {
    *lax_operations.OPS, *VARIANTS, "roi_align", "deform_conv", "stochastic_pool", "roi_pool",
    "stochastic_pool_mean", "softmax_focal", "conv_norm_bound", "stochastic_depth", "conv_matrix",
    "sigmoid_focal", "resize_cubic", "partial_conv", "softmax_cross_entropy", "layer_norm_masked",
    "instance_norm", "separable_conv", "fft_conv", "gaussian_dropout", "conv_singular_values",
    "conv_local", "drop_block", "blur_pool", "alpha_dropout", "depthwise_conv", "channel_dropout",
    "fractional_max_pool", "dcls_conv",
}  # fmt: skip


@pytest.mark.parametrize("name", often.names(FAMILIES, set(FAMILIES) - SELDOM))
def test_in_short(op):
    """Both modes, both orders, remat and vmap in one program."""
    operands = op.operands()
    tangents = tuple(jnp.cos(a) for a in operands)
    stacked = tuple(jnp.stack([a, jnp.tanh(a)]) for a in operands)

    def program(f, operands, tangents, stacked):
        g = grad(jax.checkpoint(f), operands)
        return {
            "jvp": jax.jvp(f, operands, tangents),
            "grad": g(*operands),
            "hvp": jax.jvp(grad(f, operands), operands, tangents)[1],
            "vmap": jax.vmap(f, in_axes=-1)(*(jnp.moveaxis(a, 0, -1) for a in stacked)),
            "vmap_of_grad": jax.vmap(g)(*stacked),
        }

    same(program, op, operands, tangents, stacked, tolerance=1e-9)


@each_op
def test_jit_and_eager(op):
    operands = op.operands()
    same(lambda f, *a: f(*a), op, *operands)
    for eager, compiled in zip(
        jax.tree.leaves(op.f(*operands)), jax.tree.leaves(jax.jit(op.f)(*operands)), strict=True
    ):
        np.testing.assert_allclose(eager, compiled, rtol=1e-12, atol=1e-12)


@each_op
def test_without_jit(op):
    """Operation by operation, as `jax.debug_nans` runs a function again to find the NaN."""
    operands = op.operands()
    expected = jax.tree.leaves(jax.jit(grad(op.plain, operands))(*operands))
    with jax.disable_jit():
        actual = jax.tree.leaves(grad(op.f, operands)(*operands))
    for a, e in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, e, rtol=1e-10, atol=1e-10)


@each_op
def test_first_derivatives(op):
    operands = op.operands()
    tangents = tuple(jnp.cos(a) for a in operands)

    def program(f, operands, tangents):
        y, vjp = jax.vjp(f, *operands)
        _, push = jax.linearize(f, *operands)
        numbers = tuple(range(len(operands)))
        return {
            "grad": grad(f, operands)(*operands),
            "jvp": jax.jvp(f, operands, tangents),
            "vjp": vjp(jax.tree.map(jnp.cos, y)),
            "linearize": push(*tangents),
            "jacfwd": jax.jacfwd(f, numbers)(*operands),
            "jacrev": jax.jacrev(f, numbers)(*operands),
        }

    same(program, op, operands, tangents)


@pytest.mark.parametrize("name", often.names(OPS, ("conv_2d", "max_pool", "batch_norm")))
def test_second_derivatives(op):
    operands = op.operands()
    tangents = tuple(jnp.cos(a) for a in operands)

    def program(f, operands, tangents):
        g = grad(f, operands)
        numbers = tuple(range(len(operands)))

        def slope(*operands):
            return jnp.vdot(jax.jvp(loss(f), operands, tangents)[1], 1.0)

        return {
            "grad_of_grad": jax.grad(loss(g), numbers)(*operands),
            "hvp_forward_over_reverse": jax.jvp(g, operands, tangents),
            "hvp_reverse_over_forward": jax.grad(slope, numbers)(*operands),
            "jvp_of_jvp": jax.jvp(slope, operands, tangents),
            "hessian": jax.hessian(loss(f), numbers)(*operands),
            "jacrev_of_jacfwd": jax.jacrev(jax.jacfwd(loss(f)))(*operands),
        }

    same(program, op, operands, tangents, tolerance=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", each(name for name in OPS if name not in norm_operations.CONSTANTS_INSIDE)
)
def test_numerical_derivatives_of_order_2(op):
    f = jax.jit(lambda *a: sum(jnp.sum(jnp.sin(y)) for y in jax.tree.leaves(op.f(*a))))
    operands = [a / 4 for a in op.operands()]
    check_grads(f, operands, order=2, modes=["fwd", "rev"], eps=1e-4, rtol=1e-5, atol=1e-6)


@each_op
def test_vmap(op):
    """Each operand mapped alone and all together, from the first or last axis, to either."""
    operands = op.operands()
    stacked = tuple(jnp.stack([a, jnp.tanh(a), a[::-1]]) for a in operands)
    last = tuple(jnp.moveaxis(a, 0, -1) for a in stacked)

    def program(f, operands, stacked, last):
        results, count = {}, len(operands)
        for i in range(count):
            axes = tuple(0 if j == i else None for j in range(count))
            mixed = [stacked[j] if j == i else operands[j] for j in range(count)]
            results["only", i] = jax.vmap(f, axes)(*mixed)
            results["grad_of_only", i] = jax.vmap(grad(f, operands), axes)(*mixed)
        results["all"] = jax.vmap(f)(*stacked)
        results["from_last_to_last"] = jax.vmap(f, in_axes=-1, out_axes=-1)(*last)
        results["grad_of_all"] = jax.vmap(grad(f, operands))(*stacked)
        results["grad_of_vmap"] = grad(jax.vmap(f), operands)(*stacked)
        results["negative_step"] = jax.vmap(f)(*(a[::-2] for a in stacked))
        return {str(key): value for key, value in results.items()}

    same(program, op, operands, stacked, last)


@each_op
def test_nested_vmap(op):
    operands = op.operands()
    stacked = tuple(jnp.stack([a, jnp.tanh(a)]) for a in operands)

    def program(f, operands, stacked):
        others = len(operands) - 1
        inner = jax.vmap(f, (None, *[0] * others)) if others else f
        outer = jax.vmap(inner, (0, *[None] * others))
        both = jax.vmap(jax.vmap(f))(*(jnp.stack([a, jnp.exp(a)]) for a in stacked))
        return both, outer(stacked[0], *stacked[1:]), grad(outer, operands)(*stacked)

    same(program, op, operands, stacked)


@each_op
def test_vmap_over_no_examples(op):
    none = [jnp.zeros((0, *a.shape), a.dtype) for a in op.operands()]
    y = jax.vmap(op.f)(*none)
    shapes = jax.eval_shape(op.plain, *op.operands())
    for a, e in zip(jax.tree.leaves(y), jax.tree.leaves(shapes), strict=True):
        assert (a.shape, a.dtype) == ((0, *e.shape), e.dtype)


@each_op
def test_control_flow_and_remat(op):
    operands = op.operands()
    stacked = tuple(jnp.stack([a, jnp.tanh(a)]) for a in operands)

    def program(f, operands, stacked):
        def scanned(*stacked):
            step = jax.checkpoint(loss(f))
            return lax.scan(lambda c, a: (c + step(*a), None), jnp.zeros(()), stacked)[0]

        def chosen(x, *others):
            positive = x.ravel()[0] > 0
            return lax.cond(positive, lambda x: loss(f)(x, *others), jnp.sum, x)

        def looped(x):
            def body(carry):
                i, x = carry
                return i + 1, x + loss(f)(x, *operands[1:])

            return lax.while_loop(lambda c: c[0] < 2, body, (jnp.zeros((), int), x))[1]

        numbers = tuple(range(len(operands)))
        return {
            "scan_of_remat": jax.grad(scanned, numbers)(*stacked),
            "cond": jax.grad(chosen, numbers)(*operands),
            "while": jax.jvp(looped, operands[:1], (jnp.cos(operands[0]),)),
            "grad_of_grad_of_remat": grad(grad(jax.checkpoint(f), operands), operands)(*operands),
            "vmap_of_cond": jax.vmap(chosen)(*stacked),
        }

    same(program, op, operands, stacked)


@pytest.mark.parametrize("name", each(name for name, op in OPS.items() if op.linear))
def test_linear_transpose(op):
    operands = op.operands()

    def program(f, *operands):
        results = []
        for i in op.linear:

            def only(x, i=i):
                return f(*operands[:i], x, *operands[i + 1 :])

            y = jax.eval_shape(only, operands[i])
            dy = jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape)
            back = jax.linear_transpose(only, operands[i])
            forth = jax.linear_transpose(lambda dy, back=back: back(dy)[0], dy)
            results += [back(dy), forth(operands[i])]
        return results

    same(program, op, *operands)


def mesh(kind=AxisType.Auto):
    return jax.make_mesh((8,), ("d",), axis_types=(kind,))


@pytest.mark.devices
@each_op
def test_shard_map(op):
    """With checks of what varies: gradients inside and outside, of what is sharded and what not."""
    operands = op.operands(examples=8)
    specs = (P("d"), *[P()] * (len(operands) - 1))
    over = functools.partial(jax.shard_map, mesh=mesh(), in_specs=specs)

    def program(f, *operands):
        inside = over(grad(f, operands), out_specs=specs)
        outside = over(f, out_specs=P("d"))
        second = over(grad(grad(f, operands), operands), out_specs=specs)
        tangents = tuple(jnp.cos(a) for a in operands)
        return {
            "inside": inside(*operands),
            "outside": grad(outside, operands)(*operands),
            "second": second(*operands),
            "jvp": jax.jvp(outside, operands, tangents),
            "vmap": jax.vmap(outside)(*(jnp.stack([a, jnp.tanh(a)]) for a in operands)),
        }

    same(program, op, *operands)


@pytest.mark.devices
@each_op
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=str)
def test_global_sharding(op, kind):
    """Global semantics: one device, eight devices, the same numbers, and no examples gathered."""
    operands, devices = op.operands(examples=8), mesh(kind)
    expected = [jax.jit(f)(*operands) for f in (op.plain, grad(op.plain, operands))]
    with jax.set_mesh(devices):
        specs = [P("d"), *[P()] * (len(operands) - 1)]
        split = [
            jax.device_put(a, NamedSharding(devices, spec))
            for a, spec in zip(operands, specs, strict=True)
        ]
        grad_x = jax.grad(loss(op.f))
        assert not any("all-gather(" in compiled(f, split) for f in (op.f, grad_x))
        actual = [jax.jit(f)(*split) for f in (op.f, grad(op.f, operands))]
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, e, rtol=1e-10, atol=1e-10 * np.abs(e).max(initial=1.0))
    if kind == AxisType.Explicit:
        assert [jax.typeof(g) for g in actual[1]] == [jax.typeof(a) for a in split]


def compiled(f, operands):
    return jax.jit(f).lower(*operands).compile().as_text()


@pytest.mark.devices
@each_op
def test_pmap(op):
    operands = op.operands(examples=16)
    x = operands[0].reshape(8, 2, *operands[0].shape[1:])

    def run(f):
        def step(x, *others):
            grads = grad(f, operands)(x, *others)
            return f(x, *others), grads[0], lax.psum(grads[1:], "d")

        return jax.pmap(step, "d", in_axes=(0, *[None] * (len(operands) - 1)))(x, *operands[1:])

    for a, e in zip(*(jax.tree.leaves(run(f)) for f in (op.f, op.plain)), strict=True):
        np.testing.assert_allclose(a, e, rtol=1e-10, atol=1e-10)


PER_EXAMPLE = {
    "pixel_shuffle": lambda x: jconv.pixel_shuffle(x, 2),
    "space_to_depth": lambda x: jconv.space_to_depth(x, 2),
    "max_unpool": lambda x: jconv.max_unpool(*jconv.max_pool(x, 2, return_indices=True), 2),
    "deform_conv": lambda x: jconv.deform_conv(
        x, jnp.tile(x, 3)[..., :18] / 9, jnp.ones((3, 3, 8, 2)), None, jnp.tile(x, 2)[..., :9]
    ),
    "grid_sample": lambda x: jconv.grid_sample(x, jnp.tanh(x[..., :2])),
    "softmax": lambda x: losses.softmax_cross_entropy(x, jnp.argmax(x, -1)),
}


@pytest.mark.devices
@pytest.mark.parametrize("name", PER_EXAMPLE)
def test_operands_of_each_example(name):
    """Several operands that are split alike over explicit axes, and their gradients."""
    f, devices = PER_EXAMPLE[name], mesh(AxisType.Explicit)
    x = jnp.sin(jnp.arange(8.0 * 4 * 4 * 8)).reshape(8, 4, 4, 8)

    def program(x):
        return f(x), jax.grad(loss(f))(x)

    with jax.set_mesh(devices):
        actual = jax.jit(program)(jax.device_put(x, NamedSharding(devices, P("d"))))
    for a, e in zip(actual, jax.jit(program)(x), strict=True):
        np.testing.assert_allclose(a, e, rtol=1e-10, atol=1e-10)


def test_export_of_positions_for_any_number_of_examples():
    """Their tangents, which hold nothing, have no shape that must be known."""
    (batch,) = jax.export.symbolic_shape("batch")
    shape = jax.ShapeDtypeStruct((batch, 4, 4, 8), jnp.float64)
    grad_x = jax.jit(jax.grad(loss(PER_EXAMPLE["max_unpool"])))
    x = jnp.sin(jnp.arange(2.0 * 4 * 4 * 8)).reshape(2, 4, 4, 8)
    np.testing.assert_allclose(jax.export.export(grad_x)(shape).call(x), grad_x(x), rtol=1e-12)


@each_op
def test_export(op):
    """Exported with its gradient for every platform, for one batch size and for any."""
    operands = op.operands(examples=3)

    def f(*operands):
        return op.f(*operands), jax.grad(loss(op.f))(*operands)

    expected = jax.tree.leaves(jax.jit(f)(*operands))
    export = jax.export.export(jax.jit(f), platforms=("cpu", "cuda", "tpu"))
    (batch,) = jax.export.symbolic_shape("batch")
    shapes = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in operands]
    shapes[0] = jax.ShapeDtypeStruct((batch, *operands[0].shape[1:]), operands[0].dtype)
    for exported in (export(*operands), export(*shapes)):
        for a, e in zip(jax.tree.leaves(exported.call(*operands)), expected, strict=True):
            np.testing.assert_allclose(a, e, rtol=1e-12, atol=1e-12)


@each_op
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_dtypes(op, dtype):
    """Results and gradients keep the dtype, and stay near the float64 ones."""
    operands = [a / 4 for a in op.operands(dtype)]

    def program(f, *operands):
        y, vjp = jax.vjp(f, *operands)
        ramp = jax.tree.map(lambda y: jnp.arange(y.size).astype(y.dtype) / y.size, y)
        return y, vjp(jax.tree.map(lambda dy, y: dy.reshape(y.shape), ramp, y))

    y, grads = jax.jit(functools.partial(program, op.f))(*operands)
    assert jax.tree.leaves(y)[0].dtype == dtype
    assert all(g.dtype == dtype for g in grads)
    wide = [a.astype(jnp.float64) for a in operands]
    expected = jax.tree.leaves(jax.jit(functools.partial(program, op.plain))(*wide))
    stored, _ = epsilons(operands[0].dtype)
    for a, e in zip(jax.tree.leaves((y, grads)), expected, strict=True):
        size = max(np.abs(e).max(initial=0.0), 0.1)
        np.testing.assert_allclose(np.asarray(a, np.float64), e, atol=8 * stored * size)


@each_op
@pytest.mark.parametrize("examples", [0, 1])
def test_number_of_examples(op, examples):
    operands = op.operands(examples=examples)
    if examples or op is not CORE["batch_norm"]:
        same(lambda f, *a: (f(*a), grad(f, a)(*a)), op, *operands)
    else:
        y, mean, variance = op.f(*operands)
        assert y.shape == operands[0].shape
        assert mean.shape == variance.shape == (2,)
