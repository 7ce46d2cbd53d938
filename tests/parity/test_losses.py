"""jconv.losses against torch.nn.functional, values and gradients."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jconv import losses
from tests.parity.compare import (
    assert_same,
    channels_first,
    channels_last,
    few,
    with_grads,
)
from tests.parity.peer import Constant

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("x64")]

REDUCTIONS = st.sampled_from(["none", "sum", "mean"])


# N *spatial C: few shapes, each compiled once.
SHAPES = [(3, 4), (2, 3, 1), (2, 3, 2, 3)]


@st.composite
def classifications(draw):
    shape = draw(st.sampled_from(SHAPES))
    return {
        "shape": shape,
        "size": draw(st.sampled_from([1.0, 100.0])),
        "label_smoothing": draw(st.sampled_from([0.0, 0.1, 1.0])),
        "reduction": draw(REDUCTIONS),
        "ignore_index": draw(st.one_of(st.none(), st.integers(0, shape[-1] - 1))),
        "weighted": draw(st.booleans()),
        "seed": draw(st.integers(0, 9)),
    }


@given(case=classifications())
@few
def test_cross_entropy_of_integers(torch, case):
    random = np.random.default_rng(case["seed"])
    x = case["size"] * random.normal(size=case["shape"])
    labels = random.integers(0, x.shape[-1], x.shape[:-1])
    names = ("label_smoothing", "reduction", "ignore_index")
    options = {name: case[name] for name in names if case[name] is not None}
    weight = random.random(x.shape[-1]) if case["weighted"] else None
    y, (dx,) = with_grads(
        lambda x: losses.softmax_cross_entropy(x, labels, weight=weight, **options), x, last=False
    )
    # PyTorch has no derivative in the weights of integer labels.
    (expected,), (slope,) = torch(
        "nn.functional.cross_entropy", channels_first(x), labels,
        weight=None if weight is None else Constant(weight), **options,
    )  # fmt: skip
    assert_same(y, expected)
    assert_same(dx, channels_last(slope))


@given(case=classifications())
@few
def test_cross_entropy_where_a_mask_says_what_counts(torch, case):
    """PyTorch has no mask: the same positions under a label that it ignores."""
    random = np.random.default_rng(case["seed"])
    x = case["size"] * random.normal(size=case["shape"])
    labels = random.integers(0, x.shape[-1], x.shape[:-1])
    mask = random.random(labels.shape) < 0.6
    names = ("label_smoothing", "reduction")
    options = {name: case[name] for name in names}
    weight = random.random(x.shape[-1])
    y, (dx,) = with_grads(
        lambda x: losses.softmax_cross_entropy(x, labels, weight=weight, mask=mask, **options),
        x, last=False,
    )  # fmt: skip
    (expected,), (slope,) = torch(
        "nn.functional.cross_entropy", channels_first(x), np.where(mask, labels, -100),
        weight=Constant(weight), **options,
    )  # fmt: skip
    assert_same(y, expected)
    assert_same(dx, channels_last(slope))


@given(case=classifications())
@few
def test_cross_entropy_of_probabilities(torch, case):
    random = np.random.default_rng(case["seed"])
    x = case["size"] * random.normal(size=case["shape"])
    target = random.random(x.shape)
    target /= target.sum(-1, keepdims=True)
    weight = random.random(x.shape[-1]) if case["weighted"] else np.ones(x.shape[-1])
    options = {name: case[name] for name in ("label_smoothing", "reduction")}
    y, grads = with_grads(
        lambda x, target, weight: losses.softmax_cross_entropy(
            x, target, weight=weight, **options
        ),
        x, target, weight, last=False,
    )  # fmt: skip
    (expected,), (dx, dtarget, dweight) = torch(
        "nn.functional.cross_entropy", channels_first(x), channels_first(target), weight, **options
    )
    assert_same(y, expected)
    for ours, theirs in zip(
        grads, (channels_last(dx), channels_last(dtarget), dweight), strict=True
    ):
        assert_same(ours, theirs)


@given(
    reduction=REDUCTIONS, seed=st.integers(0, 9), shape=st.sampled_from([None, (), (4,), (3, 1)])
)
@few
def test_binary_cross_entropy(torch, reduction, seed, shape):
    """With weights of what is positive: one, one for each class, one for each place."""
    random = np.random.default_rng(seed)
    x, target = 50 * random.normal(size=(2, 3, 4)), random.random((2, 3, 4))
    weight = None if shape is None else np.asarray(2 * random.random(shape))
    y, grads = with_grads(
        lambda *a: losses.sigmoid_cross_entropy(*a, positive_weight=weight, reduction=reduction),
        x, target, last=False,
    )  # fmt: skip
    name = "nn.functional.binary_cross_entropy_with_logits"
    pos_weight = None if weight is None else Constant(weight)
    (expected,), slopes = torch(name, x, target, pos_weight=pos_weight, reduction=reduction)
    assert_same(y, expected)
    for ours, theirs in zip(grads, slopes, strict=True):
        assert_same(ours, theirs)


@given(reduction=REDUCTIONS, delta=st.sampled_from([0.3, 1.0, 5.0]), seed=st.integers(0, 9))
@few
def test_regression(torch, reduction, delta, seed):
    random = np.random.default_rng(seed)
    x, target = random.normal(size=(2, 2, 3, 4))
    x[0, 0, 0], x[0, 0, 1] = target[0, 0, 0], target[0, 0, 1] + delta
    for name, ours, theirs in (
        ("mse_loss", losses.mse, {}),
        ("l1_loss", losses.mae, {}),
        ("huber_loss", losses.huber, {"delta": delta}),
        ("smooth_l1_loss", losses.huber, {"beta": delta}),
    ):
        given = {"delta": delta} if ours is losses.huber else {}
        scale = 1 / delta if "beta" in theirs else 1.0
        y, grads = with_grads(
            lambda *a, ours=ours, given=given, scale=scale: (
                scale * ours(*a, reduction=reduction, **given)
            ),
            x, target, last=False,
        )  # fmt: skip
        (expected,), slopes = torch(
            f"nn.functional.{name}", x, target, reduction=reduction, **theirs
        )
        assert_same(y, expected)
        for slope, other in zip(grads, slopes, strict=True):
            assert_same(slope, other)
