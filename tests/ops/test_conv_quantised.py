"""jconv.conv of 8-bit images and filters, on every implementation that takes them."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from jconv import conv
from tests.ops.conv_cases import Case

CASES = {
    "dense": Case(x=(2, 5, 6, 4), window=(3, 2), k=6, stride=(1, 2)),
    "grouped": Case(x=(1, 5, 4, 6), window=(2, 2), k=4, groups=2, dilation=2),
}


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_sums_are_exact(case, dtype):
    rng, limits = np.random.default_rng(0), np.iinfo(dtype)
    x = rng.choice(np.array([limits.min, limits.max, limits.max - 1], dtype), case.x)
    w = rng.integers(-128, 128, case.w).astype("int8")
    y = conv(x, w, preferred_element_type=jnp.int32, **case.options)
    assert y.dtype == "int32"
    np.testing.assert_array_equal(y, case.expected(x, w))


@pytest.mark.parametrize(
    ("x", "w", "sums"),
    [("uint8", "int8", None), ("uint8", "int8", "int16"), ("int8", "uint8", "int32")],
)
def test_other_pairs_are_refused(x, w, sums):
    cure = "cast one to the other" if x == "int8" else "give preferred_element_type=jnp.int32"
    message = f"conv: x is {x} but w is {w}; {cure}; got "
    with pytest.raises(ValueError, match=message):
        conv(jnp.zeros((1, 4, 4, 2), x), jnp.zeros((2, 2, 2, 3), w), preferred_element_type=sums)
