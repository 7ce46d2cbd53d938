"""jconv's poolings against torch.nn.functional, values, positions and gradients."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import jconv
from jconv.ops.adaptive_pool import adaptive_avg_pool, adaptive_max_pool
from jconv.ops.lp_pool import lp_pool
from jconv.ops.max_pool import max_pool
from jconv.ops.random_pool import fractional_max_pool
from jconv.ops.unpool import max_unpool
from tests.parity.compare import (
    assert_same,
    channels_first,
    channels_last,
    few,
    with_grads,
)
from tests.parity.peer import Constant

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("x64")]


@st.composite
def poolings(draw, least_axes=1):
    """Paddings of at most half a window, as PyTorch asks for."""
    axes = draw(st.integers(least_axes, 3))

    def each(low, high):
        return draw(st.lists(st.integers(low, high), min_size=axes, max_size=axes))

    window = each(1, 4)
    return {
        "spatial": each(1, 8), "window": window, "stride": draw(st.none() | st.just(each(1, 4))),
        "padding": [draw(st.integers(0, r // 2)) for r in window], "dilation": each(1, 2),
        "ceil_mode": draw(st.booleans()), "examples": draw(st.integers(1, 2)),
        "c": draw(st.integers(1, 2)), "size": each(1, 9),
        "divisor": draw(st.none() | st.integers(1, 5)), "include_pad": draw(st.booleans()),
    }  # fmt: skip


def image(case):
    """Distinct pixels: a tie would be broken by order, which both sides agree on, but NaN not."""
    shape = (case["examples"], *case["spatial"], case["c"])
    return np.random.default_rng(0).permutation(int(np.prod(shape))).reshape(shape) / 4.0 - 3


def fits(case, padding, dilation):
    axes = zip(case["spatial"], case["window"], padding, dilation, strict=True)
    return all(n + 2 * p >= d * (r - 1) + 1 for n, r, p, d in axes)


def strides(case):
    return case["window"] if case["stride"] is None else case["stride"]


@given(case=poolings())
@few
def test_max_pool(torch, case):
    assume(fits(case, case["padding"], case["dilation"]))
    x = image(case)
    options = {name: case[name] for name in ("stride", "padding", "dilation", "ceil_mode")}
    (y, indices), (dx,) = with_grads(
        lambda x: max_pool(x, case["window"], **options, return_indices=True), x
    )
    assume((indices >= 0).all())  # For padding alone PyTorch's position is that of its first tap.
    (theirs, places), (dx_theirs,) = torch(
        f"nn.functional.max_pool{len(case['spatial'])}d", channels_first(x), case["window"],
        **{**options, "stride": strides(case)}, return_indices=True,
    )  # fmt: skip
    assert_same(y, channels_last(theirs))
    np.testing.assert_array_equal(indices, channels_last(places))
    assert_same(dx, channels_last(dx_theirs))


@given(case=poolings())
@few
def test_avg_pool(torch, case):
    axes = len(case["spatial"])
    # PyTorch's avg_pool3d asks that a window fit into the image without its padding.
    assume(fits(case, [0] * axes if axes == 3 else case["padding"], [1] * axes))
    x = image(case)
    options = {name: case[name] for name in ("stride", "padding", "ceil_mode")}
    options["count_include_pad"] = case["include_pad"]
    if axes > 1:
        options["divisor_override"] = case["divisor"]
    y, (dx,) = with_grads(lambda x: jconv.avg_pool(x, case["window"], **options), x)
    (theirs,), (dx_theirs,) = torch(
        f"nn.functional.avg_pool{axes}d", channels_first(x), case["window"],
        **{**options, "stride": strides(case)},
    )  # fmt: skip
    assert_same(y, channels_last(theirs))
    assert_same(dx, channels_last(dx_theirs))


@given(case=poolings(), p=st.sampled_from([1, 2, 3, 2.5, -1, float("inf"), -float("inf")]))
@few
def test_lp_pool(torch, case, p):
    """Signs, zeros and all: an odd p of a negative sum is NaN on both sides."""
    axes = len(case["spatial"])
    assume(fits(case, [0] * axes, [1] * axes))
    x = image(case)
    x = np.abs(x) + 0.25 if p in (2.5, -1) else x
    options = {"stride": case["stride"], "ceil_mode": case["ceil_mode"]}
    y, (dx,) = with_grads(lambda x: lp_pool(x, case["window"], p, **options), x)
    (theirs,), (dx_theirs,) = torch(
        f"nn.functional.lp_pool{axes}d", channels_first(x), float(p), first_of(case["window"]),
        **{**options, "stride": None if case["stride"] is None else first_of(case["stride"])},
    )  # fmt: skip
    assert_same(y, channels_last(theirs))
    assert_same(dx, channels_last(dx_theirs))


def first_of(sizes):
    """In one dimension PyTorch's lp_pool takes an int."""
    return sizes[0] if len(sizes) == 1 else sizes


@given(case=poolings())
@few
def test_max_unpool(torch, case):
    """Windows apart from one another, for PyTorch leaves open what equal positions give."""
    axes = len(case["spatial"])
    assume(fits(case, case["padding"], [1] * axes))
    x, options = image(case), {"stride": case["window"], "padding": case["padding"]}
    y, indices = max_pool(x, case["window"], **options, return_indices=True)
    z, (dy,) = with_grads(
        lambda y: max_unpool(y, indices, case["window"], **options, output_size=case["spatial"]), y
    )
    (theirs,), (dy_theirs,) = torch(
        f"nn.functional.max_unpool{axes}d", channels_first(y),
        channels_first(indices).astype(np.int64), case["window"], **options,
        output_size=case["spatial"],
    )  # fmt: skip
    assert_same(z, channels_last(theirs))
    assert_same(dy, channels_last(dy_theirs))


@given(case=poolings())
@few
def test_max_unpool_without_an_output_size(torch, case):
    axes = len(case["spatial"])
    shape = (case["examples"], *case["spatial"], case["c"])
    y, indices = np.zeros(shape), np.zeros(shape, np.int64)
    options = {"stride": strides(case), "padding": case["padding"]}
    sizes = zip(case["spatial"], case["window"], *options.values(), strict=True)
    assume(all((n - 1) * s + r - 2 * p > 0 for n, r, s, p in sizes))
    z = max_unpool(y, indices, case["window"], **options)
    (theirs,), _ = torch(
        f"nn.functional.max_unpool{axes}d", channels_first(y), channels_first(indices),
        case["window"], **options,
    )  # fmt: skip
    assert z.shape == channels_last(theirs).shape


@given(case=poolings())
@few
def test_adaptive_pools(torch, case):
    axes, x = len(case["spatial"]), image(case)
    (y, indices), (dx,) = with_grads(
        lambda x: adaptive_max_pool(x, case["size"], return_indices=True), x
    )
    (theirs, places), (dx_theirs,) = torch(
        f"nn.functional.adaptive_max_pool{axes}d", channels_first(x), case["size"],
        return_indices=True,
    )  # fmt: skip
    assert_same(y, channels_last(theirs))
    np.testing.assert_array_equal(indices, channels_last(places))
    assert_same(dx, channels_last(dx_theirs))
    y, (dx,) = with_grads(lambda x: adaptive_avg_pool(x, case["size"]), x)
    (theirs,), (dx_theirs,) = torch(
        f"nn.functional.adaptive_avg_pool{axes}d", channels_first(x), case["size"]
    )
    assert_same(y, channels_last(theirs))
    assert_same(dx, channels_last(dx_theirs))


@given(case=poolings(least_axes=2), more=st.lists(st.integers(1, 4), min_size=3, max_size=3))
@few
def test_fractional_max_pool(torch, case, more):
    """In two dimensions PyTorch's samples are in the order W, H; in three in the order D, H, W, and
    the image must have one pixel more than jconv needs.
    """
    axes = len(case["spatial"])
    sizes = zip(case["window"], case["size"], more[:axes], strict=True)
    case["spatial"] = [r + p - 1 + extra for r, p, extra in sizes]
    x = image(case)
    samples = np.random.default_rng(0).uniform(size=(case["examples"], case["c"], axes))
    (y, indices), (dx,) = with_grads(
        lambda x: fractional_max_pool(
            None, x, case["window"], output_size=case["size"], samples=samples, return_indices=True
        ),
        x,
    )
    (theirs, places), (dx_theirs,) = torch(
        f"nn.functional.fractional_max_pool{axes}d", channels_first(x), case["window"],
        output_size=case["size"], return_indices=True,
        _random_samples=Constant(samples[..., ::-1] if axes == 2 else samples),
    )  # fmt: skip
    assert_same(y, channels_last(theirs))
    np.testing.assert_array_equal(indices, channels_last(places))
    assert_same(dx, channels_last(dx_theirs))


CONVENTIONS = [
    (1, [0, 0, 0, 0]), (1, [1, -1, 0, 0]), (2, [0, 0, 0, 0]), (2, [3, -4, 0, 0]),
    (3, [1, -1, 0, 0]), (3, [-1, -2, -3, 1]), (1.5, [1, -1, 0, 0]), (-1, [1, 2, 4, 4]),
    (float("inf"), [-3, 2, 0, 1]), (float("inf"), [0, 0, 0, 0]), (-float("inf"), [-2, 3, 2, -2]),
    (float("inf"), [2, -2, 2, 1]),
]  # fmt: skip


@pytest.mark.parametrize(("p", "pixels"), CONVENTIONS)
def test_lp_pool_where_a_derivative_is_missing(torch, p, pixels):
    """Sums of 0, roots of negative sums, ties."""
    x = np.array(pixels, np.float64).reshape(1, 2, 2, 1)
    y, (dx,) = with_grads(lambda x: lp_pool(x, 2, p), x)
    (theirs,), (dx_theirs,) = torch("nn.functional.lp_pool2d", channels_first(x), float(p), 2)
    assert_same(y, channels_last(theirs))
    assert_same(dx, channels_last(dx_theirs))


def test_nan_wins_in_both(torch):
    """Of several NaN, PyTorch's positions are of the last and jconv's of the first."""
    x = np.array([np.nan, 1, 2, np.nan, 0, 5, 7, 1]).reshape(1, 2, 4, 1)
    for name, pool in (("max_pool2d", max_pool), ("adaptive_max_pool2d", adaptive_max_pool)):
        size = (2, 2) if pool is max_pool else (1, 2)
        y, indices = pool(x, size, return_indices=True)
        (theirs, places), _ = torch(
            f"nn.functional.{name}", channels_first(x), list(size), return_indices=True
        )
        np.testing.assert_array_equal(y, channels_last(theirs))
        np.testing.assert_array_equal(indices, channels_last(places))
    two = np.array([np.nan, np.nan]).reshape(1, 1, 2, 1)
    (_, places), _ = torch(
        "nn.functional.max_pool2d", channels_first(two), [1, 2], return_indices=True
    )
    assert (places.item(), max_pool(two, (1, 2), return_indices=True)[1].item()) == (1, 0)
