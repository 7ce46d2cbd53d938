"""jconv.losses against the definition, and where plain formulas fail: logits that are huge or
minus infinity, positions that don't count, second derivatives.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jconv import losses
from tests.oracles import losses as oracle
from tests.tolerance import assert_close

C = 4
SHAPE = (3, 2, 5)
INF = jnp.inf


def drawn(dtype="float32"):
    """Logits (3, 2, 5, 4), integer labels, probabilities, binary labels, a mask (2, 5)."""
    rng = np.random.default_rng(0)
    probabilities = rng.random((*SHAPE, C))
    return (
        jnp.asarray(3 * rng.normal(size=(*SHAPE, C)), dtype),
        rng.integers(0, C, SHAPE).astype(np.int32),
        jnp.asarray(probabilities / probabilities.sum(-1, keepdims=True), dtype),
        jnp.asarray(rng.integers(0, 2, (*SHAPE, C)), dtype),
        rng.random(SHAPE[1:]) < 0.7,
    )


WEIGHT = np.asarray([0.5, 2.0, 1.0, 0.25], np.float32)
OPTIONS = {
    "plain": {},
    "smoothing": {"label_smoothing": 0.1},
    "weight": {"weight": WEIGHT},
    "both": {"weight": WEIGHT, "label_smoothing": 0.3},
    "ignore": {"weight": WEIGHT, "ignore_index": 2},
    "mask": {"mask": drawn()[-1], "label_smoothing": 0.1},
    "mask_and_ignore": {"mask": drawn()[-1], "ignore_index": 0, "weight": WEIGHT},
}


def all_reductions(f, *arrays, **options):
    return [f(*arrays, reduction=name, **options) for name in ("none", "sum", "mean")]


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("labels", ["integers", "probabilities"])
@pytest.mark.parametrize("f", [losses.softmax_cross_entropy, losses.softmax_focal])
def test_classes_match_definition(f, options, labels):
    focal = f is losses.softmax_focal
    x, integers, probabilities, *_ = drawn()
    target = integers if labels == "integers" else probabilities
    without = {"label_smoothing"} if focal else set()
    without |= {"ignore_index"} if labels == "probabilities" else set()
    options = {name: value for name, value in options.items() if name not in without}
    expected, total = oracle.classification(x, target, gamma=2.0 * focal, **options)
    none, total_loss, mean = all_reductions(f, x, target, **options)
    assert_close(none, expected, terms=8 * C)
    assert_close(total_loss, expected.sum(), terms=8 * C + expected.size)
    assert_close(mean, expected.sum() / total, terms=8 * C + expected.size)


@pytest.mark.parametrize(
    "options", [{}, {"alpha": None, "gamma": 0.5}, {"positive_weight": WEIGHT}]
)
@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
def test_binary_matches_definition(options, soft):
    x, _, probabilities, binary, mask = drawn()
    target = probabilities if soft else binary
    cross = "positive_weight" in options
    f = losses.sigmoid_cross_entropy if cross else losses.sigmoid_focal
    defaults = {} if cross else {"alpha": 0.25, "gamma": 2.0}
    expected = oracle.binary(x, target, **{**defaults, **options})
    none, total, mean = all_reductions(f, x, target, **options)
    assert_close(none, expected, terms=16)
    assert_close(total, expected.sum(), terms=16 + x.size)
    assert_close(mean, expected.mean(), terms=16 + x.size)
    counted = np.broadcast_to(mask[..., None], x.shape)
    masked = f(x, target, mask=mask[..., None], **options)
    assert_close(masked, expected[counted].mean(), terms=16 + x.size)


@pytest.mark.parametrize(
    ("squared", "over_batch", "masked"),
    [(True, False, False), (False, True, False), (True, True, True)],
)
def test_dice_matches_definition(squared, over_batch, masked):
    _, integers, p, binary, mask = drawn()
    options = {"smooth": 0.1, "squared": squared, "over_batch": over_batch}
    options |= {"mask": mask} if masked else {}
    for labels, g in ((binary, binary), (integers, np.eye(C)[integers])):
        expected = oracle.dice(p, g, **options)
        none, total, mean = all_reductions(losses.dice, p, labels, **options)
        assert_close(none, expected, terms=30)
        assert_close(total, expected.sum(), terms=30 + expected.size)
        assert_close(mean, expected.mean(), terms=30 + expected.size)


def test_dice_of_what_is_perfect_and_what_is_not_there():
    g = jnp.asarray([[[1.0, 0.0], [1.0, 0.0], [0.0, 0.0]]])
    np.testing.assert_allclose(losses.dice(g, g, reduction="none"), [[0, 0]], atol=1e-6)
    np.testing.assert_allclose(losses.dice(1 - g, g, smooth=0.0, reduction="none"), [[1, 1]])


def test_regression_matches_definition():
    x, y, *_ = drawn()[0], 3 * drawn()[2]
    d = np.asarray(x, np.float64) - np.asarray(y, np.float64)
    mask = np.arange(C) < 3
    cases = {
        losses.mse: d**2,
        losses.mae: abs(d),
        functools.partial(losses.huber, delta=0.7): oracle.huber(x, y, 0.7),
    }
    for f, expected in cases.items():
        none, total, mean = all_reductions(f, x, y)
        assert_close(none, expected, terms=2)
        assert_close(total, expected.sum(), terms=x.size)
        assert_close(mean, expected.mean(), terms=x.size)
        assert_close(f(x, y, mask=mask), expected[..., :3].mean(), terms=x.size)


def every(x, integers, probabilities, binary, mask):
    """Each loss as a function of x and of options, with labels that suit it."""
    return {
        "softmax_cross_entropy": (losses.softmax_cross_entropy, x, integers, mask),
        "softmax_probabilities": (losses.softmax_cross_entropy, x, probabilities, mask),
        "softmax_focal": (losses.softmax_focal, x, integers, mask),
        "sigmoid_cross_entropy": (losses.sigmoid_cross_entropy, x, binary, mask[..., None]),
        "sigmoid_focal": (losses.sigmoid_focal, x, binary, mask[..., None]),
        "dice": (losses.dice, probabilities, binary, mask),
        "mse": (losses.mse, x, probabilities, mask[..., None]),
        "mae": (losses.mae, x, probabilities, mask[..., None]),
        "huber": (losses.huber, x, probabilities, mask[..., None]),
    }


EVERY = every(*drawn())
each = pytest.mark.parametrize(("f", "x", "labels", "mask"), EVERY.values(), ids=EVERY)


@each
def test_what_does_not_count_reaches_nothing(f, x, labels, mask):
    """Neither its value nor its gradient, though it be NaN; counted numbers are as without it."""
    full = np.broadcast_to(mask, x.shape[:-1] if mask.ndim == 2 else x.shape)
    bad = jnp.where(full if full.ndim == x.ndim else full[..., None], x, jnp.nan)
    both = jax.jit(jax.value_and_grad(lambda x: f(x, labels, mask=mask)))
    (value, grad), (expected, _) = both(bad), both(x)
    assert value == expected
    assert np.isfinite(grad).all()
    assert (np.asarray(grad)[~full] == 0).all()
    assert (np.asarray(grad)[full] != 0).any()


@each
def test_low_precision_is_computed_in_float32(f, x, labels, mask):
    dtype = "bfloat16" if f in (losses.softmax_cross_entropy, losses.mse) else "float16"
    low = x.astype(dtype)
    both = jax.jit(jax.value_and_grad(lambda x: f(x, labels)))
    value, grad = both(low)
    expected, wide = both(low.astype(jnp.float32))
    assert (value.dtype, grad.dtype) == (jnp.float32, dtype)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_array_equal(grad, wide.astype(dtype))


@pytest.mark.slow
def test_second_derivatives(x64):
    """For a gamma that is no integer, with weights."""
    x, integers = (np.asarray(a)[0, :1, :2] for a in drawn("float64")[:2])
    options = {"labels": integers, "gamma": 1.5, "weight": WEIGHT.astype(np.float64)}
    f = jax.jit(functools.partial(losses.softmax_focal, **options))
    check_grads(f, (x,), 2, ["fwd", "rev"], eps=1e-4, rtol=1e-5, atol=1e-6)


HUGE = {
    "first": ([1e4, -1e4, 0.0], 0, 0.0, [0, 0, 0]),
    "last": ([1e4, -1e4, 0.0], 1, 2e4, [1, -1, 0]),
    "float32_max": ([3e38, -3e38, 0.0], 0, 0.0, [0, 0, 0]),
    "impossible": ([0.0, -INF, 0.0], 0, np.log(2), [-0.5, 0, 0.5]),
    "impossible_label": ([0.0, -INF, 0.0], 1, INF, [0.5, -1, 0.5]),
    "only_one": ([-INF, 5.0, -INF], 1, 0.0, [0, 0, 0]),
}


@pytest.mark.parametrize(("x", "label", "loss", "grad"), HUGE.values(), ids=HUGE)
def test_huge_logits_of_classes(x, label, loss, grad):
    x, label = jnp.asarray(x), jnp.asarray(label)

    def both(f, target):
        return jax.value_and_grad(lambda x: f(x, target))(x)

    for target in (label, jnp.asarray(np.eye(3, dtype=np.float32)[label])):
        value, slope = both(losses.softmax_cross_entropy, target)
        np.testing.assert_allclose(value, loss, rtol=1e-6)
        np.testing.assert_allclose(slope, grad, atol=1e-6)
    for gamma in (0.0, 0.5, 2.0):
        value, slope = both(functools.partial(losses.softmax_focal, gamma=gamma), label)
        right = np.exp(-loss)
        np.testing.assert_allclose(value, loss and loss * (1 - right) ** gamma, rtol=1e-6)
        assert np.isfinite(slope).all() or loss == INF
        hessian = jax.hessian(functools.partial(losses.softmax_focal, labels=label, gamma=gamma))(x)
        assert np.isfinite(hessian).all() or loss == INF


def test_huge_logits_of_one_class():
    x = jnp.asarray([1e4, 1e4, -1e4, -1e4, 0.0, INF, -INF, INF])
    t = jnp.asarray([1.0, 0.0, 1.0, 0.0, 1.0, 1.0, 0.0, 0.0])
    loss = [0, 1e4, 1e4, 0, np.log(2), 0, 0, INF]

    def derivatives(f):
        total = lambda x: f(x, t, reduction="sum")  # noqa: E731
        hessian = jax.jvp(jax.grad(total), (x,), (jnp.ones_like(x),))[1]
        return f(x, t, reduction="none"), jax.grad(total)(x), hessian

    value, grad, hessian = jax.jit(lambda: derivatives(losses.sigmoid_cross_entropy))()
    np.testing.assert_allclose(value, loss, rtol=1e-6)
    np.testing.assert_allclose(grad, [0, 1, -1, 0, -0.5, 0, 0, 1])
    np.testing.assert_allclose(hessian, [0, 0, 0, 0, 0.25, 0, 0, 0])
    for gamma in (0.5, 1.5):
        f = functools.partial(losses.sigmoid_focal, gamma=gamma, alpha=None)
        value, grad, hessian = jax.jit(lambda f=f: derivatives(f))()
        np.testing.assert_allclose(value, [*loss[:4], np.log(2) / 2**gamma, *loss[5:]], rtol=1e-6)
        assert np.isfinite(grad[:-1]).all()
        assert np.isfinite(hessian[:-1]).all()


def test_focal_loss_is_cross_entropy_at_gamma_0():
    x, integers, *_, mask = drawn()
    options = {"weight": WEIGHT, "ignore_index": 1, "mask": mask}
    for reduction in ("none", "sum", "mean"):
        np.testing.assert_allclose(
            losses.softmax_focal(x, integers, gamma=0.0, reduction=reduction, **options),
            losses.softmax_cross_entropy(x, integers, reduction=reduction, **options), rtol=1e-6,
        )  # fmt: skip


def test_focal_loss_does_not_cancel():
    """1 - p_t of 1e-9 is lost in float32 where it is computed as a difference."""
    off = np.exp(-21.0) / (1 + np.exp(-21.0))
    loss = losses.sigmoid_focal(jnp.asarray(21.0), jnp.asarray(1.0), gamma=0.5, alpha=None)
    np.testing.assert_allclose(loss, -np.sqrt(off) * np.log1p(-off), rtol=1e-4)


def test_an_integer_that_is_no_class_is_nan():
    x = jnp.zeros((4, 3))
    labels = jnp.asarray([0, 3, -1, 255])
    for f in (losses.softmax_cross_entropy, losses.softmax_focal):
        found = f(x, labels, ignore_index=255, reduction="none")
        np.testing.assert_array_equal(np.isnan(found), [False, True, True, False])
        assert np.isnan(f(x, labels))
        grad = jax.grad(lambda x, f=f: f(x, labels, ignore_index=255))(x)
        np.testing.assert_array_equal(np.isnan(grad).all(1), [False, True, True, False])


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.uint32])
def test_small_labels(dtype):
    """An ignore_index that the dtype of the labels can't hold, and one that it can."""
    x, labels = drawn()[0], drawn()[1].astype(dtype)
    expected = losses.softmax_cross_entropy(x, drawn()[1])
    found = losses.softmax_cross_entropy(x, labels, ignore_index=-100)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert losses.softmax_cross_entropy(x, labels, ignore_index=3) != expected


def test_sums_of_float16_do_not_overflow():
    x = jnp.full((1000, 1), 300, jnp.float16)
    np.testing.assert_allclose(losses.mse(x, jnp.zeros_like(x)), 90000, rtol=1e-6)
    np.testing.assert_allclose(losses.mse(x, jnp.zeros_like(x), reduction="sum"), 9e7, rtol=1e-6)


@each
def test_nothing_counts(f, x, labels, mask):
    if f is losses.dice:
        assert f(x, labels, mask=mask & False) == 0
        return
    assert np.isnan(f(x, labels, mask=mask & False))
    assert f(x, labels, mask=mask & False, reduction="sum") == 0
    assert f(x[:0], labels[:0], reduction="none").shape[0] == 0
    assert f(x[:0], labels[:0], reduction="sum") == 0
    assert np.isnan(f(x[:0], labels[:0]))


def test_one_class_and_one_pixel():
    one = jnp.zeros((1, 1, 1))
    for f in (losses.softmax_cross_entropy, losses.softmax_focal):
        value, grad = jax.value_and_grad(f)(one, jnp.zeros((1, 1), int))
        assert value == 0
        assert grad == 0
    for f in (losses.mse, losses.mae, losses.huber, losses.dice):
        assert f(one, one) == 0


def test_lists_are_arrays():
    np.testing.assert_allclose(losses.softmax_cross_entropy([[0.0, 0.0]], [1]), np.log(2))
    np.testing.assert_allclose(losses.mse([1.0, 2.0], [3.0, 2.0]), 2)


def test_the_slope_of_an_absolute_value_at_zero():
    slope = jax.grad(lambda x: losses.mae(x, jnp.asarray(0.0)))
    assert [slope(x) for x in (0.0, -0.0, 2.0, -INF)] == [0, 0, 1, -1]


def test_huber_at_zero_and_far_away():
    f = lambda x: losses.huber(x, jnp.asarray(0.0))  # noqa: E731
    for x, expected in {0.0: (0, 1), 1.0: (1, 1), -3.0: (-1, 0), INF: (1, 0)}.items():
        slope, curvature = jax.jvp(jax.grad(f), (jnp.asarray(x),), (jnp.asarray(1.0),))
        assert (slope, curvature) == expected
        assert jax.jvp(f, (jnp.asarray(x),), (jnp.asarray(1.0),))[1] == expected[0]


Z, N = jnp.zeros((2, 3)), jnp.zeros(2, int)
MESSAGES = [
    (Z, N, {"reduction": "avg"}, "reduction must be .*; got reduction='avg'"),
    (N, N, {}, r"logits must be floating point; got logits \(2,\) of int32"),
    (jnp.zeros(()), N, {}, r"the last axis of logits must be classes; got logits \(\)"),
    (jnp.zeros((2, 0)), N, {}, r"the last axis of logits must be classes; got logits \(2, 0\)"),
    (Z, N == 0, {}, "labels must be integers, or probabilities in floating point; got .* of bool"),
    (Z, Z.astype(int), {}, r"integer labels must have .*, without its last axis; got .*\(2, 3\)"),
    (Z, Z[0], {}, r"floating-point labels must have the shape of logits; got labels \(3,\)"),
    (Z, Z, {"ignore_index": 0}, "ignore_index is for integer labels; got labels of float32"),
    (Z, N, {"weight": Z[:, 0]}, r"weight must be one number for each of C=3 classes; .* \(2,\)"),
    (Z, N, {"weight": N}, r"weight must be floating point; got weight \(2,\) of int32"),
    (Z, N, {"mask": Z == 0}, r"mask must .* that broadcast to \(2,\); got mask \(2, 3\)"),
    (Z, N, {"mask": Z[:, 0]}, r"mask must hold booleans .*; got mask \(2,\) of float32"),
]  # fmt: skip


@pytest.mark.parametrize(("x", "labels", "options", "message"), MESSAGES)
@pytest.mark.parametrize("name", ["softmax_cross_entropy", "softmax_focal"])
def test_says_what_is_wrong(name, x, labels, options, message):
    with pytest.raises(ValueError, match=f"^{name}: {message}"):
        getattr(losses, name)(x, labels, **options)


@pytest.mark.parametrize(
    ("name", "arguments", "options", "message"),
    [
        ("softmax_cross_entropy", (Z, N), {"label_smoothing": 1.5}, "label_smoothing must .*=1.5"),
        (
            "sigmoid_cross_entropy",
            (Z, N),
            {},
            r"logits and labels must .*; got logits \(2, 3\), labels",
        ),
        (
            "sigmoid_cross_entropy",
            (Z, Z),
            {"positive_weight": Z[:, 0]},
            r"positive_weight must bro",
        ),
        ("sigmoid_cross_entropy", (Z, Z), {"reduction": ""}, "reduction must be"),
        ("sigmoid_focal", (Z, Z), {"alpha": 2}, "alpha must be from 0 to 1, or None; got alpha=2"),
        ("sigmoid_focal", (Z, Z), {"reduction": None}, "reduction must be .*got reduction=None"),
        ("mse", (Z, Z[:1]), {}, r"x and target must have one shape; got x \(2, 3\), target \(1, 3"),
        ("mse", (Z, Z + 1j), {}, "target must hold real numbers; got target of complex64"),
        ("mse", (Z.astype(int), Z), {}, r"x must be floating point; got x \(2, 3\) of int32"),
        ("mae", (Z, Z), {"mask": N == 0}, r"mask must hold booleans that broadcast to \(2, 3\)"),
        ("huber", (Z, Z), {"delta": 0.0}, "delta must be positive; got delta=0.0"),
        ("huber", (Z, Z), {"reduction": "MEAN"}, "reduction must be"),
        (
            "dice",
            (Z, N),
            {},
            r"probabilities must be \(N, \*spatial, C\) .*got probabilities \(2, 3",
        ),
        ("dice", (Z, N), {"reduction": "x"}, "reduction must be"),
    ],
)
def test_says_what_else_is_wrong(name, arguments, options, message):
    with pytest.raises(ValueError, match=f"^{name}: {message}"):
        getattr(losses, name)(*arguments, **options)
