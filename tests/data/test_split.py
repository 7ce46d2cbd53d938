"""Stratified splits: disjoint, complete, proportional, repeatable."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jconv.data import held_out, stratified_folds

LABEL_LISTS = st.lists(st.integers(0, 4), min_size=2, max_size=60)


@given(LABEL_LISTS, st.integers(0, 3))
def test_folds_part_the_indices(labels, seed):
    folds = min(5, len(labels))
    labels = np.array(labels)
    parts = stratified_folds(labels, folds=folds, seed=seed)
    tests = [test for _, test in parts]
    assert sorted(np.concatenate(tests)) == list(range(len(labels)))
    for train, test in parts:
        assert sorted([*train, *test]) == list(range(len(labels)))
    assert np.ptp([len(test) for test in tests]) <= 1
    for label in np.unique(labels):
        assert np.ptp([(labels[test] == label).sum() for test in tests]) <= 1


@given(LABEL_LISTS, st.sampled_from([0.1, 0.5, 0.9]))
def test_held_out_is_proportional(labels, fraction):
    labels = np.array(labels)
    counts = np.bincount(labels)
    if counts.max() < 2:
        with pytest.raises(ValueError, match="every class has a single member"):
            held_out(labels, fraction=fraction)
        return
    train, test = held_out(labels, fraction=fraction)
    assert sorted([*train, *test]) == list(range(len(labels)))
    for label, count in enumerate(counts):
        held = (labels[test] == label).sum()
        assert held == (0 if count < 2 else np.clip(round(fraction * count), 1, count - 1))


def test_the_seed_decides():
    labels = np.arange(100) % 5
    first, again, other = (held_out(labels, seed=seed)[1] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, float("nan")])
def test_says_what_is_wrong_with_the_fraction(fraction):
    with pytest.raises(ValueError, match="held_out: fraction must be between 0 and 1; got"):
        held_out([0, 0, 1, 1], fraction=fraction)


@pytest.mark.parametrize("folds", [0, 1, 5])
def test_says_what_is_wrong_with_the_folds(folds):
    with pytest.raises(
        ValueError, match=f"folds must be 2 to the number of labels, 4; got {folds}"
    ):
        stratified_folds([0, 0, 1, 1], folds=folds)
