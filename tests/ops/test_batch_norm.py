"""jconv.batch_norm and its kin against the definition, two passes in float64."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P
from jax.test_util import check_grads

import jconv
from jconv.ops import running_average
from jconv.ops.layer_norms import instance_norm
from tests.oracles.norm import batch_norm as oracle
from tests.tolerance import assert_close

SHAPES = {"images": (3, 4, 5, 2), "rows": (7, 3), "volumes": (2, 3, 2, 2, 1), "one": (1, 1, 1, 2)}


def arrays(key, shape, dtype="float32"):
    """x with a mean and spread of its own in each channel, scale, and bias."""
    keys = jax.random.split(key, 3)
    c = jnp.arange(shape[-1], dtype=jnp.float32)
    x = jax.random.normal(keys[0], shape, jnp.float32) * (1 + c) + 3 * c - 2
    scale, bias = (jax.random.normal(k, shape[-1:], jnp.float32) for k in keys[1:])
    return tuple(a.astype(dtype) for a in (x, scale, bias))


def a_mask(shape):
    """About two thirds of the pixels."""
    return np.random.default_rng(0).random(shape) < 0.67


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_matches_definition(shape, dtype, key):
    x, scale, bias = arrays(key, shape, dtype)
    results = jconv.batch_norm(x, scale, bias, epsilon=1e-3)
    assert [r.dtype for r in results] == [dtype, jnp.float32, jnp.float32]
    for actual, expected in zip(results, oracle(x, scale, bias, epsilon=1e-3), strict=True):
        assert_close(actual, expected, terms=x[..., 0].size)


def test_without_scale_and_bias(key):
    x, scale, bias = arrays(key, SHAPES["images"])
    one, zero = np.ones(2), np.zeros(2)
    terms = x[..., 0].size
    assert_close(jconv.batch_norm(x)[0], oracle(x, one, zero)[0], terms=terms)
    assert_close(jconv.batch_norm(x, scale)[0], oracle(x, scale, zero)[0], terms=terms)
    assert_close(jconv.batch_norm(x, bias=bias)[0], oracle(x, one, bias)[0], terms=terms)


def test_variance_survives_a_large_mean():
    """E[x^2] - E[x]^2 would be wrong in every digit, squares near 2**40 with 24 bits, and at this
    mean even its own rounding, uncorrected, would cost 1 % of the variance.
    """
    x = jnp.asarray(np.random.default_rng(0).integers(0, 4, (64, 1)), jnp.float32) + 2.0**20
    y, _, variance = jconv.batch_norm(x)
    expected = oracle(x, np.ones(1), np.zeros(1))
    assert_close(variance, expected[2], terms=64)
    assert_close(y, expected[0], terms=64)


@pytest.mark.parametrize("mask_shape", [(3, 4, 5, 1), (3, 1, 1, 1), (3, 4, 5, 2), (5, 1)])
def test_mask(mask_shape, key):
    x, scale, bias = arrays(key, (3, 4, 5, 2))
    mask = a_mask(mask_shape)
    results = jconv.batch_norm(x, scale, bias, mask=jnp.asarray(mask))
    full = np.broadcast_to(mask, x.shape)
    for c in range(2):
        expected = oracle(x[..., c : c + 1], scale[c : c + 1], bias[c : c + 1], mask=full[..., c])
        assert_close(results[0][..., c : c + 1], expected[0], terms=60)
        assert_close(results[1][c : c + 1], expected[1], terms=60)
        assert_close(results[2][c : c + 1], expected[2], terms=60)


def test_masked_pixels_do_not_matter_and_have_the_plain_gradient(key):
    """Statistics, and gradients through them, are those of the counted examples alone."""
    x, scale, bias = arrays(key, (4, 3, 2))
    mask = jnp.asarray([True, True, False, True])[:, None, None]

    def loss(x, **options):
        y, mean, variance = jconv.batch_norm(x, scale, bias, **options)
        return jnp.sum(jnp.sin(y[jnp.array([0, 1, -1])])) + jnp.sum(mean * variance)

    counted = x[jnp.array([0, 1, 3])]
    value, grad = jax.value_and_grad(loss)(x, mask=mask)
    value_expected, grad_expected = jax.value_and_grad(loss)(counted)
    assert_close(value, value_expected, terms=30)
    assert_close(grad[jnp.array([0, 1, 3])], grad_expected, terms=30)
    np.testing.assert_array_equal(grad[2], np.zeros((3, 2)))


def test_nothing_counts():
    """A mask without a true pixel gives statistics of 0, and no NaN anywhere."""
    x = jnp.arange(12.0).reshape(3, 2, 2)
    f = functools.partial(jconv.batch_norm, mask=jnp.zeros((3, 2, 1), bool))
    y, mean, variance = f(x)
    np.testing.assert_array_equal(mean, np.zeros(2))
    np.testing.assert_array_equal(variance, np.zeros(2))
    assert np.isfinite(y).all()
    assert np.isfinite(jax.grad(lambda x: f(x)[0].sum())(x)).all()


@pytest.mark.parametrize("masked", [False, True])
def test_derivatives(masked, key, x64):
    """Through y, mean and variance, to second order, in x, scale and bias together."""
    x, scale, bias = arrays(key, (3, 2, 2), "float64")
    options = {"mask": jnp.asarray(a_mask((3, 2, 1)))} if masked else {}
    f = jax.jit(functools.partial(jconv.batch_norm, epsilon=0.1, **options))
    check_grads(f, (x, scale, bias), order=2, modes=["fwd", "rev"], rtol=1e-5, atol=1e-6)


def test_gradient_of_low_precision_is_computed_in_float32(key):
    x, scale, bias = arrays(key, (64, 3, 2), "bfloat16")

    def loss(x, scale, bias):
        return jnp.sum(jconv.batch_norm(x, scale, bias)[0].astype(jnp.float32) ** 3)

    grads = jax.grad(loss, (0, 1, 2))(x, scale, bias)
    wide = jax.grad(loss, (0, 1, 2))(*(a.astype(jnp.float32) for a in (x, scale, bias)))
    for actual, expected in zip(grads, wide, strict=True):
        assert actual.dtype == jnp.bfloat16
        # y is rounded to bfloat16, 1/256, and cubed in the loss; everything between is float32.
        size = np.abs(expected).max()
        np.testing.assert_allclose(actual.astype(np.float32), expected, atol=3 / 256 * size)


def test_masked_pixels_may_hold_anything(key):
    """NaN where nothing counts stays there: not in the statistics, nor in the other pixels."""
    x, scale, bias = arrays(key, (4, 3, 2))
    mask = jnp.asarray([True, True, False, True])[:, None, None]
    results = jconv.batch_norm(jnp.where(mask, x, jnp.nan), scale, bias, mask=mask)
    expected = jconv.batch_norm(x[jnp.array([0, 1, 3])], scale, bias)
    assert_close(results[0][jnp.array([0, 1, 3])], expected[0], terms=9)
    jax.tree.map(functools.partial(assert_close, terms=9), results[1:], expected[1:])


def test_correction(key):
    """PyTorch's running variance divides by n - 1; y does not depend on it."""
    x, scale, bias = arrays(key, SHAPES["images"])
    y, mean, variance = jconv.batch_norm(x, scale, bias, correction=1)
    plain = jconv.batch_norm(x, scale, bias)
    np.testing.assert_array_equal(y, plain[0])
    np.testing.assert_array_equal(mean, plain[1])
    assert_close(variance, np.var(np.asarray(x, np.float64), (0, 1, 2), ddof=1), terms=60)
    mask = jnp.arange(3)[:, None, None, None] < 2
    masked = jconv.batch_norm(x, mask=mask, correction=1)[2]
    assert_close(masked, np.var(np.asarray(x[:2], np.float64), (0, 1, 2), ddof=1), terms=40)
    one = jconv.batch_norm(x[:1, :1, 0], correction=1)
    np.testing.assert_array_equal(one[2], np.zeros(2))


def test_across_a_mapped_axis(key):
    """vmap's axes have names too."""
    x, scale, bias = arrays(key, (4, 3, 2))
    f = functools.partial(jconv.batch_norm, axis_name="d", correction=1)
    y, mean, variance = jax.vmap(f, (0, None, None), axis_name="d")(x, scale, bias)
    expected = jconv.batch_norm(x, scale, bias, correction=1)
    assert_close(y, expected[0], terms=12)
    assert_close(mean[2], expected[1], terms=12)
    assert_close(variance[3], expected[2], terms=12)


@pytest.mark.devices
def test_unequal_batches_under_pmap(key):
    """8 devices that count 0 to 3 of their 3 examples: all as for the counted ones in one batch."""
    x, scale, bias = arrays(key, (8, 3, 2, 2))
    counts = np.array([3, 0, 1, 2, 3, 3, 1, 2])
    mask = np.arange(3) < counts[:, None]

    def loss(y, mean, variance):
        return jnp.sum(jnp.sin(y)) + jnp.sum(mean * variance)

    def device(x, mask, scale, bias):
        mask = mask[:, None, None]

        def f(x, scale, bias):
            y, mean, variance = jconv.batch_norm(
                x, scale, bias, axis_name="d", mask=mask, correction=1
            )
            return loss(jnp.where(mask, y, 0), mean / 8, variance), (mean, variance)

        grads, statistics = jax.grad(f, (0, 1, 2), has_aux=True)(x, scale, bias)
        return grads[0], jax.lax.psum(grads[1:], "d"), statistics

    dx, grads, statistics = jax.pmap(device, "d", in_axes=(0, 0, None, None))(x, mask, scale, bias)

    def one(x, scale, bias):
        y, mean, variance = jconv.batch_norm(x, scale, bias, correction=1)
        return loss(y, mean, variance), (mean, variance)

    expected, one_statistics = jax.grad(one, (0, 1, 2), has_aux=True)(x[mask], scale, bias)
    assert_close(dx[mask], expected[0], terms=100)
    np.testing.assert_array_equal(dx[~mask], np.zeros((9, 2, 2)))
    for found, right in ((grads, expected[1:]), (statistics, one_statistics)):
        jax.tree.map(lambda a, e: assert_close(a[5], e, terms=100), found, right)


@pytest.mark.devices
@pytest.mark.parametrize("masked", [False, True])
def test_across_devices(masked, key):
    """Statistics over 8 shards, of unequal counts where masked, and their gradient: as on one."""
    x, scale, bias = arrays(key, (16, 3, 2))
    mask = jnp.asarray(a_mask((16, 3, 1)) if masked else np.ones((16, 3, 1), bool))
    mesh = jax.make_mesh((8,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
    sharded = jax.shard_map(
        functools.partial(jconv.batch_norm, axis_name="d"),
        mesh=mesh, in_specs=(P("d"), P(), P()), out_specs=(P("d"), P(), P()),
    ) if not masked else jax.shard_map(
        lambda x, scale, bias, mask: jconv.batch_norm(x, scale, bias, axis_name="d", mask=mask),
        mesh=mesh, in_specs=(P("d"), P(), P(), P("d")), out_specs=(P("d"), P(), P()),
    )  # fmt: skip
    extra = (mask,) if masked else ()

    def loss(f, x, scale, bias):
        y, mean, variance = f(x, scale, bias)
        return jnp.sum(jnp.sin(y)) + jnp.sum(mean**2 * variance), (y, mean, variance)

    def run(f):
        return jax.jit(jax.value_and_grad(functools.partial(loss, f), (0, 1, 2), has_aux=True))

    one = run(lambda *a: jconv.batch_norm(*a, mask=mask))(x, scale, bias)
    eight = run(lambda *a: sharded(*a, *extra))(x, scale, bias)
    jax.tree.map(functools.partial(assert_close, terms=200), eight, one)


def test_normalize_is_batch_norm_at_inference(key):
    x, scale, bias = arrays(key, SHAPES["images"])
    y, mean, variance = jconv.batch_norm(x, scale, bias, epsilon=1e-3)
    assert_close(jconv.normalize(x, mean, variance, scale, bias, epsilon=1e-3), y, terms=60)
    plain = jconv.batch_norm(x, epsilon=1e-3)[0]
    assert_close(jconv.normalize(x, mean, variance, epsilon=1e-3), plain, terms=60)
    low = jconv.normalize(x.astype(jnp.bfloat16), mean, variance, scale, bias)
    assert low.dtype == jnp.bfloat16


@pytest.mark.parametrize("options", [{}, {"mask": jnp.ones((4, 1, 1, 1), bool)}])
def test_activation(options, key):
    """The same with statistics of the batch, of what counts, and with given ones."""
    x, scale, bias = arrays(key, (4, 5, 5, 3))
    bias = bias + 3
    y, mean, variance = jconv.batch_norm(x, scale, bias)
    held, *statistics = jconv.batch_norm(x, scale, bias, activation="relu6", **options)
    assert_close(held, jnp.clip(y, 0, 6), terms=12)
    for a, e in zip(statistics, (mean, variance), strict=True):
        assert_close(a, e, terms=100)
    given = jconv.normalize(x, mean, variance, scale, bias, activation="relu")
    assert_close(given, jnp.maximum(y, 0), terms=60)


@pytest.mark.parametrize("norm", [jconv.batch_norm, instance_norm], ids=lambda f: f.__name__)
def test_equal_numbers_far_from_zero_with_a_mask(norm):
    """What the mean's rounding loses is put back, compiled or not."""
    x, scale, bias = jnp.full((16, 14, 14, 8), 1e4), jnp.full(8, 3.0), jnp.zeros(8)
    f = functools.partial(norm, mask=jnp.ones((16, 1, 1, 1), bool))
    for run in (f, jax.jit(f)):
        np.testing.assert_allclose(jax.tree.leaves(run(x, scale, bias))[0], 0, atol=1e-5)


@pytest.mark.parametrize("implementation", [None, "direct"])
def test_an_infinite_number_passes_a_relu(implementation):
    """As through `nn.relu` behind the norm."""
    x, c = jnp.arange(8.0).reshape(4, 2), jnp.ones(2)
    f = functools.partial(jconv.batch_norm, activation="relu", implementation=implementation)
    dbias = jax.grad(lambda b: jnp.sum(f(x, c, b)[0][:, 1]))(jnp.full(2, jnp.inf))
    np.testing.assert_array_equal(dbias, [0, 4])


def test_running_average():
    old, new = jnp.asarray([1.0, 2.0]), jnp.asarray([3.0, 6.0], jnp.bfloat16)
    result = running_average(old, new, 0.75)
    np.testing.assert_array_equal(result, [1.5, 3.0])
    assert result.dtype == old.dtype
    grad = jax.grad(lambda new: running_average(old, new, 0.75).sum())(new)
    np.testing.assert_array_equal(grad, [0, 0])


def test_the_named_implementation_ran(key):
    x, scale, bias = arrays(key, SHAPES["rows"])

    def explain(**options):
        def f(x):
            return jconv.batch_norm(x, scale, bias, **options)[0].sum()

        return {c.op: c.implementation for c in jconv.explain_choice(jax.grad(f), x)}

    chosen = explain()
    assert chosen.keys() == {"standardize", "standardize_grad"}
    assert set(chosen.values()) <= {"onednn", "one_pass", "direct"}
    named = {"standardize": "direct", "standardize_grad": "direct"}
    assert explain(implementation="direct") == named
    assert explain(implementation="lax") == {}


X, C = jnp.zeros((4, 3, 2)), jnp.ones(2)


def test_a_correction_beyond_every_count(key):
    """The divisor is 1, however large the correction."""
    x = jax.random.normal(key, (4, 3, 2))
    expected = jconv.batch_norm(x, correction=12)[2]
    for correction in (2**40, 10**400):
        found = jconv.batch_norm(x, correction=correction)[2]
        np.testing.assert_array_equal(found, expected)
        found = jconv.batch_norm(x, correction=correction, mask=jnp.ones((4, 3, 1), bool))[2]
        np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((jnp.zeros(3), C, C), {}, r"x must be \(N, \.\.\., C\) with at least 2 axes; got x"),
        ((X.astype(int), C, C), {}, r"x must be floating point; got x \(4, 3, 2\) of int32"),
        (
            (X, jnp.ones(3), C),
            {},
            r"scale must be \(C,\) = \(2,\); got scale \(3,\), x \(4, 3, 2\)",
        ),
        ((X, C, jnp.ones((1, 2))), {}, r"bias must be \(C,\) = \(2,\); got bias \(1, 2\)"),
        ((X, C, C), {"epsilon": -1.0}, r"epsilon must not be negative; got epsilon=-1.0"),
        ((X, C, C), {"epsilon": float("nan")}, r"epsilon must not be negative; got epsilon=nan"),
        ((X, C, C), {"epsilon": "a"}, r"epsilon must be one real number; got epsilon='a'"),
        (
            (X, C, C),
            {"mask": jnp.ones((4, 1, 1))},
            r"mask must hold booleans .* \(4, 1, 1\)",
        ),
        (
            (X, C, C),
            {"mask": jnp.ones((4, 2), bool)},
            r"mask must hold booleans .* \(4, 2\) of bool",
        ),
        ((X, C, C), {"correction": -1}, r"correction must be at least 0; got correction=-1"),
        (
            (X, C, C),
            {"activation": "gelu"},
            r"activation must be 'relu', 'relu6' or None; got activation='gelu'",
        ),
        ((X, C, C), {"activation": jax.nn.relu}, r"activation must be 'relu', 'relu6' or None"),
        ((X, C, C), {"implementation": "x"}, r"implementation must be None or one of"),
    ],
)
def test_says_what_is_wrong(arguments, options, message):
    with pytest.raises(ValueError, match=r"^(batch_norm|standardize): " + message):
        jconv.batch_norm(*arguments, **options)


def test_a_named_implementation_never_falls_back():
    message = r"'lax' can't compute this call: neither axis_name nor mask; .*, a mask$"
    with pytest.raises(NotImplementedError, match=message):
        jconv.batch_norm(X, C, C, mask=jnp.ones((4, 1, 1), bool), implementation="lax")
