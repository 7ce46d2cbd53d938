"""What the parity tests share: layouts, gradients by the same cotangent, and the comparison."""

from __future__ import annotations

import jax
import numpy as np
from hypothesis import settings

from tests.parity.peer import cotangent

# Drawn cases per test: 40, and 400 with --hypothesis-profile=thorough.
few = settings(max_examples=settings.default.max_examples // 5)


def channels_first(x) -> np.ndarray:
    """N *spatial C to N C *spatial."""
    return np.moveaxis(np.asarray(x), -1, 1)


def channels_last(x) -> np.ndarray:
    """N C *spatial to N *spatial C."""
    return np.moveaxis(np.asarray(x), 1, -1)


def filter_to_torch(w) -> np.ndarray:
    """*window C K to K C *window."""
    return np.moveaxis(np.asarray(w), (-1, -2), (0, 1))


def filter_from_torch(w) -> np.ndarray:
    """K C *window to *window C K."""
    return np.moveaxis(np.asarray(w), (0, 1), (-1, -2))


def with_grads(f, *operands, last: bool = True):
    """f(*operands) and the gradients that PyTorch's side takes too: those of the sum of the first
    result, times `cotangent` of its shape in PyTorch's layout.

    Args:
      last: the result has its channels last, and PyTorch's on axis 1.
    """
    y, vjp = jax.vjp(f, *map(jax.numpy.asarray, operands))
    first, *others = y if isinstance(y, tuple) else (y,)
    weights = cotangent(channels_first(first).shape if last else first.shape)
    weights = jax.numpy.asarray(channels_last(weights) if last else weights, first.dtype)
    zeros = [
        np.zeros(o.shape, o.dtype if np.issubdtype(o.dtype, np.floating) else jax.dtypes.float0)
        for o in others
    ]
    return y, vjp((weights, *zeros) if others else weights)


def compiled_with_grads(f, *operands):
    """`with_grads` in one compiled program: for each drawn size eager mode compiles many."""
    shape = channels_first(np.empty(jax.eval_shape(f, *operands).shape)).shape
    weights = jax.numpy.asarray(channels_last(cotangent(shape)))

    @jax.jit
    def program(*operands):
        y, vjp = jax.vjp(f, *operands)
        return y, vjp(weights)

    return program(*operands)


def assert_same(actual, expected) -> None:
    """Both sides computed in float64: they differ by rounding alone."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    size = np.abs(expected).max(initial=1.0, where=np.isfinite(expected))
    np.testing.assert_allclose(actual, expected, rtol=1e-10, atol=1e-10 * size)
