"""Convolution by Fourier transform as a row of the table; what it shares with jconv.fft_conv is
tested there.
"""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np
import pytest

import jconv
from jconv.algorithms import spectral
from tests.algorithms import passes
from tests.ops.conv_cases import CASES, Case

NAMES = """stride pads_wider_than_window input_dilation_and_stride depthwise one_axis"""


@pytest.mark.parametrize("name", NAMES.split())
def test_matches_definition(name, key):
    """y and dx; dw has no such row. dx crops where the padding is wider than the window."""
    case = CASES[name]
    arrays = passes.operands(case, key, "float32")
    results = passes.computed(case, "fft", arrays)
    for actual, expected in zip(results[:2], passes.expected(case, arrays)[:2], strict=True):
        np.testing.assert_allclose(actual, expected, atol=4e-6 * np.abs(expected).max())


MEMORY = {
    "large_filter": Case(x=(4, 28, 28, 16), window=(31, 31), k=16, groups=16),
    "small_filter": Case(x=(4, 7, 7, 64), window=(3, 3), k=96),
    "one_axis": Case(x=(16, 99, 8), window=(9,), k=8),
}


@pytest.mark.parametrize("case", MEMORY.values(), ids=MEMORY)
def test_memory(case):
    """No more than the module states."""
    win = passes.window(case)
    points = math.prod(spectral.transform_lengths(win.input, win.extent, win.pads))
    n, c, k = case.x[0], case.x[-1], case.k
    taken = passes.temporary_bytes(case, "fft")["fwd"]
    assert taken <= 3 * 4 * points * (n * c + case.w[-2] * k + n * k)


def test_says_what_it_does_not_compute():
    x, w = jnp.ones((1, 4, 4), "int32"), jnp.ones((3, 4, 4), "int32")
    with pytest.raises(NotImplementedError, match="only for floating-point and complex numbers"):
        jconv.conv(x, w, implementation="fft")
