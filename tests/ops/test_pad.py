"""jconv.pad where there are no pixels, and its messages; the modes are tested with `conv`."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jconv
from jconv.ops.pad import MODES, unpad

EMPTY = jnp.zeros((1, 0, 3))


@pytest.mark.parametrize("mode", MODES)
def test_an_axis_without_a_pixel_and_without_padding(mode):
    x, pads = jnp.ones((1, 0, 3, 2)), ((0, 0), (1, 2))
    y, vjp = jax.vjp(lambda x: jconv.pad(x, pads, mode), x)
    assert y.shape == (1, 0, 6, 2)
    assert vjp(y)[0].shape == unpad(y, pads, mode).shape == x.shape


def test_zeros_need_no_pixel():
    np.testing.assert_array_equal(jconv.pad(EMPTY, 1), np.zeros((1, 2, 3)))


@pytest.mark.parametrize(
    ("x", "padding", "mode", "message"),
    [
        (EMPTY[0], 1, "zeros", r"x must be \(N, \*spatial, C\) with one .*; got x \(0, 3\)"),
        (EMPTY, 1, "replicate", r'"replicate" can fill at most \(0,\) pixels .* image of \(0,\)'),
        (EMPTY, 1, "reflect", r'"reflect" can fill at most \(0,\) pixels .* image of \(0,\)'),
        (EMPTY, 1, "circular", r'"circular" can fill at most \(0,\) pixels .* image of \(0,\)'),
        (EMPTY, 1, "mirror", r"padding_mode must be one of zeros, reflect, .*; got 'mirror'"),
        (EMPTY, 1, ["zeros"], r"padding_mode must be one of zeros, .*; got \['zeros'\]"),
        (EMPTY, "SAME", "zeros", r"padding must be an int, or one int or .*; got 'SAME'"),
    ],
)  # fmt: skip
def test_says_what_is_wrong(x, padding, mode, message):
    with pytest.raises(ValueError, match=f"^pad: .*{message}"):
        jconv.pad(x, padding, mode)
