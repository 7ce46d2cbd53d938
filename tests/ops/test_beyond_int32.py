"""Sizes that no int32 counts: operations work on them, or refuse them and say why.

Traced alone, so no array of such a size is made; where padding makes an axis long, computed too.
"""

from __future__ import annotations

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jconv
import jconv.lax
from jconv import losses

MOST = 2**31
CHANNEL, FIRST = (1,), (1, 1, 2**16, 2**16)
IMAGE, LINE, SMALL = (1, 2**16, 2**16, 1), (1, MOST, 1), (1, 4, 4, 1)
KEY = jax.random.key(0)
BOXES = [((3, 4), jnp.float32), ((3,), jnp.int32)]
POSITIONS = "an image must have fewer than 2**31 pixels, whose positions are int32; got spatial"
WINDOWS = "a window, its steps and an axis with its padding must have fewer than 2**31 pixels"


def case(f, *operands):
    """f, and shapes of its operands: of float32, but for pairs of a shape and a dtype."""
    given = (o if isinstance(o[0], tuple) else (o, jnp.float32) for o in operands)
    return f, [jax.ShapeDtypeStruct(*each) for each in given]


WORK = {
    "conv": case(jconv.conv, IMAGE, (3, 3, 1, 1)),
    "conv_of_a_line": case(jconv.conv, LINE, (3, 1, 1)),
    "conv_reflect": case(functools.partial(jconv.conv, padding_mode="reflect"), LINE, (3, 1, 1)),
    "conv_transpose": case(functools.partial(jconv.conv_transpose, stride=2), IMAGE, (3, 3, 1, 1)),
    "conv_transpose_circular": case(
        functools.partial(jconv.conv_transpose, stride=2, padding_mode="circular"),
        IMAGE,
        (3, 3, 1, 1),
    ),
    "depthwise_conv": case(jconv.depthwise_conv, IMAGE, (3, 3, 1, 1)),
    "avg_pool": case(lambda x: jconv.avg_pool(x, 2), IMAGE),
    "lp_pool": case(lambda x: jconv.lp_pool(x, 2, p=2), IMAGE),
    "blur_pool": case(lambda x: jconv.blur_pool(x, stride=2), IMAGE),
    "global_avg_pool": case(jconv.global_avg_pool, IMAGE),
    "unfold": case(lambda x: jconv.unfold(x, 2), IMAGE),
    "fold": case(lambda u: jconv.fold(u, 2**16 + 1), (1, 2**16, 2**16, 2, 2, 1)),
    "conv_matrix": case(lambda w: jconv.conv_matrix(w, 2**10), (3, 3, 1, 1)),
    "maxout": case(lambda x: jconv.maxout(x, 2), (1, 2**16, 2**16, 2)),
    "space_to_depth": case(lambda x: jconv.space_to_depth(x, 2), IMAGE),
    "depth_to_space": case(lambda x: jconv.depth_to_space(x, 2), (1, 2**16, 2**16, 4)),
    "resize": case(lambda x: jconv.resize(x, 2**16, method="linear"), SMALL),
    "grid_sample": case(jconv.grid_sample, SMALL, (1, 2**16, 2**16, 2)),
    "affine_grid": case(lambda theta: jconv.affine_grid(theta, 2**16), (1, 2, 3)),
    "roi_align": case(
        functools.partial(jconv.roi_align, output_size=2**15, sampling_ratio=2), SMALL, *BOXES
    ),
    "deform_conv": case(
        functools.partial(jconv.deform_conv, padding="VALID"),
        (2**10, 2**10, 2**10, 1),
        (2**10, 2**10, 2**10, 2),
        (1, 1, 1, 1),
    ),
    "dcls_conv": case(
        lambda x, w: jconv.dcls_conv(x, w, jnp.zeros((1, 1, 1, 2)), window=3), IMAGE, (1, 1, 1)
    ),
    "spectral_pool": case(lambda x: jconv.spectral_pool(x, size=4), IMAGE),
    "mse": case(losses.mse, IMAGE, IMAGE),
    "softmax_cross_entropy": case(losses.softmax_cross_entropy, (MOST, 2), ((MOST,), jnp.int32)),
    "pad": case(lambda x: jconv.pad(x, 1), IMAGE),
    "partial_conv": case(
        lambda x, w: jconv.partial_conv(x, jnp.ones((1, 2**16, 2**16, 1)), w)[0],
        IMAGE,
        (3, 3, 1, 1),
    ),
    "separable_conv": case(jconv.separable_conv, IMAGE, (3, 3, 1, 1), (1, 1, 1, 1)),
    "conv_local": case(
        functools.partial(jconv.conv_local, padding="VALID"), IMAGE, (2**16, 2**16, 1, 1, 1, 1)
    ),
    "conv_norm_bound": case(jconv.conv_norm_bound, (1, 1, 2**16, 2**16)),
    "conv_singular_values": case(lambda w: jconv.conv_singular_values(w, 2**16), (3, 3, 1, 1)),
    "batch_norm": case(lambda *a: jconv.batch_norm(*a)[0], IMAGE, CHANNEL, CHANNEL),
    "normalize": case(jconv.normalize, IMAGE, CHANNEL, CHANNEL),
    "layer_norm": case(
        functools.partial(jconv.layer_norm, axes=(1, 2)),
        IMAGE,
        (2**16, 2**16, 1),
        (2**16, 2**16, 1),
    ),
    "instance_norm": case(jconv.instance_norm, IMAGE, CHANNEL, CHANNEL),
    "group_norm": case(functools.partial(jconv.group_norm, groups=1), IMAGE, CHANNEL, CHANNEL),
    "rms_norm": case(functools.partial(jconv.rms_norm, axes=(1, 2)), IMAGE, (2**16, 2**16, 1)),
    "local_response_norm": case(lambda x: jconv.local_response_norm(x, 3), (1, 1, 1, MOST)),
    "filter_response_norm": case(jconv.filter_response_norm, IMAGE, CHANNEL, CHANNEL),
    "tlu": case(jconv.tlu, IMAGE, CHANNEL),
    "prelu": case(jconv.prelu, IMAGE, CHANNEL),
    "scale_bias_act": case(jconv.scale_bias_act, IMAGE, CHANNEL, CHANNEL),
    "weight_norm": case(jconv.weight_norm, (2**16, 2**16, 1), CHANNEL),
    "weight_standardize": case(jconv.weight_standardize, (2**16, 2**16, 1)),
    "spectral_norm": case(lambda w, u: jconv.spectral_norm(w, u)[0], (2**16, 2**16, 1), CHANNEL),
    "pixel_shuffle": case(lambda x: jconv.pixel_shuffle(x, 2), (1, 2**16, 2**16, 4)),
    "pixel_unshuffle": case(lambda x: jconv.pixel_unshuffle(x, 2), IMAGE),
    "dropout": case(lambda x: jconv.dropout(KEY, x, 0.5), IMAGE),
    "alpha_dropout": case(lambda x: jconv.alpha_dropout(KEY, x, 0.5), IMAGE),
    "gaussian_dropout": case(lambda x: jconv.gaussian_dropout(KEY, x, 0.5), IMAGE),
    "channel_dropout": case(lambda x: jconv.channel_dropout(KEY, x, 0.5), IMAGE),
    "stochastic_depth": case(lambda x: jconv.stochastic_depth(KEY, x, 0.5), IMAGE),
    "huber": case(losses.huber, IMAGE, IMAGE),
    "mae": case(losses.mae, IMAGE, IMAGE),
    "sigmoid_cross_entropy": case(losses.sigmoid_cross_entropy, IMAGE, IMAGE),
    "sigmoid_focal": case(losses.sigmoid_focal, IMAGE, IMAGE),
    "softmax_focal": case(losses.softmax_focal, (MOST, 2), ((MOST,), jnp.int32)),
    "lax.conv": case(lambda x, w: jconv.lax.conv(x, w, (1, 1), "SAME"), FIRST, (1, 1, 3, 3)),
    "lax.conv_with_general_padding": case(
        lambda x, w: jconv.lax.conv_with_general_padding(x, w, (1, 1), "SAME", None, None),
        FIRST,
        (1, 1, 3, 3),
    ),
    "lax.conv_general_dilated": case(
        lambda x, w: jconv.lax.conv_general_dilated(x, w, (1, 1), "SAME"), FIRST, (1, 1, 3, 3)
    ),
    "lax.conv_general_dilated_local": case(
        lambda x, w: jconv.lax.conv_general_dilated_local(x, w, (1, 1), "VALID", (1, 1)),
        FIRST,
        (1, 1, 2**16, 2**16),
    ),
    "lax.conv_general_dilated_patches": case(
        lambda x: jconv.lax.conv_general_dilated_patches(x, (2, 2), (1, 1), "VALID"), FIRST
    ),
    "lax.conv_transpose": case(
        lambda x, w: jconv.lax.conv_transpose(x, w, (2, 2), "SAME"), IMAGE, (3, 3, 1, 1)
    ),
}

REFUSED = {
    "fft_conv": (
        case(jconv.fft_conv, IMAGE, (3, 3, 1, 1)), "a transform must have fewer than 2**31 points",
    ),
    "drop_block": (
        case(lambda x: jconv.drop_block(KEY, x, 0.5, 3), IMAGE),
        "an example must have fewer than 2**31 numbers",
    ),
    "stochastic_pool": (case(lambda x: jconv.stochastic_pool(KEY, x, 2), IMAGE), POSITIONS),
    "layer_norm_mask": (
        case(lambda x, mask: jconv.layer_norm(x, mask=mask), IMAGE, (IMAGE, jnp.bool_)),
        "where some positions don't count there must be fewer than 2**31",
    ),
    "max_pool": (case(lambda x: jconv.max_pool(x, 2), IMAGE), POSITIONS),
    "min_pool": (case(lambda x: jconv.min_pool(x, 2), LINE), POSITIONS),
    "max_pool_padding": (case(lambda x: jconv.max_pool(x, 2, padding=2**30), SMALL), WINDOWS),
    "max_pool_window": (
        case(lambda x: jconv.max_pool(x, 2**16, padding=2**15), SMALL), WINDOWS,
    ),
    "max_pool_stride": (case(lambda x: jconv.max_pool(x, 2, stride=MOST), SMALL), WINDOWS),
    "max_pool_dilation": (case(lambda x: jconv.max_pool(x, 1, dilation=MOST), SMALL), WINDOWS),
    "adaptive_avg_pool": (case(lambda x: jconv.adaptive_avg_pool(x, 7), IMAGE), POSITIONS),
    "adaptive_max_pool": (case(lambda x: jconv.adaptive_max_pool(x, 7), IMAGE), POSITIONS),
    "global_max_pool": (case(jconv.global_max_pool, IMAGE), POSITIONS),
    "fractional_max_pool": (
        case(lambda x: jconv.fractional_max_pool(KEY, x, 2, output_size=7), IMAGE), POSITIONS,
    ),
    "max_unpool": (
        case(lambda y, at: jconv.max_unpool(y, at, 2**15), SMALL, (SMALL, jnp.int32)), POSITIONS,
    ),
    "grid_sample": (case(jconv.grid_sample, IMAGE, (1, 4, 4, 2)), POSITIONS),
    "deform_conv": (case(jconv.deform_conv, LINE, (1, MOST, 3), (3, 1, 1)), POSITIONS),
    "deform_conv_padding": (
        case(
            functools.partial(jconv.deform_conv, padding=2**30), SMALL[1:], (1, MOST, 3), (3, 1, 1)
        ),
        WINDOWS,
    ),
    "roi_align": (
        case(
            functools.partial(jconv.roi_align, output_size=7, sampling_ratio=2),
            (2**17, 2**7, 2**7, 1), *BOXES,
        ),
        "the images N, H, W together must have fewer than 2**31 pixels",
    ),
    "roi_pool": (
        case(functools.partial(jconv.roi_pool, output_size=7), IMAGE, *BOXES),
        "the images N, H, W together must have fewer than 2**31 pixels",
    ),
    "resize": (
        case(lambda x: jconv.resize(x, 4), LINE), "an axis must have fewer than 2**31 pixels",
    ),
    "resize_to": (
        case(lambda x: jconv.resize(x, MOST), (1, 4, 1)), "an axis must have fewer than 2**31",
    ),
    "softmax_cross_entropy": (
        case(losses.softmax_cross_entropy, (2, MOST), ((2,), jnp.int32)),
        "integer labels must be of fewer than 2**31 classes; got logits (2, 2147483648)",
    ),
    "dice": (
        case(functools.partial(losses.dice, ignore_index=0), IMAGE, (IMAGE[:-1], jnp.int32)),
        "where some positions don't count there must be fewer than 2**31",
    ),
    "mse": (
        case(lambda x, mask: losses.mse(x, x, mask=mask), IMAGE, (IMAGE, jnp.bool_)),
        "where some positions don't count there must be fewer than 2**31",
    ),
}  # fmt: skip


def gradient(f, *operands):
    """The result, and the cotangents of the operands."""
    y, vjp = jax.vjp(f, *operands)
    return y, vjp(y)


@pytest.mark.parametrize("name", WORK)
def test_works(name):
    """No index is cut to 32 bits on the way, of which JAX warns, forward or backward."""
    f, operands = WORK[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, gradients = jax.eval_shape(functools.partial(gradient, f), *operands)
    assert [g.shape for g in gradients] == [o.shape for o in operands]


@pytest.mark.parametrize("name", REFUSED)
def test_refuses_and_says_why(name):
    (f, operands), message = REFUSED[name]
    with pytest.raises(ValueError, match=r"^[a-z_]+: ") as error:
        jax.eval_shape(f, *operands)
    assert message in str(error.value)


@pytest.mark.parametrize("stride", [2**30, MOST, MOST + 2])
def test_convolution_reads_right_beyond_int32(stride):
    """Between two paddings of 2**31 pixels each window still reads its own."""
    x, w = jnp.arange(1.0, 6)[None, :, None], jnp.ones((1, 1, 1))
    y, dx = gradient(lambda x: jconv.conv(x, w, padding=MOST, stride=stride), x)
    read = [i * stride - MOST for i in range(y.size)]
    expected = [float(p + 1) if 0 <= p < 5 else 0.0 for p in read]
    np.testing.assert_array_equal(y.ravel(), expected)
    np.testing.assert_array_equal(dx[0].ravel(), [p + 1 if p in read else 0 for p in range(5)])
    mean = jconv.avg_pool(x, 1, padding=MOST, stride=stride)
    np.testing.assert_array_equal(mean.ravel(), expected)


def test_max_pool_reads_right_below_int32():
    x = jnp.arange(1.0, 6)[None, :, None]
    padding = 2**30 - 8
    y, at = jconv.max_pool(x, 1, padding=padding, stride=padding + 3, return_indices=True)
    np.testing.assert_array_equal(y.ravel(), [-np.inf, 4])
    np.testing.assert_array_equal(at.ravel(), [-1, 3])
