"""jconv.conv and jconv.conv_transpose against torch.nn.functional, values and gradients."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import jconv
from tests.parity.compare import (
    assert_same,
    channels_first,
    channels_last,
    few,
    filter_from_torch,
    filter_to_torch,
    with_grads,
)

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("x64")]


@st.composite
def convolutions(draw):
    axes = draw(st.integers(1, 3))

    def each(low, high):
        return draw(st.lists(st.integers(low, high), min_size=axes, max_size=axes))

    return {
        "spatial": each(1, 6), "size": each(1, 3), "stride": each(1, 3), "dilation": each(1, 2),
        "padding": each(0, 3), "groups": draw(st.integers(1, 2)),
        "c": draw(st.integers(1, 2)), "k": draw(st.integers(1, 2)),
        "output_padding": each(0, 2), "examples": draw(st.integers(1, 2)),
    }  # fmt: skip


@given(case=convolutions())
@few
def test_conv(torch, case):
    axes, groups = len(case["spatial"]), case["groups"]
    extent = [d * (r - 1) + 1 for r, d in zip(case["size"], case["dilation"], strict=True)]
    fits = zip(case["spatial"], case["padding"], extent, strict=True)
    assume(all(n + 2 * p >= e for n, p, e in fits))
    random = np.random.default_rng(0)
    x = random.normal(size=(case["examples"], *case["spatial"], case["c"] * groups))
    w = random.normal(size=(*case["size"], case["c"], case["k"] * groups))
    b = random.normal(size=case["k"] * groups)
    options = {name: case[name] for name in ("stride", "padding", "dilation", "groups")}
    y, grads = with_grads(lambda *a: jconv.conv(*a, **options), x, w, b)
    (theirs,), (dx, dw, db) = torch(
        f"nn.functional.conv{axes}d", channels_first(x), filter_to_torch(w), b, **options
    )
    assert_same(y, channels_last(theirs))
    for ours, their in zip(grads, (channels_last(dx), filter_from_torch(dw), db), strict=True):
        assert_same(ours, their)


@given(case=convolutions())
@few
def test_conv_transpose(torch, case):
    axes, groups = len(case["spatial"]), case["groups"]
    sizes = zip(
        *(case[name] for name in ("spatial", "size", "stride", "dilation", "padding")), strict=True
    )
    least = [(p - 1) * s + d * (r - 1) + 1 - 2 * pad for p, r, s, d, pad in sizes]
    bounds = zip(case["output_padding"], case["stride"], case["dilation"], strict=True)
    assume(all(more < max(s, d) for more, s, d in bounds))
    assume(min(least) >= 1)
    random = np.random.default_rng(0)
    y = random.normal(size=(case["examples"], *case["spatial"], case["k"] * groups))
    w = random.normal(size=(*case["size"], case["c"], case["k"] * groups))
    b = random.normal(size=case["c"] * groups)
    names = ("stride", "padding", "output_padding", "groups", "dilation")
    options = {name: case[name] for name in names}
    x, grads = with_grads(lambda *a: jconv.conv_transpose(*a, **options), y, w, b)
    (theirs,), (dy, dw, db) = torch(
        f"nn.functional.conv_transpose{axes}d", channels_first(y), filter_to_torch(w), b, **options
    )
    assert_same(x, channels_last(theirs))
    for ours, their in zip(grads, (channels_last(dy), filter_from_torch(dw), db), strict=True):
        assert_same(ours, their)
