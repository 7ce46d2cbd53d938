"""Resizing, shuffling and deformable layers against the operations they call, and flax.nnx.Conv."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jconv import nn
from jconv.nn.sampling import DeformConv, PixelShuffle, PixelUnshuffle, Resize
from jconv.ops.deform_conv import deform_conv
from jconv.ops.pixel_shuffle import pixel_shuffle
from jconv.ops.resize import resize
from tests.tolerance import assert_close


def test_layers_pass_their_arguments_on(key):
    x = jax.random.normal(key, (2, 4, 6, 8))
    options = {"method": "cubic", "align_corners": True, "antialias": True}
    y = jax.jit(Resize((2, 9), **options))(x)
    assert_close(y, jax.jit(lambda x: resize(x, (2, 9), **options))(x), terms=1)
    y = Resize(scale=1.6, method="linear", implementation="matrix")(x)
    np.testing.assert_array_equal(y, resize(x, scale=1.6, method="linear", implementation="matrix"))
    np.testing.assert_array_equal(PixelShuffle((2, 1))(x), pixel_shuffle(x, (2, 1)))
    np.testing.assert_array_equal(PixelUnshuffle((2, 1))(PixelShuffle((2, 1))(x)), x)


def test_sequential_takes_every_layer(key):
    rngs = nnx.Rngs(0)
    model = nn.Sequential(
        nn.Conv(1, 8, (3, 3), rngs=rngs), PixelShuffle(2), DeformConv(2, 3, (3, 3), rngs=rngs),
        Resize(5, method="linear"),
    )  # fmt: skip
    y = jax.eval_shape(model, jax.random.normal(key, (3, 4, 4, 1)))
    assert y.shape == (3, 5, 5, 3)


@pytest.mark.parametrize("pair", [[2, 1], np.array([2, 1])], ids=["list", "array"])
@pytest.mark.parametrize(
    ("layer", "same"),
    [
        (Resize, Resize((2, 1))),
        (lambda pair: Resize(scale=pair), Resize(scale=(2.0, 1.0))),
        (PixelShuffle, PixelShuffle((2, 1))),
        (PixelUnshuffle, PixelUnshuffle((2, 1))),
    ],
    ids=["size", "scale", "shuffle", "unshuffle"],
)
def test_lists_and_arrays_are_tuples(layer, same, pair, key):
    """A layer is hashable, so that its graph can be a static argument."""
    x = jax.random.normal(key, (1, 4, 3, 2))
    hash(nnx.split(layer(pair))[0])
    y = nnx.jit(lambda m, x: m(x))(layer(pair), x)
    np.testing.assert_array_equal(y, same(x))


def test_deform_conv_takes_none_for_one():
    layer = DeformConv(4, 6, (3, 3), None, kernel_dilation=None, rngs=nnx.Rngs(0))
    assert (layer.strides, layer.kernel_dilation) == ((1, 1), (1, 1))


@pytest.mark.parametrize("use_modulation", [False, True])
def test_deform_conv_starts_as_conv(use_modulation, key):
    """Taps on their regular places, each multiplied by sigmoid(0)."""
    options = {"strides": 2, "padding": 1, "kernel_dilation": 2, "feature_group_count": 2}
    layer = DeformConv(
        4, 6, (3, 3), offset_groups=2, use_modulation=use_modulation, rngs=nnx.Rngs(0), **options
    )
    flax = nnx.Conv(4, 6, (3, 3), rngs=nnx.Rngs(1), **options)
    factor = 0.5 if use_modulation else 1.0
    flax.kernel[...] = layer.kernel[...] * factor
    x = jax.random.normal(key, (2, 7, 8, 4))
    assert_close(jax.jit(lambda x: layer(x))(x), flax(x), terms=64)


def test_deform_conv_is_the_operation(key):
    layer = DeformConv(
        4, 6, (3, 2), offset_groups=2, bias_init=nnx.initializers.ones, rngs=nnx.Rngs(0)
    )
    offset, modulation = layer.offset, layer.modulation
    for part in (offset, modulation):
        part.kernel[...] = jax.random.normal(key, part.kernel.shape) / 4
    x = jax.random.normal(key, (2, 5, 4, 4))
    expected = jax.jit(deform_conv)(
        x, offset(x), layer.kernel[...], layer.bias[...], jax.nn.sigmoid(modulation(x))
    )
    assert_close(jax.jit(lambda x: layer(x))(x), expected, terms=64)
    graph, state = nnx.split(layer)
    grads = jax.jit(jax.grad(lambda state: (nnx.merge(graph, state)(x) ** 2).sum()))(state)
    assert all(g.any() for g in jax.tree.leaves(grads))


def test_deform_conv_has_the_parameters_of_flax_conv():
    layer, flax = (
        DeformConv(4, 6, (3, 2), rngs=nnx.Rngs(0)),
        nnx.Conv(4, 6, (3, 2), rngs=nnx.Rngs(0)),
    )
    for name in ("kernel", "bias"):
        ours, theirs = getattr(layer, name)[...], getattr(flax, name)[...]
        np.testing.assert_array_equal(ours, theirs)
    assert layer.offset.kernel.shape == (3, 2, 4, 12)
    assert layer.modulation.kernel.shape == (3, 2, 4, 6)
    low = DeformConv(4, 6, (3, 2), use_bias=False, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    assert low.bias is None
    assert jax.eval_shape(low, jnp.ones((1, 4, 4, 4))).dtype == jnp.bfloat16


@pytest.mark.parametrize(
    "wrong", [{"feature_group_count": 3}, {"offset_groups": 3}, {"feature_group_count": 4}]
)
def test_deform_conv_says_what_is_wrong(wrong):
    with pytest.raises(ValueError, match=r"^DeformConv: in_features and out_features must divide"):
        DeformConv(4, 6, (3, 3), rngs=nnx.Rngs(0), **wrong)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ((4.0, 6), r"in_features must be an int; got 4.0"),
        ((4, 6.0), r"out_features must be an int; got 6.0"),
    ],
)
def test_deform_conv_says_which_features_are_wrong(features, message):
    with pytest.raises(ValueError, match=f"^DeformConv: {message}"):
        DeformConv(*features, (3, 3), rngs=nnx.Rngs(0))


@pytest.mark.parametrize("options", [{}, {"size": 4, "scale": 2.0}])
def test_resize_is_refused_when_it_is_made(options):
    with pytest.raises(ValueError, match=r"^Resize: either size or scale .*; got size="):
        nn.Resize(**options)
