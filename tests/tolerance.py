"""How far a computed array may lie from the right one, derived from its dtype and the length of its
sums.

A sum of n products of unit scale has partial sums of size up to sqrt(n), each rounded once. The n
roundings are as good as independent, so the error is about eps * sqrt(n / 2) times the size of the
result, in standard deviations; the largest of a few thousand entries stays below four of them
(Higham & Mary 2019, "A new approach to probabilistic rounding error analysis"). float16 and
bfloat16 are summed in float32, and rounded once more when they are stored.
"""

from __future__ import annotations

import ml_dtypes
import numpy as np

DEVIATIONS = 4


def assert_close(actual, expected, *, terms: int) -> None:
    """Fails unless `actual` is `expected` up to rounding: same shape, same NaN and infinities,
    every entry close.

    Args:
      actual: an array; its dtype sets the tolerance.
      expected: the right result, in float64 or in the dtype of `actual`.
      terms: the number of products (or other terms) behind each entry; over several operations,
        their sum.
    """
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape, f"shape {actual.shape}, expected {expected.shape}"
    stored, summed = epsilons(actual.dtype)
    wide = np.complex128 if np.iscomplexobj(expected) else np.float64
    actual, expected = actual.astype(wide), expected.astype(wide)
    size = np.max(np.abs(expected), where=np.isfinite(expected), initial=0.0)
    np.testing.assert_allclose(
        actual, expected, rtol=stored, atol=DEVIATIONS * summed * np.sqrt(max(terms, 1)) * size
    )


def epsilons(dtype) -> tuple[float, float]:
    """The spacing of numbers at 1 in `dtype`, and in the dtype in which jconv sums it; 0 for
    integers.
    """
    if not np.issubdtype(dtype, np.inexact) and dtype != ml_dtypes.bfloat16:
        return 0.0, 0.0
    stored = float(ml_dtypes.finfo(dtype).eps)
    return stored, min(stored, float(np.finfo(np.float32).eps))
