"""The gathered adjoints of pooling against their definition, pixel by pixel, and their memory."""

from __future__ import annotations

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jconv.algorithms import pool_adjoint
from jconv.window import Window
from tests.often import cases

CASES = {  # N, *spatial, C; then the window
    "side_by_side": ((2, 6, 8, 3), {"size": 2, "stride": 2}),
    "overlap": ((2, 9, 8, 2), {"size": (3, 2), "stride": 2, "padding": ((1, 0), (1, 1))}),
    "stride_one": ((1, 5, 6, 2), {"size": 3, "padding": 1}),
    "gaps": ((1, 7, 6, 2), {"size": (1, 2), "stride": (3, 4)}),
    "dilated": ((2, 13, 3), {"size": 3, "dilation": 2, "padding": 2, "stride": 3}),
    "three_axes": (
        (1, 5, 4, 7, 2),
        {"size": (3, 2, 3), "stride": (2, 1, 2), "padding": "SAME"},
    ),
    "pads_wider_than_windows": ((1, 4, 5, 2), {"size": 2, "padding": ((3, 3), (0, 4))}),
    "one_window": ((2, 3, 4, 2), {"size": (3, 4), "stride": (50, 60)}),
    "ceil_mode": ((1, 5, 6, 2), {"size": 2, "stride": 2, "ceil_mode": True}),
}
each_case = pytest.mark.parametrize(("shape", "options"), CASES.values(), ids=CASES)
OFTEN = set(CASES) - {"side_by_side", "gaps", "one_window", "ceil_mode"}


def window_of(shape, options):
    return Window.of(shape[1:-1], **options)


def readings(window):
    """(the window, the tap, the pixel) of all that is read inside the image."""
    for at in np.ndindex(*window.output):
        for t, tap in enumerate(itertools.product(*map(range, window.size))):
            axes = zip(at, window.stride, tap, window.dilation, window.pads, strict=True)
            pixel = tuple(p * s + r * d - lo for p, s, r, d, (lo, _) in axes)
            if all(0 <= i < n for i, n in zip(pixel, window.input, strict=True)):
                yield at, t, pixel


def arrays(shape, window, key):
    dy = jax.random.normal(key, (shape[0], *window.output, shape[-1]))
    return dy, jax.random.randint(key, dy.shape, 0, np.prod(window.size)).astype("uint8")


@pytest.mark.parametrize("case", cases(CASES, OFTEN))
def test_put(case, key):
    shape, options = case
    window = window_of(shape, options)
    dy, tap = arrays(shape, window, key)
    expected = np.zeros(shape)
    for at, t, pixel in readings(window):
        here = (slice(None), *at)
        expected[:, *pixel] += np.where(tap[here] == t, dy[here], 0)
    put = functools.partial(pool_adjoint.put, window=window, dtype=dy.dtype)
    np.testing.assert_allclose(jax.jit(put)(dy, tap), expected, rtol=1e-5, atol=1e-6)


@each_case
def test_spread(shape, options, key):
    window = window_of(shape, options)
    dy, _ = arrays(shape, window, key)
    expected = np.zeros(shape)
    for at, _, pixel in readings(window):
        expected[:, *pixel] += dy[:, *at]
    spread = functools.partial(pool_adjoint.spread, window=window, dtype=dy.dtype)
    np.testing.assert_allclose(jax.jit(spread)(dy), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "terms"),
    [
        ({"size": 2, "stride": 2}, 1),
        ({"size": 8, "stride": 8}, 1),
        ({"size": 3, "stride": 2, "padding": 1}, 4),
        ({"size": 3}, 9),
        ({"size": 3, "stride": 2, "dilation": 2}, 9),
        ({"size": (1, 3), "stride": (5, 3)}, 1),
        ({"size": 16, "stride": 99}, 1),
    ],
)
def test_terms(options, terms):
    assert pool_adjoint.terms(Window.of((16, 16), **options)) == terms


def test_sums_in_the_dtype_that_is_asked_for():
    window = Window.of((8,), 4, padding="SAME")
    dy = jnp.full((1, 8, 1), 1 + 2.0**-7, "bfloat16")
    dx = pool_adjoint.spread(dy, window, dtype=jnp.dtype("float32"))
    np.testing.assert_array_equal(dx[0, 3:5, 0], 4 * (1 + 2.0**-7))


def test_memory():
    """No array but the operands and the result."""
    window = Window.of((32, 32), 3, stride=2, padding=1)
    dy, tap = (jax.ShapeDtypeStruct((4, 16, 16, 32), d) for d in ("float32", "uint8"))
    put = functools.partial(pool_adjoint.put, window=window, dtype=dy.dtype)
    memory = jax.jit(put).lower(dy, tap).compile().memory_analysis()
    assert memory.temp_size_in_bytes <= 4096
