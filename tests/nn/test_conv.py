"""Convolution layers: the numbers and parameters of Flax, and one clear sentence for each wrong
input."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from jconv import nn
from tests.tolerance import assert_close

SAME_AS_FLAX = {
    "plain": {},
    "strides": {"strides": (2, 3)},
    "valid": {"padding": "VALID", "use_bias": False},
    "circular": {"padding": "CIRCULAR", "strides": 2},
    "reflect": {"padding": "REFLECT", "kernel_dilation": 2},
    "pairs": {"padding": [(1, 2), 0]},
    "grouped": {"feature_group_count": 2, "padding": 1},
    "input_dilated": {"input_dilation": 2, "padding": [(1, 2), (0, 1)]},
    "masked": {"mask": jnp.tril(jnp.ones((3, 2, 4, 6)))},
    "bfloat16": {"dtype": jnp.bfloat16},
}
TRANSPOSED_AS_FLAX = {
    "plain": {},
    "strides": {"strides": 2},
    "stride_over_kernel": {"strides": (4, 3)},
    "valid": {"strides": 3, "padding": "VALID"},
    "transpose_kernel": {"strides": 2, "transpose_kernel": True},
    "circular": {"strides": 2, "padding": "CIRCULAR"},
    "circular_small": {"strides": (1, 3), "padding": "CIRCULAR", "kernel_dilation": (4, 1)},
    "circular_adjoint": {"strides": 3, "padding": "CIRCULAR", "transpose_kernel": True},
    "pairs_dilated": {"padding": [(1, 2), 0], "strides": 2, "kernel_dilation": 2},
}


@pytest.mark.parametrize("kwargs", SAME_AS_FLAX.values(), ids=SAME_AS_FLAX)
def test_conv_is_flax_conv(kwargs, key):
    ours, flax = (m(4, 6, (3, 2), rngs=nnx.Rngs(1), **kwargs) for m in (nn.Conv, nnx.Conv))
    x = jax.random.normal(key, (2, 9, 8, 4))
    assert_close(ours(x), flax(x), terms=3 * 2 * 4)
    assert ours(x).dtype == flax(x).dtype
    _same_parameters(ours, flax)


@pytest.mark.parametrize("kwargs", TRANSPOSED_AS_FLAX.values(), ids=TRANSPOSED_AS_FLAX)
def test_conv_transpose_is_flax_conv_transpose(kwargs, key):
    kinds = (nn.ConvTranspose, nnx.ConvTranspose)
    ours, flax = (m(4, 6, (3, 2), rngs=nnx.Rngs(1), **kwargs) for m in kinds)
    x = jax.random.normal(key, (2, 5, 4, 4))
    assert_close(ours(x), flax(x), terms=3 * 2 * 4)
    _same_parameters(ours, flax)


def test_kernel_size_says_how_many_spatial_axes(key):
    assert nn.Conv(3, 4, 3, rngs=nnx.Rngs(0))(jnp.zeros((2, 7, 3))).shape == (2, 7, 4)
    assert nn.Conv(3, 4, (2, 3, 3), rngs=nnx.Rngs(0))(jnp.zeros((1, 4, 5, 6, 3))).shape == (
        1,
        4,
        5,
        6,
        4,
    )


def test_any_number_of_batch_axes(key):
    layer, x = nn.Conv(3, 4, (3, 3), rngs=nnx.Rngs(0)), jax.random.normal(key, (2, 5, 6, 7, 3))
    assert_close(layer(x)[1, 4], layer(x[1, 4]), terms=27)


def test_transposed_kernel_is_the_adjoint_of_conv(key):
    conv = nn.Conv(4, 6, (3, 2), strides=2, use_bias=False, rngs=nnx.Rngs(1))
    back = nn.ConvTranspose(
        6, 4, (3, 2), strides=2, transpose_kernel=True, use_bias=False, rngs=nnx.Rngs(1)
    )
    back.kernel[...] = conv.kernel[...]
    x = jax.random.normal(key, (1, 8, 6, 4))
    y = jax.random.normal(key, (1, 4, 3, 6))
    (dx,) = jax.linear_transpose(conv, x)(y)
    assert_close(back(y), dx, terms=3 * 2 * 6)


@pytest.mark.parametrize(
    ("kwargs", "shape", "message"),
    [
        ({}, (5,), r"Conv: inputs must be .* with 2 spatial axes.*rank 1, shape \(5,\)"),
        ({}, (1, 8, 8, 4), r"have 4 channels but in_features=3; got inputs \(1, 8, 8, 4\)"),
        ({"padding": "VALID"}, (1, 2, 8, 3), r"conv: a window .* not fit in an input of \(2, 8\)"),
        ({"padding": -1}, (1, 8, 8, 3), r"conv: padding must not be negative"),
        ({"padding": "SMAE"}, (1, 8, 8, 3), r"conv: padding must be one of SAME, .*got 'SMAE'"),
    ],
)  # fmt: skip
def test_says_what_is_wrong_with_a_call(kwargs, shape, message):
    layer = nn.Conv(3, 4, (3, 3), rngs=nnx.Rngs(0), **kwargs)
    with pytest.raises(ValueError, match=message):
        layer(jnp.zeros(shape))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"feature_group_count": 0}, r"feature_group_count must be at least 1"),
        ({"feature_group_count": 2}, r"must divide into feature_group_count groups; got in"),
        ({"strides": 0}, r"Conv: strides must be at least 1; got strides=0"),
        ({"kernel_size": ()}, r"^Conv: kernel_size must have one entry or more, .*; got \(\)"),
        ({"kernel_dilation": (1, 2, 3)}, r"Conv: kernel_dilation must be an int or one int"),
        ({"padding": "CIRCULAR", "padding_mode": "reflect"}, r"got padding_mode='reflect' beside"),
        ({"mask": jnp.ones((3, 3))}, r"Conv: mask must have the kernel's shape \(3, 3, 3, 4\)"),
    ],
)  # fmt: skip
def test_says_what_is_wrong_with_a_layer(kwargs, message):
    with pytest.raises(ValueError, match=message):
        nn.Conv(3, 4, **{"kernel_size": (3, 3), "rngs": nnx.Rngs(0), **kwargs})


def test_lists_for_arrays_and_tuples():
    """A layer is hashable, so that its graph can be a static argument."""
    options = {"padding": [(1, 1), (0, 0)], "strides": [2, 1], "mask": [[[[1.0]]]]}
    layer = nn.Conv(1, 1, [1, 1], rngs=nnx.Rngs(0), **options)
    assert hash(nnx.split(layer)[0]) == hash(nnx.split(layer)[0])
    assert layer([[[[2.0]], [[3.0]]]]).shape == (1, 2, 1, 1)


def test_padding_in_an_array():
    layer = nn.Conv(1, 1, (3, 3), padding=jnp.array([1, 0]), rngs=nnx.Rngs(0))
    hash(nnx.split(layer)[0])
    assert layer.padding == (1, 0)
    assert nnx.jit(lambda m, x: m(x))(layer, jnp.ones((1, 4, 4, 1))).shape == (1, 4, 2, 1)


def _same_parameters(ours, flax):
    ours, flax = (jax.tree.leaves_with_path(nnx.state(layer)) for layer in (ours, flax))
    assert [(path, leaf.shape) for path, leaf in ours] == [
        (path, leaf.shape) for path, leaf in flax
    ]
