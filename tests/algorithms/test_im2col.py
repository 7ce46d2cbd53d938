"""Products with the image's windows: all passes, pieces, memory, refusals."""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np
import pytest

import jconv
from jconv.algorithms import pieces
from tests import often
from tests.algorithms import passes
from tests.ops.conv_cases import CASES, Case
from tests.tolerance import assert_close

NAMES = """plain pads_wider_than_window dilation_and_stride input_dilation pixels_never_read
one_axis three_axes"""
CHOSEN = {name: CASES[name] for name in NAMES.split() if CASES[name].groups == 1}


def check(case, key, dtype):
    arrays = passes.operands(case, key, dtype)
    results = passes.computed(case, "im2col", arrays)
    assert {result.dtype for result in results} == {jnp.dtype(dtype)}
    checks = zip(results, passes.expected(case, arrays), passes.terms(case), strict=True)
    for actual, expected, terms in checks:
        assert_close(actual, expected, terms=terms)


@pytest.mark.parametrize(
    "name", often.names(CHOSEN, ("pads_wider_than_window", "dilation_and_stride", "one_axis"))
)
def test_matches_definition(name, key):
    check(CHOSEN[name], key, "float32")


def test_bfloat16_is_summed_in_float32(key):
    check(CHOSEN["plain"], key, "bfloat16")


@pytest.mark.parametrize("cache", [1, 1500])
def test_pieces_that_overlap(cache, key, monkeypatch):
    monkeypatch.setattr(pieces, "CACHE", cache)
    case = Case(x=(3, 15, 5, 2), k=1, stride=(2, 1), dilation=(1, 2), padding=((0, 1), (2, 1)))
    check(case, key, "float32")


def test_whole_numbers_are_exact():
    x, w = (jnp.arange(math.prod(s), dtype="int8").reshape(s) for s in [(2, 4, 5, 3), (3, 2, 3, 2)])
    actual, expected = (
        jconv.conv(x, w, preferred_element_type="int8", implementation=name)
        for name in ("im2col", "direct")
    )
    assert actual.dtype == jnp.int8
    np.testing.assert_array_equal(actual, expected)


MEMORY = {
    "images": Case(x=(8, 28, 28, 32), window=(3, 3), k=32),
    "rows": Case(x=(2, 200, 95, 16), window=(3, 3), k=64),
    "one_image": Case(x=(1, 150, 121, 16), window=(5, 5), k=16),
    "filter": Case(x=(4, 7, 7, 256), window=(3, 3), k=512),
}


@pytest.mark.parametrize("case", MEMORY.values(), ids=MEMORY)
def test_memory(case):
    """No more than the module states."""
    filter = 4 * math.prod(case.w)
    row = 4 * case.x[2] * math.prod(case.window) * max(case.x[-1], case.k)
    padded = 4 * 1.1 * math.prod(case.x[1:-1]) * max(case.x[-1], case.k) * (case.x[0] == 1)
    for pass_, taken in passes.temporary_bytes(case, "im2col").items():
        assert taken <= 2 * max(pieces.CACHE, row, filter) + filter + padded, pass_


@pytest.mark.parametrize(
    ("x", "w", "groups", "message"),
    [
        ((1, 4, 4, 4), (3, 3, 2, 4), 2, "only one group"),
        ((1, 4, 4, 0), (3, 3, 0, 4), 1, "nothing to compute"),
    ],
)
def test_says_what_it_does_not_compute(x, w, groups, message):
    with pytest.raises(NotImplementedError, match=f"^conv: implementation 'im2col' .*: {message}"):
        jconv.conv(jnp.zeros(x), jnp.zeros(w), groups=groups, implementation="im2col")


def test_says_that_it_does_not_compute_truth_values():
    x, w = jnp.ones((1, 4, 4, 4), bool), jnp.ones((3, 3, 4, 4), bool)
    with pytest.raises(NotImplementedError, match="not for bool"):
        jconv.conv(x, w, implementation="im2col")
