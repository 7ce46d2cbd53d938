"""Regions of interest, deformable convolution and focal loss against torchvision.ops, values and
gradients: those in the boxes are jconv's alone.
"""

from __future__ import annotations

import functools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jconv import losses
from jconv.ops.deform_conv import deform_conv
from jconv.ops.roi_align import roi_align
from jconv.ops.roi_pool import roi_pool
from tests.parity.compare import (
    assert_same,
    channels_first,
    channels_last,
    compiled_with_grads,
    few,
    filter_from_torch,
    filter_to_torch,
    with_grads,
)
from tests.parity.peer import Constant

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("x64")]

# Few sizes: each is compiled once.
SIZES = st.sampled_from([(2, 5, 6, 2), (1, 1, 7, 3), (3, 4, 1, 1)])
OUTPUTS = st.sampled_from([(1, 1), (2, 3), (4, 2)])


@st.composite
def regions(draw, halves=False):
    """An image and boxes in and around it: upside down too, and, with `halves`, of no size and on
    halves of pixels.

    torchvision has no definition of `aligned` for boxes upside down: their bins are negative.
    """
    n, height, width, _ = shape = draw(SIZES)
    random = np.random.default_rng(draw(st.integers(0, 99)))
    corners = random.uniform(-3, np.array([width, height]) + 3, (5, 2, 2))
    if halves and draw(st.booleans()):
        corners = np.round(corners * 2) / 2
    aligned = draw(st.booleans())
    if aligned or draw(st.booleans()):
        corners = np.sort(corners, 1)
    boxes, image = corners.reshape(5, 4), random.integers(0, n, 5)
    options = {"output_size": draw(OUTPUTS), "spatial_scale": draw(st.sampled_from([1.0, 0.6]))}
    return random.normal(size=shape), boxes, image, options, aligned


@given(case=regions(), sampling_ratio=st.integers(0, 3))
@few
def test_roi_align(torchvision, case, sampling_ratio):
    """Positions by chance: just a pixel outside of the image a value jumps, and XLA rounds."""
    x, boxes, image, options, aligned = case
    options = {**options, "sampling_ratio": sampling_ratio, "aligned": aligned}
    most = None if sampling_ratio else 16  # wider than the widest bin
    f = functools.partial(roi_align, most_samples=most, **options)
    y, (dx, _, _) = compiled_with_grads(f, x, boxes, image)
    rows = Constant(np.concatenate([image[:, None], boxes], 1))
    (theirs,), (slope,) = torchvision(
        "torchvision.ops.roi_align", channels_first(x), rows, **options
    )
    assert_same(y, channels_last(theirs))
    assert_same(dx, channels_last(slope))


@given(case=regions(halves=True), ties=st.booleans())
@few
def test_roi_pool(torchvision, case, ties):
    x, boxes, image, options, _ = case
    x = np.round(x) if ties else x
    y, (dx, _, _) = compiled_with_grads(functools.partial(roi_pool, **options), x, boxes, image)
    rows = Constant(np.concatenate([image[:, None], boxes], 1))
    (theirs,), (slope,) = torchvision(
        "torchvision.ops.roi_pool", channels_first(x), rows, **options
    )
    assert_same(y, channels_last(theirs))
    assert_same(dx, channels_last(slope))


@st.composite
def deformations(draw):
    def pair(low, high):
        return draw(st.tuples(st.integers(low, high), st.integers(low, high)))

    return {
        "spatial": pair(3, 6), "size": pair(1, 3), "stride": pair(1, 2), "padding": pair(0, 2),
        "dilation": pair(1, 2), "groups": draw(st.integers(1, 2)),
        "offset_groups": draw(st.integers(1, 2)), "masked": draw(st.booleans()),
        "reach": draw(st.sampled_from([0.4, 3.0])), "biased": draw(st.booleans()),
    }  # fmt: skip


@given(case=deformations())
@few
def test_deform_conv(torchvision, case):
    random = np.random.default_rng(0)
    options = {name: case[name] for name in ("stride", "padding", "dilation")}
    sizes = zip(*(case[name] for name in ("spatial", "size", *options)), strict=True)
    output = [(n + 2 * p - d * (r - 1) - 1) // s + 1 for n, r, s, p, d in sizes]
    if min(output) < 1:
        return
    groups, taps = case["groups"], case["offset_groups"] * int(np.prod(case["size"]))
    x = random.normal(size=(2, *case["spatial"], 4))
    w = random.normal(size=(*case["size"], 4 // groups, 2 * groups))
    offset = case["reach"] * random.normal(size=(2, *output, 2 * taps))
    b = random.normal(size=2 * groups) if case["biased"] else np.zeros(2 * groups)
    mask = random.uniform(size=(2, *output, taps)) if case["masked"] else None
    operands = (x, offset, w, b, *([mask] if case["masked"] else []))
    y, grads = compiled_with_grads(
        functools.partial(deform_conv, groups=groups, **options), *operands
    )
    (theirs,), slopes = torchvision(
        "torchvision.ops.deform_conv2d", channels_first(x), channels_first(offset),
        filter_to_torch(w), b, **options, mask=None if mask is None else channels_first(mask),
    )  # fmt: skip
    assert_same(y, channels_last(theirs))
    layouts = (channels_last, channels_last, filter_from_torch, np.asarray, channels_last)
    for grad, slope, layout in zip(grads, slopes, layouts, strict=False):
        assert_same(grad, layout(slope))
    assert len(grads) == len(slopes) == len(operands)


@given(
    alpha=st.sampled_from([None, 0.25, 0.9]), gamma=st.sampled_from([0.0, 0.5, 2.0]),
    reduction=st.sampled_from(["none", "sum", "mean"]), seed=st.integers(0, 9),
)  # fmt: skip
@few
def test_sigmoid_focal(torchvision, alpha, gamma, reduction, seed):
    random = np.random.default_rng(seed)
    x = 3 * random.normal(size=(2, 3, 4))
    labels = random.integers(0, 2, x.shape).astype(float)
    y, (dx,) = with_grads(
        lambda x: losses.sigmoid_focal(x, labels, alpha=alpha, gamma=gamma, reduction=reduction),
        x, last=False,
    )  # fmt: skip
    (theirs,), (slope,) = torchvision(
        "torchvision.ops.sigmoid_focal_loss", x, Constant(labels), gamma=gamma,
        alpha=-1 if alpha is None else alpha, reduction=reduction,
    )  # fmt: skip
    assert_same(y, theirs)
    assert_same(dx, slope)
