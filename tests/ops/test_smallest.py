"""Axes of one and of no element: nothing is broadcast by accident, nothing divided by zero.

Every operation with windows of one pixel and factors of 1, so that its result has the sizes of the
image, whatever they are; what it makes of one pixel of 2, with weights of 3, is written beside it.
"""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jconv
import jconv.lax
from jconv import losses

KEY = jax.random.key(0)
BOX = np.array([[0, 0, 0, 0]], np.float32)
FIRST = np.zeros(1, np.int32)


def image(n, h, c):
    return (n, h, 1, c)


def windows(n, h, c):
    return (n, h, 1, 1, 1, c)


def matrices(n, h, c):
    return (n, 2, 3)


def channels_second(n, h, c):
    return (n, c, h, 1)


def filters_first(n, h, c):
    return (1, c, 1, 1)


def pointwise(n, h, c):
    return (1, 1, c, 1)


def depthwise(n, h, c):
    return (1, 1, 1, c)


def channels(n, h, c):
    return (c,)


def filters(n, h, c):
    return (1,)


def valid(f):
    return functools.partial(f, padding="VALID")


def random(f, *args):
    return lambda x: f(KEY, x, *args)


def labelled(f):
    return lambda x: f(x, jnp.zeros(x.shape[:-1], jnp.int32), reduction="none")


def halved(f):
    return lambda x: f(x, x / 2, reduction="none")


# name: function, shapes of its operands, result for one pixel, axes that must not be empty
CASES = {
    "conv": (valid(jconv.conv), (image, pointwise), 6, ""),
    "conv_transpose": (valid(jconv.conv_transpose), (image, depthwise), 6, ""),
    "depthwise_conv": (valid(jconv.depthwise_conv), (image, depthwise), 6, "C"),
    "separable_conv": (valid(jconv.separable_conv), (image, depthwise, pointwise), 18, "C"),
    "conv_local": (
        valid(jconv.conv_local), (image, lambda n, h, c: (h, 1, 1, 1, c, 1)), 6, "",
    ),
    "partial_conv": (
        lambda x, w: jconv.partial_conv(x, jnp.ones((*x.shape[:3], 1)), w, padding="VALID")[0],
        (image, pointwise), 6, "",
    ),
    "fft_conv": (valid(jconv.fft_conv), (image, pointwise), 6, ""),
    "deform_conv": (
        lambda x, w: jconv.deform_conv(x, jnp.zeros((*x.shape[:3], 2)), w, padding=0),
        (image, pointwise), 6, "H",
    ),
    "dcls_conv": (
        lambda x, w: jconv.dcls_conv(x, w, jnp.zeros((1, 1, 1, 2)), window=1),
        (image, lambda n, h, c: (1, c, 1)), 6, "",
    ),
    "spectral_pool": (
        lambda x: jconv.spectral_pool(x, size=x.shape[1:3]), (image,), 2, "H",
    ),
    "pad": (lambda x: jconv.pad(x, 0), (image,), 2, ""),
    "blur_pool": (lambda x: jconv.blur_pool(x, 1, stride=1), (image,), 2, "H"),
    "unfold": (functools.partial(jconv.unfold, window=1), (image,), 2, ""),
    "fold": (lambda y: jconv.fold(y, y.shape[1:3]), (windows,), 2, ""),
    "conv_matrix": (lambda w: jconv.conv_matrix(w, 1), (lambda n, h, c: (1, c, 1),), 3, ""),
    "conv_singular_values": (
        lambda w: jconv.conv_singular_values(w, 1), (lambda n, h, c: (1, c, c),), 3, "",
    ),
    "conv_norm_bound": (jconv.conv_norm_bound, (pointwise,), 3, ""),
    "max_pool": (lambda x: jconv.max_pool(x, 1), (image,), 2, ""),
    "max_pool_tied": (lambda x: jconv.max_pool(x, 1, ties="shared"), (image,), 2, ""),
    "min_pool": (lambda x: jconv.min_pool(x, 1), (image,), 2, ""),
    "avg_pool": (lambda x: jconv.avg_pool(x, 1), (image,), 2, ""),
    "lp_pool": (lambda x: jconv.lp_pool(x, 1, 3), (image,), 2, ""),
    "max_unpool": (
        lambda y: jconv.max_unpool(y, jnp.zeros(y.shape, jnp.int32), 1), (image,), 2, "",
    ),
    "adaptive_avg_pool": (lambda x: jconv.adaptive_avg_pool(x, 1), (image,), 2, "H"),
    "adaptive_max_pool": (lambda x: jconv.adaptive_max_pool(x, 1), (image,), 2, "H"),
    "global_avg_pool": (jconv.global_avg_pool, (image,), 2, "H"),
    "global_max_pool": (jconv.global_max_pool, (image,), 2, "H"),
    "fractional_max_pool": (
        lambda x: jconv.fractional_max_pool(KEY, x, 1, output_size=1), (image,), 2, "H",
    ),
    "stochastic_pool": (lambda x: jconv.stochastic_pool(KEY, x, 1), (image,), 2, ""),
    "maxout": (lambda x: jconv.maxout(x, 1), (image,), 2, ""),
    "batch_norm": (lambda *a: jconv.batch_norm(*a)[0], (image, channels, channels), 3, ""),
    "normalize": (
        lambda x, mean, v: jconv.normalize(x, mean, v, epsilon=1.0),
        (image, channels, channels), -0.5, "",
    ),
    "layer_norm": (jconv.layer_norm, (image, channels, channels), 3, ""),
    "instance_norm": (jconv.instance_norm, (image, channels, channels), 3, ""),
    "group_norm": (
        lambda *a: jconv.group_norm(*a, groups=1), (image, channels, channels), 3, "",
    ),
    "rms_norm": (
        lambda x, scale: jconv.rms_norm(x, scale, epsilon=0.0), (image, channels), 3, "",
    ),
    "local_response_norm": (
        lambda x: jconv.local_response_norm(x, 1, alpha=0.0), (image,), 2, "",
    ),
    "filter_response_norm": (
        lambda *a: jconv.filter_response_norm(*a, epsilon=0.0), (image, channels, channels), 6, "",
    ),
    "tlu": (jconv.tlu, (image, channels), 3, ""),
    "weight_norm": (
        lambda v, g: jconv.weight_norm(v, g, epsilon=0.0), (pointwise, filters), 3, "",
    ),
    "weight_standardize": (jconv.weight_standardize, (pointwise,), 0, ""),
    "spectral_norm": (
        lambda w, u: jconv.spectral_norm(w, u)[0], (pointwise, filters), 1, "",
    ),
    "resize": (lambda x: jconv.resize(x, 1), (image,), 2, "H"),
    "pixel_shuffle": (lambda x: jconv.pixel_shuffle(x, 1), (image,), 2, ""),
    "pixel_unshuffle": (lambda x: jconv.pixel_unshuffle(x, 1), (image,), 2, ""),
    "depth_to_space": (lambda x: jconv.depth_to_space(x, 1), (image,), 2, ""),
    "space_to_depth": (lambda x: jconv.space_to_depth(x, 1), (image,), 2, ""),
    "grid_sample": (
        lambda x: jconv.grid_sample(x, jnp.zeros((len(x), 1, 1, 2))), (image,), 2, "H",
    ),
    "affine_grid": (
        lambda theta: jconv.affine_grid(theta, (1, 1)), (matrices,), 2, "",
    ),
    "roi_align": (
        lambda x: jconv.roi_align(x, BOX, FIRST, output_size=1, sampling_ratio=1), (image,), 2, "H",
    ),
    "roi_pool": (lambda x: jconv.roi_pool(x, BOX, FIRST, output_size=1), (image,), 2, "H"),
    "dropout": (random(jconv.dropout, 0.0), (image,), 2, ""),
    "channel_dropout": (random(jconv.channel_dropout, 0.0), (image,), 2, ""),
    "alpha_dropout": (random(jconv.alpha_dropout, 0.0), (image,), 2, ""),
    "gaussian_dropout": (random(jconv.gaussian_dropout, 0.0), (image,), 2, ""),
    "stochastic_depth": (random(jconv.stochastic_depth, 0.0), (image,), 2, ""),
    "drop_block": (random(jconv.drop_block, 0.0, 1), (image,), 2, ""),
    "prelu": (jconv.prelu, (image, channels), 2, ""),
    "scale_bias_act": (
        functools.partial(jconv.scale_bias_act, activation="relu"), (image, channels, channels), 9,
        "",
    ),
    "losses.softmax_cross_entropy": (labelled(losses.softmax_cross_entropy), (image,), 0, "C"),
    "losses.softmax_focal": (labelled(losses.softmax_focal), (image,), 0, "C"),
    "losses.sigmoid_cross_entropy": (
        lambda x: losses.sigmoid_cross_entropy(x, jnp.ones_like(x), reduction="none"), (image,),
        math.log1p(math.exp(-2)), "",
    ),
    "losses.sigmoid_focal": (
        lambda x: losses.sigmoid_focal(
            x, jnp.ones_like(x), alpha=None, gamma=0.0, reduction="none"
        ), (image,), math.log1p(math.exp(-2)), "",
    ),
    "losses.dice": (halved(functools.partial(losses.dice, smooth=1.0)), (image,), 1 / 6, "C"),
    "losses.mse": (halved(losses.mse), (image,), 1, ""),
    "losses.mae": (halved(losses.mae), (image,), 1, ""),
    "losses.huber": (halved(losses.huber), (image,), 0.5, ""),
    "lax.conv": (
        lambda x, w: jconv.lax.conv(x, w, (1, 1), "VALID"), (channels_second, filters_first), 6, "",
    ),
    "lax.conv_with_general_padding": (
        lambda x, w: jconv.lax.conv_with_general_padding(x, w, (1, 1), "VALID", None, None),
        (channels_second, filters_first), 6, "",
    ),
    "lax.conv_general_dilated": (
        lambda x, w: jconv.lax.conv_general_dilated(x, w, (1, 1), "VALID"),
        (channels_second, filters_first), 6, "",
    ),
    "lax.conv_general_dilated_local": (
        lambda x, w: jconv.lax.conv_general_dilated_local(x, w, (1, 1), "VALID", (1, 1)),
        (channels_second, lambda n, h, c: (1, c, h, 1)), 6, "C",
    ),
    "lax.conv_general_dilated_patches": (
        lambda x: jconv.lax.conv_general_dilated_patches(x, (1, 1), (1, 1), "VALID"),
        (channels_second,), 2, "C",
    ),
    "lax.conv_transpose": (
        lambda x, w: jconv.lax.conv_transpose(x, w, (1, 1), "VALID"), (image, pointwise), 6, "",
    ),
}  # fmt: skip
EMPTY = {"N": (0, 1, 1), "H": (1, 0, 1), "C": (1, 1, 0)}


IMAGES = (image, windows, channels_second, matrices)


@pytest.fixture
def case(name):
    return CASES[name]


def operands(shapes, sizes):
    """2 for an image, 3 for weights."""
    return [jnp.full(shape(*sizes), 2.0 if shape in IMAGES else 3.0) for shape in shapes]


def shape_of(f, shapes, sizes):
    """The result's shape, as it follows from that for other sizes."""
    of = dict(zip((5, 7, 11), sizes, strict=True))
    return tuple(
        of.get(size, size) for size in jax.eval_shape(f, *operands(shapes, (5, 7, 11))).shape
    )


def value_and_grads(f, operands):
    grads = jax.grad(lambda *a: jnp.sum(f(*a)), tuple(range(len(operands))))
    return jax.jit(lambda *a: (f(*a), grads(*a)))(*operands)


@pytest.mark.parametrize("name", CASES)
def test_one_of_each(case):
    f, shapes, expected, _ = case
    args = operands(shapes, (1, 1, 1))
    y, grads = value_and_grads(f, args)
    np.testing.assert_allclose(y, np.full(y.shape, expected), rtol=1e-6)
    assert y.shape == shape_of(f, shapes, (1, 1, 1))
    assert [g.shape for g in grads] == [a.shape for a in args]


@pytest.mark.slow
@pytest.mark.parametrize("axis", EMPTY)
@pytest.mark.parametrize("name", CASES)
def test_none(case, axis):
    f, shapes, _, refused = case
    args = operands(shapes, EMPTY[axis])
    if axis in refused:
        with pytest.raises(ValueError, match="got "):
            f(*args)
        return
    y, grads = value_and_grads(f, args)
    assert y.shape == shape_of(f, shapes, EMPTY[axis])
    assert [g.shape for g in grads] == [a.shape for a in args]
    assert all(np.isfinite(a).all() for a in (y, *grads))
