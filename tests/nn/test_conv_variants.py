"""Layers of convolution's relatives: parameters and numbers of Flax, and one call to the op."""

import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jconv
from jconv.nn import Conv
from jconv.nn.blur_pool import BlurPool
from jconv.nn.conv_local import ConvLocal
from jconv.nn.partial_conv import PartialConv
from jconv.nn.separable_conv import DepthwiseConv, SeparableConv
from jconv.ops.blur_pool import blur_pool
from jconv.ops.causal_mask import causal_mask
from jconv.ops.partial_conv import partial_conv
from jconv.ops.separable_conv import separable_conv
from tests import often
from tests.tolerance import assert_close

LOCAL = {
    "strides": {"strides": (2, 3)},
    "valid_dilated": {"padding": "VALID", "use_bias": False, "kernel_dilation": (1, 2)},
    "circular": {"padding": "CIRCULAR", "strides": 2},
    "masked": {"mask": jnp.tril(jnp.ones((7, 6, 18, 4)))},
    "bfloat16": {"dtype": jnp.bfloat16},
}


@pytest.mark.parametrize("options", often.cases(LOCAL, ("strides", "masked")))
def test_conv_local_is_linens(options, key):
    """The same parameters by name and shape, and the same numbers from them."""
    x = jax.random.normal(key, (2, 7, 6, 3))
    theirs = linen.ConvLocal(4, (3, 2), **options)
    expected, variables = theirs.init_with_output(jax.random.key(1), x)
    ours = ConvLocal(3, 4, (3, 2), input_size=(7, 6), rngs=nnx.Rngs(0), **options)
    params = {**variables["params"]}
    if "bias" in params:
        params["bias"] = jax.random.normal(key, params["bias"].shape)
        expected = theirs.apply({"params": params}, x)
    for name, value in params.items():
        parameter = getattr(ours, name)
        assert parameter.shape == value.shape
        parameter[...] = value
    y = ours(x)
    assert y.dtype == expected.dtype
    assert_close(y, np.asarray(expected), terms=2 * 18)


def test_conv_local_takes_any_number_of_batch_axes(key):
    layer = ConvLocal(2, 3, 3, input_size=5, rngs=nnx.Rngs(0))
    x = jax.random.normal(key, (2, 4, 5, 2))
    assert_close(layer(x)[1], np.asarray(layer(x[1])), terms=6)


@pytest.mark.parametrize(
    ("options", "shape", "message"),
    [
        ({}, (1, 6, 2), r"inputs must be .* with input_size=\(5,\); got inputs \(1, 6, 2\)"),
        ({}, (1, 5, 3), r"inputs have 3 channels but in_features=2"),
        ({"mask": jnp.ones((5, 6))}, None, r"mask must have the kernel's shape \(5, 6, 3\)"),
        ({"padding": "FULL"}, None, r"padding must be one of"),
        (
            {"padding": "CIRCULAR", "padding_mode": "reflect"},
            None,
            r"padding='CIRCULAR' is a padding_mode of its own; got padding_mode='reflect' beside",
        ),
        ({"kernel_dilation": 0}, None, r"dilation must be at least 1"),
    ],
)  # fmt: skip
def test_conv_local_says_what_is_wrong(options, shape, message):
    with pytest.raises(ValueError, match=f"^ConvLocal: .*{message}"):
        ConvLocal(2, 3, 3, input_size=5, rngs=nnx.Rngs(0), **options)(jnp.zeros(shape))


def test_conv_local_says_what_is_wrong_with_a_list():
    layer = ConvLocal(1, 1, 3, input_size=5, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"with input_size=\(5,\); got inputs \(1, 2, 1\)"):
        layer([[[1.0], [2.0]]])


def test_depthwise_conv_is_flaxs_grouped_one(key):
    x = jax.random.normal(key, (2, 5, 4, 3))
    ours = DepthwiseConv(3, (3, 2), 2, channel_multiplier=2, padding="VALID", rngs=nnx.Rngs(1))
    theirs = nnx.Conv(3, 6, (3, 2), 2, feature_group_count=3, padding="VALID", rngs=nnx.Rngs(1))
    assert ours.kernel.shape == theirs.kernel.shape == (3, 2, 1, 6)
    assert_close(ours(x), np.asarray(theirs(x)), terms=6)


def test_separable_conv_is_the_operation(key):
    layer = SeparableConv(
        3, 4, (3, 2), (2, 1), channel_multiplier=2, kernel_dilation=(1, 2), padding_mode="circular",
        bias_init=nnx.initializers.normal(), rngs=nnx.Rngs(0),
    )  # fmt: skip
    d, p, b = layer.depthwise_kernel[...], layer.pointwise_kernel[...], layer.bias[...]
    assert (d.shape, p.shape, b.shape) == ((3, 2, 1, 6), (1, 1, 6, 4), (4,))
    x = jax.random.normal(key, (2, 3, 5, 4, 3))
    options = {"stride": (2, 1), "dilation": (1, 2), "padding_mode": "circular"}
    assert_close(layer(x)[1], np.asarray(separable_conv(x[1], d, p, b, **options)), terms=12)


def test_separable_conv_in_bfloat16_without_bias():
    layer = SeparableConv(3, 4, 3, use_bias=False, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    assert layer(jnp.ones((1, 5, 3))).dtype == jnp.bfloat16
    with pytest.raises(ValueError, match=r"^SeparableConv: inputs have 2 channels but in_f"):
        layer(jnp.ones((1, 5, 2)))
    with pytest.raises(ValueError, match=r"^SeparableConv: channel_multiplier must be at least 1"):
        SeparableConv(3, 4, 3, channel_multiplier=0, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"^DepthwiseConv: channel_multiplier must be at least 1"):
        DepthwiseConv(3, 3, channel_multiplier=0, rngs=nnx.Rngs(0))


def test_partial_conv_is_the_operation(key):
    options = {"strides": 2, "feature_group_count": 2, "bias_init": nnx.initializers.normal()}
    layer = PartialConv(4, 6, (3, 2), rngs=nnx.Rngs(0), **options)
    assert layer.kernel.shape == Conv(4, 6, (3, 2), rngs=nnx.Rngs(0), **options).kernel.shape
    x, mask = jax.random.normal(key, (2, 5, 4, 4)), jax.random.bernoulli(key, 0.3, (2, 5, 4, 4))
    kernel, bias = layer.kernel[...], layer.bias[...]
    expected = partial_conv(x, mask, kernel, bias, stride=2, groups=2)
    for a, e in zip(layer(x, mask), expected, strict=True):
        np.testing.assert_array_equal(a, e)
    with pytest.raises(ValueError, match=r"^PartialConv: in_features and out_features must div"):
        PartialConv(3, 6, 3, feature_group_count=2, rngs=nnx.Rngs(0))


def test_blur_pool_is_the_operation(key):
    x = jax.random.normal(key, (1, 5, 4, 2))
    layer = BlurPool((3, 2), (2, 1), padding_mode="circular")
    expected = blur_pool(x, (3, 2), stride=(2, 1), padding_mode="circular")
    np.testing.assert_array_equal(layer(x), expected)
    np.testing.assert_array_equal(BlurPool()(x), blur_pool(x))


def test_conv_takes_a_causal_mask(key):
    mask = causal_mask((3, 3), 2, 4, "A")
    layer = Conv(2, 4, (3, 3), mask=mask, use_bias=False, rngs=nnx.Rngs(0))
    x = jax.random.normal(key, (1, 4, 5, 2))
    assert_close(layer(x), np.asarray(jconv.conv(x, layer.kernel[...] * mask)), terms=18)
