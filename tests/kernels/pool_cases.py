"""Poolings that kernels are tested on: each the reason for a branch."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jconv.window import Window

CASES = {  # x, window, and what Window.of takes
    "plain": ((2, 6, 8, 5), (2, 2), {"stride": 2}),
    "overlap": ((2, 9, 8, 37), (3, 2), {"stride": 2, "padding": ((1, 0), (1, 1))}),
    "gaps": ((1, 7, 6, 32), (1, 2), {"stride": (3, 4)}),
    "dilated": ((2, 13, 64), (3,), {"dilation": 2, "padding": 2}),
    "three_axes": ((1, 5, 4, 7, 33), (3, 2, 3), {"stride": (2, 1, 2), "padding": "SAME"}),
    "padding_alone": ((1, 4, 4, 2), (2, 2), {"padding": ((3, 3), (2, 2))}),
    "cropped": ((1, 6, 5, 3), (2, 2), {"pads": ((-1, -2), (0, 1))}),
    "many_taps": ((1, 20, 20, 3), (17, 17), {"stride": 3}),
}
DIVISORS = {
    "sum": lambda window: None,
    "number": lambda window: 3.0,
    "counted": lambda window: tuple((min(lo, 1), 0) for lo, _ in window.pads),
}


def window_of(case):
    shape, size, options = case
    pads = options.get("pads")
    window = Window.of(shape[1:-1], size, **{k: v for k, v in options.items() if k != "pads"})
    if pads is None:
        return window
    axes = (window.input, window.size, window.stride, window.dilation)
    return Window(*axes, pads, window.input_dilation)


def image(case, key, dtype):
    """Few different numbers, so that many are equal; infinite ones, and NaN."""
    x = jnp.round(2 * jax.random.normal(key, case[0]))
    return x.at[0, 0].set(-jnp.inf).at[0, 2, ..., 0].set(jnp.nan).astype(dtype)


def same(actual, expected):
    assert actual.dtype == expected.dtype
    np.testing.assert_array_equal(*(np.asarray(a, np.float32) for a in (actual, expected)))
