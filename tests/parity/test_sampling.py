"""Resizing, sampling and shuffling against torch.nn.functional, values and gradients.

Left out are the calls in which PyTorch 2.13 (CPU) contradicts itself: nearest with a scale that
keeps or doubles an axis (the forward pass of three dimensions heeds the scale, its backward pass
and two dimensions don't); antialias with a scale that keeps the size (the backward pass heeds it);
and antialias where the image or the result is one pixel wide (rows of equal numbers).
"""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from jconv.ops.grid_sample import affine_grid, grid_sample
from jconv.ops.pixel_shuffle import pixel_shuffle, pixel_unshuffle
from jconv.ops.resize import resize
from tests.parity.compare import (
    assert_same,
    channels_first,
    channels_last,
    compiled_with_grads,
    few,
    with_grads,
)

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("x64")]

LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


@st.composite
def resizings(draw):
    method = draw(st.sampled_from(["nearest", "nearest-exact", "linear", "cubic", "area"]))
    axes = 2 if method == "cubic" else draw(st.integers(1, 3))
    sizes = st.lists(st.integers(1, 9), min_size=axes, max_size=axes)
    scales = st.lists(st.floats(0.3, 3.0), min_size=axes, max_size=axes)
    smooth = method in ("linear", "cubic")
    options = {"align_corners": draw(st.booleans())} if smooth else {}
    if smooth and axes == 2:
        options["antialias"] = draw(st.booleans())
    return method, draw(sizes), draw(st.one_of(sizes, scales)), options


@given(case=resizings())
@few
def test_resize(torch, case):
    method, spatial, target, options = case
    axes, scaled = len(spatial), isinstance(target[0], float)
    size = [math.floor(n * s) for n, s in zip(spatial, target, strict=True)] if scaled else target
    assume(min(size) > 0)
    ratios = [m / n for m, n in zip(size, spatial, strict=True)]
    assume(not (scaled and method == "nearest" and any(r in (1, 2) for r in ratios)))
    antialias = options.get("antialias", False)
    assume(not (antialias and (1 in (size[-1], spatial[-1]) or (scaled and 1 in ratios))))
    x = np.random.default_rng(0).normal(size=(2, *spatial, 2))
    mode = {"linear": LINEAR[axes], "cubic": "bicubic"}.get(method, method)
    chosen = {"scale" if scaled else "size": target}
    f = functools.partial(resize, method=method, **chosen, **options)
    y, (grad,) = compiled_with_grads(f, x)
    (theirs,), (dx,) = torch(
        "nn.functional.interpolate", channels_first(x), mode=mode, **options,
        **{"scale_factor" if scaled else "size": target},
    )  # fmt: skip
    assert_same(y, channels_last(theirs))
    assert_same(grad, channels_last(dx))


@st.composite
def samplings(draw):
    axes = draw(st.integers(2, 3))
    sizes = st.lists(st.integers(1, 5), min_size=axes, max_size=axes)
    modes = ["nearest", "bilinear", "bicubic"][: 4 - axes + 1]
    options = {
        "mode": draw(st.sampled_from(modes)),
        "padding_mode": draw(st.sampled_from(["zeros", "border", "reflection"])),
        "align_corners": draw(st.booleans()),
    }
    # Quarters lie on pixels, borders and halves between pixels.
    return draw(sizes), draw(sizes), draw(st.sampled_from([0, 4])), draw(st.floats(0.5, 4)), options


@given(case=samplings())
@few
def test_grid_sample(torch, case):
    spatial, output, steps, reach, options = case
    random = np.random.default_rng(0)
    x = random.normal(size=(2, *spatial, 2))
    grid = random.uniform(-reach, reach, size=(2, *output, len(spatial)))
    grid = np.round(grid * steps) / steps if steps else grid
    y, grads = with_grads(functools.partial(grid_sample, **options), x, grid)
    (theirs,), (dx, dgrid) = torch("nn.functional.grid_sample", channels_first(x), grid, **options)
    assert_same(y, channels_last(theirs))
    assert_same(grads[0], channels_last(dx))
    assert_same(grads[1], dgrid)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("size", [(3, 4), (2, 4, 3)])
def test_affine_grid(torch, size, align_corners):
    theta = np.random.default_rng(0).normal(size=(2, len(size), len(size) + 1))
    f = functools.partial(affine_grid, size=size, align_corners=align_corners)
    grid, (grad,) = with_grads(f, theta, last=False)
    (theirs,), (dtheta,) = torch(
        "nn.functional.affine_grid", theta, [2, 1, *size], align_corners=align_corners
    )
    assert_same(grid, theirs)
    assert_same(grad, dtheta)


def test_pixel_shuffle(torch):
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 18))
    y, (grad,) = with_grads(lambda x: pixel_shuffle(x, 3), x)
    (theirs,), (dx,) = torch("nn.functional.pixel_shuffle", channels_first(x), 3)
    assert_same(y, channels_last(theirs))
    assert_same(grad, channels_last(dx))
    (back,), _ = torch("nn.functional.pixel_unshuffle", channels_first(y), 3)
    assert_same(pixel_unshuffle(y, 3), channels_last(back))
