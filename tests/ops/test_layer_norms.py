"""Layer, instance, group and RMS norm against the definition, number by number."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from jconv import explain_choice
from jconv.ops.layer_norms import group_norm, instance_norm, layer_norm, rms_norm
from tests.oracles import norm as oracle
from tests.tolerance import assert_close

SHAPE = (2, 3, 2, 4)


def random(*shape, seed=0, dtype="float32"):
    """Numbers with a mean and a spread of their own in each channel."""
    numbers = np.random.default_rng(seed).normal(size=shape)
    c = np.arange(shape[-1])
    return jnp.asarray(numbers * (1 + c) + 3 * c - 2, dtype)


MASK = np.random.default_rng(1).random((2, 3, 2, 1)) < 0.6

# name: (the operation, its definition, the numbers behind each mean)
CASES = {
    "layer": (layer_norm, functools.partial(oracle.layer_norm, axes=(3,)), 4),
    "layer_of_images": (
        functools.partial(layer_norm, axes=(1, -1, 2)),
        functools.partial(oracle.layer_norm, axes=(1, 2, 3)), 24,
    ),
    "instance": (instance_norm, functools.partial(oracle.layer_norm, axes=(1, 2)), 6),
    "groups": (
        functools.partial(group_norm, groups=2), functools.partial(oracle.group_norm, groups=2), 12
    ),
    "groups_of_rows": (
        functools.partial(group_norm, groups=1, axes=[2]),
        functools.partial(oracle.layer_norm, axes=(2, 3)), 8,
    ),
    "rms": (rms_norm, functools.partial(oracle.layer_norm, axes=(3,), centre=False), 4),
    "rms_of_columns": (
        functools.partial(rms_norm, axes=1),
        functools.partial(oracle.layer_norm, axes=(1,), centre=False), 3,
    ),
}  # fmt: skip
each_case = pytest.mark.parametrize(("op", "definition", "terms"), CASES.values(), ids=CASES)


@each_case
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_matches_definition(op, definition, terms, dtype):
    x, scale = random(*SHAPE, dtype=dtype), random(4, seed=1, dtype=dtype)
    y = op(x, scale, epsilon=1e-3)
    assert y.dtype == dtype
    expected = definition(x, epsilon=1e-3) * np.asarray(scale, np.float64)
    assert_close(y, expected, terms=terms)


@each_case
def test_counts_what_the_mask_says(op, definition, terms):
    """NaN where nothing counts changes no other number."""
    if "axes" in op.keywords if isinstance(op, functools.partial) else op in (layer_norm, rms_norm):
        mask = np.broadcast_to(MASK | (np.indices(SHAPE).sum(0) % 4 == 0), SHAPE)
    else:
        mask = MASK
    x = random(*SHAPE)
    y = op(jnp.where(mask, x, jnp.nan), epsilon=1e-3, mask=mask)
    expected = definition(x, epsilon=1e-3, mask=mask)
    assert_close(jnp.where(mask, y, 0), np.where(mask, expected, 0), terms=terms)
    assert_close(op(x, epsilon=1e-3, mask=mask), expected, terms=terms)


def test_scale_and_bias():
    x = random(*SHAPE)
    plain = layer_norm(x, axes=(1, 2, 3))
    scale, bias = random(3, 2, 4, seed=1), random(2, 4, seed=2)
    assert_close(layer_norm(x, scale, bias, axes=(1, 2, 3)), plain * scale + bias, terms=24)
    assert_close(layer_norm(x, bias=bias, axes=(1, 2, 3)), plain + bias, terms=24)
    channel = random(4, seed=3)
    for op in (instance_norm, functools.partial(group_norm, groups=2)):
        assert_close(op(x, bias=channel), op(x) + channel, terms=24)


def test_group_norm_is_layer_and_instance_norm_at_its_ends():
    """Wu & He 2018, section 3.1."""
    x = random(*SHAPE)
    np.testing.assert_array_equal(group_norm(x, groups=1), layer_norm(x, axes=(1, 2, 3)))
    assert_close(group_norm(x, groups=4), instance_norm(x), terms=6)


@pytest.mark.parametrize("norm", ["layer", "group"])
def test_variance_survives_a_large_mean(norm):
    """As batch norm's: squares near 2**40 with 24 bits hold no digit of the variance."""
    x = jnp.asarray(np.random.default_rng(0).integers(0, 4, (2, 8, 16)), jnp.float32) + 2.0**20
    if norm == "layer":
        y, expected = layer_norm(x), oracle.layer_norm(x, (2,), epsilon=1e-5)
    else:
        y, expected = group_norm(x, groups=4), oracle.group_norm(x, 4, epsilon=1e-5)
    assert_close(y, expected, terms=32)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_statistics_of_low_precision_are_in_float32(dtype):
    """Squares of 300 exceed float16, and 4096 ones counted in bfloat16 end at 256."""
    x = jnp.tile(jnp.asarray([-300, 300, 300, 300], dtype), 1024)[None]
    sign = np.tile([-1.0, 1, 1, 1], 1024)[None]
    assert_close(layer_norm(x), (sign - 0.5) / np.sqrt(0.75), terms=1)
    assert_close(rms_norm(x), sign, terms=1)


def test_epsilon():
    x = jnp.asarray([[1.0, -1.0], [0.0, 0.0]])
    np.testing.assert_allclose(layer_norm(x, epsilon=3.0), [[0.5, -0.5], [0, 0]], rtol=1e-6)
    np.testing.assert_allclose(rms_norm(x, epsilon=8.0), x / 3, rtol=1e-6)
    assert_close(layer_norm(x), layer_norm(x, epsilon=1e-5), terms=1)
    assert_close(rms_norm(x), rms_norm(x, epsilon=1e-6), terms=1)


@pytest.mark.parametrize("op", [layer_norm, rms_norm])
def test_nothing_varies(op):
    """No variance: zeros and finite gradients with an epsilon, NaN without, as in PyTorch."""
    x = jnp.full((2, 3), 5.0 if op is layer_norm else 0.0)
    np.testing.assert_array_equal(op(x), jnp.zeros((2, 3)))
    assert jnp.isfinite(jax.grad(lambda x: jnp.sum(op(x) ** 3 + op(x)))(x)).all()
    assert jnp.isnan(op(x, epsilon=0)).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_special_values_stay_in_their_example(bad):
    x = random(2, 3, 4).at[0, 1, 2].set(bad)
    clean = layer_norm(random(2, 3, 4))
    for y in (layer_norm(x), group_norm(x, groups=1), rms_norm(x)):
        assert jnp.isnan(y[0, 1, 2])
        assert jnp.isfinite(y[1]).all()
    np.testing.assert_array_equal(layer_norm(x)[0, 0], clean[0, 0])


def test_jacobian_is_the_closed_form(x64):
    """rstd * (I - 11'/n - yy'/n), and without 11'/n for RMS norm."""
    x, n = random(5, dtype="float64"), 5
    for op, ones in ((layer_norm, 1), (rms_norm, 0)):
        y = op(x, epsilon=0.5)
        rstd = (jnp.mean((x - ones * x.mean()) ** 2) + 0.5) ** -0.5
        expected = rstd * (jnp.eye(n) - ones / n - jnp.outer(y, y) / n)
        for jacobian in (jax.jacfwd, jax.jacrev):
            np.testing.assert_allclose(
                jacobian(functools.partial(op, epsilon=0.5))(x), expected, atol=1e-14
            )


@pytest.mark.devices
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("op", [layer_norm, rms_norm])
def test_channels_spread_over_devices(op, masked, key):
    """Statistics of 16 channels on 8 devices, and their gradient: as on one."""
    split = jax.random.split(key)
    x, scale = (
        jax.random.normal(k, shape) for k, shape in zip(split, ((3, 16), (16,)), strict=True)
    )
    mask = jnp.asarray(np.random.default_rng(1).random((3, 16)) < 0.7)
    specs = (P(None, "d"), P("d"), P(None, "d"))

    def sharded(x, scale):
        def f(x, scale, mask):
            return op(x, scale, axis_name="d", mask=mask if masked else None)

        mesh = jax.make_mesh((8,), ("d",), axis_types=(AxisType.Auto,))
        return jax.shard_map(f, mesh=mesh, in_specs=specs, out_specs=specs[0])(x, scale, mask)

    def one(x, scale):
        return op(x, scale, mask=mask if masked else None)

    def run(f):
        def loss(*a):
            return jnp.sum(jnp.sin(f(*a)))

        return jax.jit(jax.value_and_grad(loss, (0, 1)))(x, scale)

    jax.tree.map(functools.partial(assert_close, terms=60), run(sharded), run(one))


@pytest.mark.parametrize("op", [layer_norm, functools.partial(group_norm, groups=2)])
def test_no_examples_and_axes_of_size_1(op):
    assert op(jnp.zeros((0, 3, 4))).shape == (0, 3, 4)
    one = jnp.full((1, 1, 2), 7.0)
    np.testing.assert_array_equal(op(one, jnp.ones(2), jnp.full(2, 3.0)), jnp.full((1, 1, 2), 3.0))


def test_takes_lists_and_numpy():
    np.testing.assert_allclose(layer_norm([[1.0, 3.0]], epsilon=0), [[-1, 1]])
    assert rms_norm(np.ones((2, 3), np.float32)).dtype == jnp.float32


def test_axes_in_arrays():
    x = random(2, 3, 4)
    np.testing.assert_array_equal(layer_norm(x, axes=np.array([1, 2])), layer_norm(x, axes=(1, 2)))
    np.testing.assert_array_equal(
        group_norm(x, groups=2, axes=np.array([1])), group_norm(x, groups=2, axes=(1,))
    )


def test_epsilon_of_numpy_and_jax():
    x = random(2, 3, 4)
    for epsilon in (np.float32(0.25), np.array(0.25), jnp.array(0.25)):
        np.testing.assert_array_equal(layer_norm(x, epsilon=epsilon), layer_norm(x, epsilon=0.25))


def test_the_named_implementation_ran():
    x = random(2, 3, 4)

    def explain(**options):
        f = jax.grad(lambda x: jnp.sum(group_norm(x, groups=2, **options)))
        return {c.op: c.implementation for c in explain_choice(f, x)}

    chosen = explain()
    assert chosen.keys() == {"standardize", "standardize_grad"}
    assert set(chosen.values()) <= {"onednn", "one_pass", "direct"}
    named = {"standardize": "direct", "standardize_grad": "direct"}
    assert explain(implementation="direct") == named
    assert explain(implementation="lax") == {}


X = jnp.zeros((2, 3, 4))


def layer_norm_of(epsilon):
    return layer_norm(X, epsilon=epsilon)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: layer_norm(X.astype(int)), r"layer_norm: x must be floating point; got x \("),
        (lambda: layer_norm(X, jnp.ones(3)), r"layer_norm: scale \(3,\) does not broadcast to"),
        (lambda: layer_norm(X, bias=jnp.ones((1, 2, 3, 4))), r"bias \(1, 2, 3, 4\) does not broad"),
        (lambda: layer_norm(X, axes=3), r"axes must be different axes of x, from -3 to 2; got"),
        (lambda: layer_norm(X, axes=(2, -1)), r"must be different axes of x, .* axes=\(2, -1\)"),
        (lambda: layer_norm(X, axes=-4), r"layer_norm: axes must be at least -3; got axes=-4"),
        (lambda: layer_norm(X, epsilon="a"), r"layer_norm: epsilon must be one real number; .*'a'"),
        (lambda: layer_norm(X, epsilon=jnp.ones(3)), r"epsilon must be one real number; .*Array"),
        (lambda: jax.jit(layer_norm_of)(0.1), r"epsilon must be one real number; got epsilon=.*Tr"),
        (lambda: layer_norm(X, axes="c"), r"layer_norm: axes must be an int; got 'c'"),
        (lambda: layer_norm(X, axes=()), r"axes must name one axis or more; got axes=\(\)"),
        (lambda: rms_norm(X, epsilon=-1), r"rms_norm: epsilon must not be negative; got eps"),
        (lambda: rms_norm(X, mask=X), r"rms_norm: mask must hold booleans .*; got mask \(2, 3"),
        (lambda: rms_norm(X, mask=X[:1, :2] > 0), r"to \(2, 3, 4\); got mask \(1, 2, 4\)"),
        (lambda: instance_norm(X[0]), r"x must be \(N, \*spatial, C\) with at least 3 axes"),
        (lambda: instance_norm(X, X), r"instance_norm: scale must be \(C,\) = \(4,\); got"),
        (lambda: group_norm(X, groups=3), r"C=4 channels don't divide into groups=3; got x"),
        (lambda: group_norm(X, groups=0), r"group_norm: groups must be at least 1; got groups=0"),
        (lambda: group_norm(X, groups=2, axes=-1), r"axes must not name the channels, .* axes=-1"),
        (lambda: group_norm(X[0, 0], groups=2), r"x must be \(N, \.\.\., C\) with at least 2 axes"),
        (lambda: layer_norm(X, implementation="x"), r"implementation must be None or one of"),
    ],
)  # fmt: skip
def test_says_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("op", [layer_norm, rms_norm, instance_norm])
def test_a_named_implementation_never_falls_back(op):
    message = r"norm: implementation 'lax' can't compute this call: .* axis_name=None, a mask$"
    with pytest.raises(NotImplementedError, match=message):
        op(X, mask=X > 0, implementation="lax")
