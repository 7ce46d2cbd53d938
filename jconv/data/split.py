"""Stratified splits: every part has the classes in the proportions of the whole."""

from __future__ import annotations

import numpy as np


def held_out(labels, *, fraction: float = 0.1, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(train, test): sorted indices into `labels`, an integer (N,) array.

    From each class `fraction` of its members, rounded, goes to the test part: at least one, unless
    the class has a single member, which stays in the training part.

    Raises:
      ValueError: `fraction` is not between 0 and 1, or no class has two members.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"held_out: fraction must be between 0 and 1; got {fraction}")
    test = []
    for members in _shuffled_classes(labels, seed):
        count = max(1, min(len(members) - 1, round(fraction * len(members))))
        test.extend(members[:count] if len(members) > 1 else ())
    if not test:
        raise ValueError(
            f"held_out: every class has a single member, none can be held out; got {len(labels)} "
            "labels"
        )
    index = np.sort(np.asarray(test))
    return np.setdiff1d(np.arange(len(labels)), index), index


def stratified_folds(
    labels, *, folds: int = 10, seed: int = 0
) -> list[tuple[np.ndarray, np.ndarray]]:
    """`folds` pairs (train, test) of sorted indices; each index is in exactly one test part.

    Sizes differ by at most one between the test parts, in total and within each class.

    Raises:
      ValueError: there are fewer than two folds, or fewer labels than folds.
    """
    if not 2 <= folds <= len(labels):
        raise ValueError(
            f"stratified_folds: folds must be 2 to the number of labels, {len(labels)}; got {folds}"
        )
    order = np.concatenate(_shuffled_classes(labels, seed))
    # Dealing the classes out one after the other, like cards, keeps both counts balanced.
    parts = [np.sort(order[fold::folds]) for fold in range(folds)]
    everything = np.arange(len(labels))
    return [(np.setdiff1d(everything, part), part) for part in parts]


def _shuffled_classes(labels, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.asarray(labels)
    return [rng.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)]
