"""jconv.unfold, fold, fft_conv and depthwise_conv against torch.nn.functional."""

from __future__ import annotations

import functools

import jax
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from jconv.ops.fft_conv import fft_conv
from jconv.ops.separable_conv import depthwise_conv
from jconv.ops.unfold import fold, unfold
from tests.parity.compare import (
    assert_same,
    channels_first,
    channels_last,
    filter_from_torch,
    filter_to_torch,
    with_grads,
)

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("x64")]

# Every drawn shape is compiled: 20 cases per test, and 200 with --hypothesis-profile=thorough.
few = settings(max_examples=settings.default.max_examples // 10)


@st.composite
def windows(draw, axes):
    def each(low, high):
        return draw(st.lists(st.integers(low, high), min_size=axes, max_size=axes))

    case = {
        "spatial": each(1, 6), "size": each(1, 3), "stride": each(1, 3), "dilation": each(1, 2),
        "padding": each(0, 3), "c": draw(st.integers(1, 3)), "examples": draw(st.integers(1, 2)),
        "groups": draw(st.integers(1, 2)), "k": draw(st.integers(1, 2)),
    }  # fmt: skip
    extent = [d * (r - 1) + 1 for r, d in zip(case["size"], case["dilation"], strict=True)]
    fits = zip(case["spatial"], case["padding"], extent, strict=True)
    assume(all(n + 2 * p >= e for n, p, e in fits))
    return case


def options_of(case):
    return {name: case[name] for name in ("stride", "padding", "dilation")}


def columns(u):
    """(N, P, Q, R, S, C) as PyTorch has it: (N, C*R*S, P*Q)."""
    n, p, q, r, s, c = u.shape
    return np.asarray(u).transpose(0, 5, 3, 4, 1, 2).reshape(n, c * r * s, p * q)


def patches(columns, shape):
    """The inverse of `columns`."""
    n, p, q, r, s, c = shape
    return np.asarray(columns).reshape(n, c, r, s, p, q).transpose(0, 4, 5, 2, 3, 1)


@given(case=windows(2))
@few
def test_unfold(torch, case):
    x = np.random.default_rng(0).normal(size=(case["examples"], *case["spatial"], case["c"]))
    u = jax.jit(functools.partial(unfold, window=case["size"], **options_of(case)))(x)
    (theirs,), _ = torch(
        "nn.functional.unfold", channels_first(x), case["size"], **options_of(case)
    )
    assert_same(columns(u), theirs)


@given(case=windows(2))
@few
def test_fold(torch, case):
    x = np.zeros((case["examples"], *case["spatial"], case["c"]))
    layout = functools.partial(unfold, window=case["size"], **options_of(case))
    shape = jax.eval_shape(layout, x).shape
    u = np.random.default_rng(0).normal(size=shape)
    x, (du,) = with_grads(
        jax.jit(functools.partial(fold, spatial=case["spatial"], **options_of(case))), u
    )
    (theirs,), (their_du,) = torch(
        "nn.functional.fold", columns(u), case["spatial"], case["size"], **options_of(case)
    )
    assert_same(x, channels_last(theirs))
    assert_same(du, patches(their_du, shape))


@given(case=st.integers(1, 3).flatmap(windows))
@few
def test_fft_conv(torch, case):
    random, axes, groups = np.random.default_rng(0), len(case["spatial"]), case["groups"]
    x = random.normal(size=(case["examples"], *case["spatial"], case["c"] * groups))
    w = random.normal(size=(*case["size"], case["c"], case["k"] * groups))
    b = random.normal(size=case["k"] * groups)
    options = {**options_of(case), "groups": groups}
    y, grads = with_grads(jax.jit(functools.partial(fft_conv, **options)), x, w, b)
    (theirs,), (dx, dw, db) = torch(
        f"nn.functional.conv{axes}d", channels_first(x), filter_to_torch(w), b, **options
    )
    assert_same(y, channels_last(theirs))
    for ours, their in zip(grads, (channels_last(dx), filter_from_torch(dw), db), strict=True):
        assert_same(ours, their)


@given(case=windows(2))
@few
def test_depthwise_conv(torch, case):
    random, c = np.random.default_rng(0), case["c"]
    x = random.normal(size=(case["examples"], *case["spatial"], c))
    w = random.normal(size=(*case["size"], 1, c * case["k"]))
    y, grads = with_grads(jax.jit(functools.partial(depthwise_conv, **options_of(case))), x, w)
    (theirs,), (dx, dw) = torch(
        "nn.functional.conv2d", channels_first(x), filter_to_torch(w), None, groups=c,
        **options_of(case),
    )  # fmt: skip
    assert_same(y, channels_last(theirs))
    for ours, their in zip(grads, (channels_last(dx), filter_from_torch(dw)), strict=True):
        assert_same(ours, their)
