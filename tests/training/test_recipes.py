"""jconv.training.recipes: the updates written out in float64, the schedule, every message."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jconv.training import Recipe, adamw, cross_entropy, decay_mask, sgd, warmup_cosine
from tests.training.small import Small

RATE, DECAY, MOMENTUM = 0.1, 0.05, 0.9
GRADS = [np.array([[0.3, -0.2]]), np.array([[-0.1, 0.4]]), np.array([[0.2, 0.2]])]


def run(tx, name="kernel"):
    """The parameter after three updates with GRADS, starting from (1, -2)."""
    params = {name: jnp.array([[1.0, -2.0]])}
    state = tx.init(params)
    for grad in GRADS:
        updates, state = tx.update({name: jnp.asarray(grad, jnp.float32)}, state, params)
        params = optax.apply_updates(params, updates)
    return np.asarray(params[name])


@pytest.mark.parametrize("nesterov", [True, False])
def test_sgd_decays_through_the_momentum(nesterov):
    w, v = np.array([[1.0, -2.0]]), 0.0
    for grad in GRADS:
        g = grad + DECAY * w
        v = MOMENTUM * v + g
        w = w - RATE * (g + MOMENTUM * v if nesterov else v)
    tx = sgd(RATE, momentum=MOMENTUM, nesterov=nesterov, weight_decay=DECAY)
    np.testing.assert_allclose(run(tx), w, rtol=1e-6)


def test_adamw_decays_beside_the_moments():
    w, m, s = np.array([[1.0, -2.0]]), 0.0, 0.0
    for t, grad in enumerate(GRADS, start=1):
        m, s = 0.9 * m + 0.1 * grad, 0.999 * s + 0.001 * grad**2
        step = (m / (1 - 0.9**t)) / (np.sqrt(s / (1 - 0.999**t)) + 1e-8)
        w = w - RATE * (step + DECAY * w)
    np.testing.assert_allclose(run(adamw(RATE, weight_decay=DECAY)), w, rtol=1e-5)


def test_clipping_comes_before_the_decay():
    w = np.array([[1.0, -2.0]])
    for grad in GRADS:
        grad = grad * min(1, 0.1 / np.linalg.norm(grad))
        w = w - RATE * (grad + DECAY * w)
    tx = sgd(RATE, momentum=0.0, nesterov=False, weight_decay=DECAY, clip_norm=0.1)
    np.testing.assert_allclose(run(tx), w, rtol=1e-6)


@pytest.mark.parametrize("make", [sgd, adamw])
def test_biases_do_not_decay(make):
    np.testing.assert_array_equal(
        run(make(RATE, weight_decay=DECAY), "bias"), run(make(RATE, weight_decay=0.0), "bias")
    )


def test_mask_spares_norms_and_biases():
    params = nnx.state(Small(rngs=nnx.Rngs(0)), nnx.Param)
    mask = decay_mask(params)
    assert jax.tree.structure(mask) == jax.tree.structure(params)
    named = {
        jax.tree_util.keystr(path, simple=True, separator="."): decays
        for path, decays in jax.tree_util.tree_leaves_with_path(mask)
    }
    assert named == {
        "conv.bias.value": False, "conv.kernel.value": True, "head.bias.value": False,
        "head.kernel.value": True, "norm.bias.value": False, "norm.scale.value": False,
    }  # fmt: skip
    # A bias per pixel has three axes and is a bias all the same.
    assert decay_mask({"bias": jnp.ones((4, 4, 2)), "gain": jnp.ones(3)}) == {
        "bias": False,
        "gain": False,
    }


def test_schedule_rises_from_above_zero_and_ends_at_the_end():
    schedule = warmup_cosine(0.8, 24, warmup_steps=3, end=0.1)
    rates = np.array([schedule(t) for t in range(25)])
    np.testing.assert_allclose(rates[:4], [0.2, 0.4, 0.6, 0.8], rtol=1e-6)
    cosine = 0.1 + 0.7 * (1 + np.cos(np.pi * np.arange(22) / 21)) / 2
    np.testing.assert_allclose(rates[3:], cosine, rtol=1e-5)


def test_a_schedule_without_warm_up_starts_at_the_peak():
    assert warmup_cosine(0.8, 10)(0) == pytest.approx(0.8)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_label_smoothing_is_cross_entropy_with_the_smoothed_target(smoothing):
    logits = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    labels = np.array([0, 3, 1, 1, 2])
    model = lambda images: jnp.asarray(logits)  # noqa: E731
    loss, metrics = cross_entropy(smoothing)(model, {"image": None, "label": labels})
    target = (1 - smoothing) * np.eye(4)[labels] + smoothing / 4
    log_p = logits - np.log(np.exp(logits.astype(np.float64)).sum(-1, keepdims=True))
    np.testing.assert_allclose(loss, -(target * log_p).sum(-1).mean(), rtol=1e-6)
    assert metrics["accuracy"] == np.float32((logits.argmax(-1) == labels).mean())


def test_a_label_that_is_no_class_has_no_finite_loss():
    model = lambda image: jnp.zeros((2, 3))  # noqa: E731
    for label in (-1, 3):
        loss, _ = cross_entropy()(model, {"image": None, "label": jnp.array([0, label])})
        assert not jnp.isfinite(loss)


def test_loss_of_low_precision_logits_is_float32():
    model = lambda images: jnp.ones((2, 3), jnp.bfloat16)  # noqa: E731
    loss, _ = cross_entropy(0.1)(model, {"image": None, "label": np.array([0, 1])})
    assert loss.dtype == jnp.float32


@pytest.mark.parametrize("algorithm", ["sgd", "adamw"])
def test_recipe_builds_what_it_says(algorithm):
    recipe = Recipe(algorithm=algorithm, learning_rate=RATE, weight_decay=DECAY, warmup_steps=0)
    make = {"sgd": sgd, "adamw": adamw}[algorithm]
    by_hand = make(warmup_cosine(RATE, 10), weight_decay=DECAY)
    np.testing.assert_array_equal(run(recipe.optimizer(10)), run(by_hand))


def test_recipe_warms_up_over_a_twentieth():
    assert Recipe(learning_rate=1.0).schedule(100)(5) == pytest.approx(1.0)
    assert Recipe(learning_rate=1.0).schedule(100)(4) == pytest.approx(5 / 6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sgd(-0.1), r"sgd: learning_rate must be 0 or more, and finite; got -0.1"),
        (lambda: sgd(float("nan")), r"sgd: learning_rate .* got nan"),
        (lambda: sgd(0.1, momentum=1.0), r"sgd: momentum must be in \[0, 1\); got 1.0"),
        (lambda: sgd(0.1, weight_decay=-1e-4), r"sgd: weight_decay must be 0 or more"),
        (lambda: sgd(0.1, clip_norm=0.0), r"clip_norm must be positive, .* got 0.0"),
        (lambda: adamw(float("inf")), r"adamw: learning_rate .* finite; got inf"),
        (lambda: adamw(0.1, b1=1.5), r"adamw: b1 must be in \[0, 1\); got 1.5"),
        (lambda: adamw(0.1, b2=-0.5), r"adamw: b2 must be in \[0, 1\); got -0.5"),
        (lambda: adamw(0.1, eps=-1), r"adamw: eps must be 0 or more"),
        (lambda: warmup_cosine(0.1, 10, warmup_steps=10), r"got warmup_steps=10 of total_steps=10"),
        (lambda: warmup_cosine(0.1, 10, warmup_steps=-1), r"got warmup_steps=-1 of"),
        (lambda: warmup_cosine(-0.1, 10), r"warmup_cosine: peak must be 0 or more"),
        (lambda: warmup_cosine(0.1, 10, end=-1), r"warmup_cosine: end must be 0 or more"),
        (lambda: cross_entropy(1.0), r"label_smoothing must be in \[0, 1\); got 1.0"),
        (lambda: Recipe(algorithm="adam"), r"'adamw'; got 'adam'; did you mean 'adamw'\?"),
        (lambda: Recipe(algorithm="lion!"), r"one of 'sgd', 'adamw'; got 'lion!'$"),
        (lambda: Recipe(learning_rate=-1), r"sgd: learning_rate must be 0 or more"),
        (lambda: Recipe(label_smoothing=-0.1), r"Recipe: label_smoothing must be in \[0, 1\)"),
        (lambda: Recipe(ema_decay=1.0), r"Recipe: ema_decay must be in \[0, 1\); got 1.0"),
        (lambda: Recipe(warmup_steps=-1), r"Recipe: warmup_steps must be 0 or more"),
        (lambda: Recipe(end_learning_rate=-1), r"Recipe: end_learning_rate must be 0 or more"),
        (lambda: Recipe(warmup_steps=20).optimizer(10), r"must be shorter than the run"),
    ],
)  # fmt: skip
def test_says_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call()
