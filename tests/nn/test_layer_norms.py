"""Layer, RMS, group and instance norm as layers: Flax's parameters, numbers and dtypes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jconv.nn.layer_norms import GroupNorm, InstanceNorm, LayerNorm, RMSNorm
from jconv.ops.layer_norms import group_norm, layer_norm
from tests.tolerance import assert_close

random_init = nnx.initializers.normal()

# name: (our layer, Flax's, arguments)
SAME_AS_FLAX = {
    "layer": (LayerNorm, nnx.LayerNorm, {}),
    "layer_of_images": (LayerNorm, nnx.LayerNorm, {"reduction_axes": (1, 2, 3), "epsilon": 1e-2}),
    "layer_of_columns": (LayerNorm, nnx.LayerNorm, {"reduction_axes": (1, 3), "feature_axes": 1}),
    "layer_plain": (LayerNorm, nnx.LayerNorm, {"use_bias": False, "use_scale": False}),
    "layer_bfloat16": (LayerNorm, nnx.LayerNorm, {"dtype": jnp.bfloat16}),
    "layer_of_bfloat16": (LayerNorm, nnx.LayerNorm, {"param_dtype": jnp.bfloat16}),
    "rms": (RMSNorm, nnx.RMSNorm, {}),
    "rms_of_images": (RMSNorm, nnx.RMSNorm, {"reduction_axes": (1, 2, 3), "use_scale": False}),
    "group": (GroupNorm, nnx.GroupNorm, {"num_groups": 2}),
    "group_size": (GroupNorm, nnx.GroupNorm, {"num_groups": None, "group_size": 1}),
    "group_axes": (GroupNorm, nnx.GroupNorm, {"num_groups": 2, "reduction_axes": (-1, 1, 2)}),
    "instance": (InstanceNorm, nnx.InstanceNorm, {}),
    "instance_first": (InstanceNorm, nnx.InstanceNorm, {"feature_axes": 1, "use_bias": False}),
}
each = pytest.mark.parametrize(("ours", "flax", "kwargs"), SAME_AS_FLAX.values(), ids=SAME_AS_FLAX)


@each
@pytest.mark.parametrize("masked", [False, True])
def test_is_flax(ours, flax, kwargs, masked, key):
    """Parameters from the same seed, the same checkpoint, outputs and their dtype."""
    inits = {"scale_init": random_init}
    if ours is not RMSNorm:
        inits["bias_init"] = random_init
    ours, flax = (layer(4, **kwargs, **inits, rngs=nnx.Rngs(0)) for layer in (ours, flax))
    state, expected = nnx.state(ours), nnx.state(flax)
    assert jax.tree.structure(state) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, state, expected)
    nnx.update(ours, nnx.state(flax))
    x = 2 * jax.random.normal(key, (3, 4, 2, 4)) + 1
    mask = (jnp.indices(x.shape).sum(0) % 3 > 0) if masked else None
    with jax.numpy_dtype_promotion("standard"):  # Flax mixes dtypes where it is given two
        y, expected = ours(x, mask=mask), flax(x, mask=mask)
    assert y.dtype == expected.dtype
    # Flax's E[x^2] - E[x]^2 loses digits, and with bfloat16 it rounds between its steps.
    assert_close(y, expected, terms=100 * x.size)


def test_input_and_parameters_meet_in_one_dtype():
    """As in Flax: bfloat16 with float32 parameters is float32, unless dtype says otherwise."""
    x = jnp.ones((2, 3, 4), jnp.bfloat16)
    with jax.numpy_dtype_promotion("standard"):
        for layer in (LayerNorm, RMSNorm, InstanceNorm):
            assert layer(4, rngs=nnx.Rngs(0))(x).dtype == jnp.float32
            assert layer(4, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))(x).dtype == jnp.bfloat16


def test_statistics_of_more_axes_than_the_examples(key):
    """Frames of a film by themselves: where flax.nnx.GroupNorm mixes the frames' statistics."""
    film = jax.random.normal(key, (2, 3, 4, 5, 4)) * jnp.arange(1.0, 4)[:, None, None, None]
    y = GroupNorm(4, num_groups=2, reduction_axes=(2, 3, 4), rngs=nnx.Rngs(0))(film)
    frames = group_norm(film.reshape(6, 4, 5, 4), groups=2, epsilon=1e-6)
    np.testing.assert_allclose(y, frames.reshape(film.shape), atol=1e-6)


def test_features_along_two_axes(key):
    x = jax.random.normal(key, (5, 2, 3))
    layer = LayerNorm(
        6, reduction_axes=(1, 2), feature_axes=(1, 2), scale_init=random_init, rngs=nnx.Rngs(0)
    )
    scale = layer.scale[...].reshape(2, 3)
    expected = layer_norm(x, scale, axes=(1, 2), epsilon=1e-6)
    np.testing.assert_allclose(layer(x), expected, rtol=1e-6)


@pytest.mark.parametrize("axes", [[1, 2], np.array([1, 2])], ids=["list", "array"])
@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (LayerNorm, ("reduction_axes", "feature_axes")),
        (RMSNorm, ("reduction_axes", "feature_axes")),
        (InstanceNorm, ("feature_axes",)),
        (GroupNorm, ("reduction_axes",)),
    ],
)
def test_axes_in_lists_and_arrays_are_tuples(kind, names, axes, key):
    """A layer is hashable, so that its graph can be a static argument."""
    features = 3 if kind is GroupNorm else 6
    options = {"num_groups": 1} if kind is GroupNorm else {}
    x = jax.random.normal(key, (5, 2, 3) if kind is not InstanceNorm else (5, 2, 3, 4))

    def made(axes):
        return kind(features, rngs=nnx.Rngs(0), **dict.fromkeys(names, axes), **options)

    hash(nnx.split(made(axes))[0])
    y = nnx.jit(lambda m, x: m(x))(made(axes), x)
    np.testing.assert_allclose(y, made((1, 2))(x), atol=1e-5)


def layer(kind, *args, **kwargs):
    return kind(*args, rngs=nnx.Rngs(0), **kwargs)


X = jnp.ones((2, 3, 4))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: layer(LayerNorm, 3)(X), r"LayerNorm: x must have num_features=3 on axes -1; got"),
        (lambda: layer(RMSNorm, 4, feature_axes=5)(X), r"RMSNorm: x must have num_features=4 on a"),
        (lambda: layer(InstanceNorm, 1)(X), r"InstanceNorm: x must have num_features=1 on axes -1"),
        (lambda: layer(InstanceNorm, 4)(X[0]), r"InstanceNorm: .* and an axis of pixels; got x"),
        (lambda: layer(InstanceNorm, 2, feature_axes=0)(X), r"feature_axes must not name, .*axes="),
        (lambda: layer(GroupNorm, 4, 3), r"num_groups must divide num_features; got num_groups=3,"),
        (lambda: layer(GroupNorm, 4, None, 3), r"group_size must divide num_features; got group_s"),
        (lambda: layer(GroupNorm, 4, None), r"give num_groups or group_size, and None for the oth"),
        (lambda: layer(GroupNorm, 4, 2, 2), r"and None for the other; got num_groups=2, group_siz"),
        (lambda: layer(GroupNorm, 4, 0), r"GroupNorm: num_groups must be at least 1; got num_grou"),
        (lambda: layer(GroupNorm, 4, 2, reduction_axes=1)(X), r"reduction_axes must hold the last"),
        (lambda: layer(GroupNorm, 6, 2)(X), r"GroupNorm: x must have num_features=6 on axes -1; g"),
    ],
)
def test_says_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("kind", [LayerNorm, RMSNorm, InstanceNorm, GroupNorm])
def test_refuses_groups_of_devices(kind):
    with pytest.raises(ValueError, match=f"{kind.__name__}: axis_index_groups is not supported"):
        layer(kind, 32, axis_index_groups=[[0, 1]])
