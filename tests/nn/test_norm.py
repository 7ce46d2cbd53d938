"""BatchNorm: Flax's numbers, statistics and modes; activations of all norms."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from jconv import nn
from tests.tolerance import assert_close

SAME_AS_FLAX = {
    "plain": {},
    "momentum": {"momentum": 0.5, "epsilon": 1e-3},
    "first_axis": {"axis": 1},
    "no_affine": {"use_bias": False, "use_scale": False},
    "bfloat16": {"dtype": jnp.bfloat16},
}


@pytest.mark.parametrize("kwargs", SAME_AS_FLAX.values(), ids=SAME_AS_FLAX)
def test_is_flax_batch_norm(kwargs, key):
    ours, flax = (m(4, rngs=nnx.Rngs(0), **kwargs) for m in (nn.BatchNorm, nnx.BatchNorm))
    x = 3 * jax.random.normal(key, (5, 4, 6, 4)) + 2
    terms = 4 * x.size  # Flax's E[x^2] - E[x]^2 loses digits that the two-pass variance keeps
    with jax.numpy_dtype_promotion("standard"):  # Flax mixes bfloat16 and float32
        expected = flax(x)
    assert_close(ours(x), expected, terms=terms)
    assert_close(ours.mean[...], flax.mean[...], terms=terms)
    assert_close(ours.var[...], flax.var[...], terms=terms)
    for layer in (ours, flax):
        layer.eval()
    with jax.numpy_dtype_promotion("standard"):
        expected = flax(x)
    assert_close(ours(x), expected, terms=terms)
    assert ours(x).dtype == expected.dtype


def test_input_and_parameters_meet_in_one_dtype():
    """As in Flax: bfloat16 with float32 statistics is float32, unless dtype says otherwise."""
    x = jnp.ones((2, 4), jnp.bfloat16)
    with jax.numpy_dtype_promotion("standard"):
        for dtype, expected in ((None, jnp.float32), (jnp.bfloat16, jnp.bfloat16)):
            layers = [m(4, dtype=dtype, rngs=nnx.Rngs(0)) for m in (nn.BatchNorm, nnx.BatchNorm)]
            assert [layer(x).dtype for layer in layers] == [expected, expected]


def test_running_variance_of_pytorch(key):
    """The unbiased one; what the batch is normalised by is not."""
    x = jax.random.normal(key, (3, 2, 2, 4))
    ours, plain = (nn.BatchNorm(4, momentum=0.9, correction=c, rngs=nnx.Rngs(0)) for c in (1, 0))
    assert_close(ours(x), plain(x), terms=12)
    assert_close(ours.var[...], 0.9 + 0.1 * jnp.var(x, (0, 1, 2), ddof=1), terms=12)
    assert_close(plain.var[...], 0.9 + 0.1 * jnp.var(x, (0, 1, 2)), terms=12)


def test_evaluation_changes_no_statistics(key):
    layer = nn.BatchNorm(3, use_running_average=True, rngs=nnx.Rngs(0))
    layer(jax.random.normal(key, (5, 3)))
    assert jnp.all(layer.mean[...] == 0)


def test_view_switches_the_mode(key):
    layer = nn.BatchNorm(3, rngs=nnx.Rngs(0))
    x = jax.random.normal(key, (5, 3)) + 1
    view = nnx.view(layer, use_running_average=True)
    assert_close(view(x), x / jnp.sqrt(1 + 1e-5), terms=1)


def test_mask_says_which_pixels_count(key):
    x = jax.random.normal(key, (4, 2, 2, 3))
    mask = jnp.arange(4)[:, None, None, None] < 3
    masked, cut = (nn.BatchNorm(3, rngs=nnx.Rngs(0)) for _ in range(2))
    assert_close(masked(x, mask=mask)[:3], cut(x[:3]), terms=12)
    assert_close(masked.var[...], cut.var[...], terms=12)


@pytest.mark.parametrize("evaluation", [False, True])
def test_activation(evaluation, key):
    x = jax.random.normal(key, (5, 4, 6, 4))
    plain, held = (nn.BatchNorm(4, activation=a, rngs=nnx.Rngs(0)) for a in (None, "relu"))
    expected = jnp.maximum(plain(x, use_running_average=evaluation), 0)
    assert_close(held(x, use_running_average=evaluation), expected, terms=12)


@pytest.mark.parametrize(
    "make",
    [
        lambda **o: nn.LayerNorm(4, rngs=nnx.Rngs(0), **o),
        lambda **o: nn.GroupNorm(4, num_groups=2, rngs=nnx.Rngs(0), **o),
        lambda **o: nn.InstanceNorm(4, rngs=nnx.Rngs(0), **o),
    ],
)
def test_activation_of_each_example(make, key):
    x = jax.random.normal(key, (5, 4, 6, 4))
    assert_close(make(activation="relu6")(x), jnp.clip(make()(x), 0, 6), terms=12)


@pytest.mark.parametrize(
    ("kwargs", "shape", "message"),
    [
        ({}, (2, 4), r"x must have num_features=3 channels on axis -1; got x \(2, 4\)"),
        ({"axis": 3}, (2, 3), r"channels on axis 3; got x \(2, 3\)"),
        ({"axis_index_groups": [[0, 1]]}, (2, 3), r"axis_index_groups is not supported"),
        ({"activation": "gelu"}, (2, 3), r"BatchNorm: activation must be 'relu', 'relu6' or None"),
    ],
)
def test_says_what_is_wrong(kwargs, shape, message):
    with pytest.raises(ValueError, match=message):
        nn.BatchNorm(3, rngs=nnx.Rngs(0), **kwargs)(jnp.zeros(shape))
