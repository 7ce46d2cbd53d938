"""Layers that learn where they look: the operations that they call, and fields found again."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jconv
from jconv import nn
from jconv.ops.continuous_kernel import gaussian_mask, window_positions
from jconv.ops.dcls_conv import dcls_conv, dilated_positions
from jconv.ops.spectral_pool import spectral_pool
from tests.tolerance import assert_close

CIRCULAR = {"padding": 7, "padding_mode": "circular"}


@pytest.fixture(autouse=True)
def optax_promotes():
    """optax multiplies int32 step counts with Python floats."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def trained(model, x, y, steps, rate, held=()):
    """Adam on the squared error; parameters named in `held` stay."""
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    moves = jax.tree_util.tree_map_with_path(
        lambda path, _: not any(name in jax.tree_util.keystr(path) for name in held), params
    )
    tx = optax.adam(rate)

    @jax.jit
    def step(params, state):
        def loss(params):
            return ((nnx.merge(graph, params, rest)(x) - y) ** 2).mean()

        value, grads = jax.value_and_grad(loss)(params)
        grads = jax.tree.map(lambda g, m: g if m else jnp.zeros_like(g), grads, moves)
        updates, state = tx.update(grads, state)
        return optax.apply_updates(params, updates), state, value

    state = tx.init(params)
    for _ in range(steps):
        params, state, value = step(params, state)
    return nnx.merge(graph, params, rest), float(value)


def smooth(key, n, reach):
    """Lines of noise, in which neighbours within `reach` pixels are alike."""
    taps = np.exp(-0.5 * (np.arange(-3 * reach, 3 * reach + 1) / reach) ** 2)
    taps = jnp.asarray(taps / np.sqrt((taps**2).sum()), jnp.float32)
    return jconv.conv(jax.random.normal(key, (n, 96, 1)), taps[:, None, None])


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("interpolation", ["bilinear", "triangle", "gaussian"])
def test_dcls_is_the_operation(interpolation, shared, key):
    layer = nn.DCLSConv(
        4, 6, (5, 3), 3, 2, interpolation=interpolation, shared_positions=shared,
        feature_group_count=2, padding=1, bias_init=nnx.initializers.ones, rngs=nnx.Rngs(0),
    )  # fmt: skip
    places = (3, 1, 1, 2) if shared else (3, 2, 6, 2)
    assert layer.kernel.shape == (3, 2, 6)
    assert layer.position.shape == places
    assert (layer.sigma is None) == (interpolation == "bilinear")
    x = jax.random.normal(key, (2, 3, 8, 7, 4))
    sigma = None if layer.sigma is None else layer.sigma[...]
    expected = dcls_conv(
        x.reshape(6, 8, 7, 4), layer.kernel[...], layer.position[...], layer.bias[...], sigma,
        window=(5, 3), interpolation=interpolation, stride=2, groups=2, padding=1,
    )  # fmt: skip
    y = layer(x)
    assert_close(y.reshape(expected.shape), expected, terms=64)
    grads = jax.grad(lambda state: (nnx.merge(nnx.graphdef(layer), state)(x) ** 2).sum())(
        nnx.state(layer)
    )
    assert all(jnp.any(g != 0) for g in jax.tree.leaves(grads))


def test_learnable_dilation_is_the_operation(key):
    layer = nn.LearnableDilationConv(
        4, 6, (3, 2), (7, 5), None, dilation=(2.0, 3.3), feature_group_count=2, rngs=nnx.Rngs(0)
    )
    assert layer.kernel.shape == (3, 2, 2, 6)
    x = jax.random.normal(key, (2, 8, 7, 4))
    position = dilated_positions((3, 2), jnp.array([2.0, 3.3]))
    expected = dcls_conv(x, layer.kernel[...].reshape(6, 2, 6), position, window=(7, 5), groups=2)
    assert_close(layer(x), expected, terms=64)


def test_a_whole_dilation_is_that_of_conv(key):
    layer = nn.LearnableDilationConv(2, 3, (3, 3), 7, dilation=3, rngs=nnx.Rngs(0))
    conv = nn.Conv(2, 3, (3, 3), kernel_dilation=3, rngs=nnx.Rngs(0))
    x = jax.random.normal(key, (1, 9, 9, 2))
    assert_close(layer(x), conv(x), terms=18)


def test_dilation_is_found_in_smooth_images(key):
    """Six pixels, from two."""
    x = smooth(key, 16, 3)
    y = jnp.roll(x, 6, 1) - 0.5 * x + jnp.roll(x, -6, 1)
    layer = nn.LearnableDilationConv(1, 1, 3, 15, dilation=2, **CIRCULAR, rngs=nnx.Rngs(0))
    layer, loss = trained(layer, x, y, 500, 0.03)
    assert abs(float(layer.dilation[0]) - 6) < 0.02
    assert loss < 1e-3


def annealed(x, y, sigmas, steps):
    """A Gaussian layer whose sigma is set, not learned, from wide to narrow."""
    layer = nn.LearnableDilationConv(
        1, 1, 3, 21, dilation=2, interpolation="gaussian", padding=10, padding_mode="circular",
        rngs=nnx.Rngs(0),
    )  # fmt: skip
    for sigma in sigmas:
        layer.sigma[...] = jnp.full_like(layer.sigma[...], sigma)
        layer, _ = trained(layer, x, y, steps, 0.03, held=("sigma",))
    return float(layer.dilation[0])


def test_dilation_in_noise_has_a_bad_optimum_and_annealing(key):
    """Between pixels that know nothing of one another bilinear taps stay where they are; Gaussians
    that are wide at first find six pixels."""
    x = jax.random.normal(key, (64, 64, 1))
    y = jnp.roll(x, 6, 1) - 0.5 * x + jnp.roll(x, -6, 1)
    layer = nn.LearnableDilationConv(1, 1, 3, 15, dilation=2, **CIRCULAR, rngs=nnx.Rngs(0))
    stuck, _ = trained(layer, x, y, 400, 0.03)
    assert abs(float(stuck.dilation[0]) - 6) > 2
    assert abs(annealed(x, y, (3.0, 2.0, 1.0, 0.5, 0.1, 0.0), 150) - 6) < 0.05


def test_spectral_pool_and_diff_stride_are_the_operation(key):
    x = jax.random.normal(key, (2, 16, 12, 3))
    np.testing.assert_array_equal(nn.SpectralPool((5, 4))(x), spectral_pool(x, size=(5, 4)))
    layer = nn.DiffStride((2.0, 1.7), smoothness_factor=2.0)
    expected = spectral_pool(x, jnp.array([2.0, 1.7]), smoothness=2.0)
    np.testing.assert_allclose(layer(x), expected, atol=1e-6)
    shared = nn.DiffStride((2, 2), shared_strides=True)
    assert shared.strides.shape == (1,)
    np.testing.assert_allclose(shared(x), spectral_pool(x, 2.0), atol=1e-6)


def test_diff_stride_fits_its_size(key):
    """In a compiled program it needs a size; fitted, it changes nothing."""
    layer = nn.DiffStride((2.0, 3.0), smoothness_factor=2.0)
    x = jax.random.normal(key, (1, 24, 24, 2))
    eager = layer(x)
    with pytest.raises(
        ValueError, match=r"^spectral_pool: size must be given where stride is traced"
    ):
        nnx.jit(lambda m, x: m(x))(layer, x)
    assert layer.fit((24, 24)) == eager.shape[1:3] == (15, 11)
    assert_close(nnx.jit(lambda m, x: m(x))(layer, x), eager, terms=48)


class Downsampled(nnx.Module):
    """A convolution, a learned stride, and the image that it is shown in again."""

    def __init__(self, strides):
        self.pool = nn.DiffStride(strides, smoothness_factor=4.0, size=31)

    def __call__(self, x):
        return self.pool(x)


@pytest.mark.parametrize("planted", [(1.5, 3.0), (4.0, 2.0)])
def test_diff_stride_recovers_a_planted_stride(planted, key):
    x = jax.random.normal(key, (8, 32, 32, 2))
    y = spectral_pool(x, planted, size=31)
    model, _ = trained(Downsampled((2.0, 2.0)), x, y, 500, 0.03)
    np.testing.assert_allclose(model.pool.strides[...], planted, atol=0.02)


@pytest.mark.parametrize("network", ["magnet", "siren"])
def test_flex_conv(network, key):
    """Its filter is the network's values under the mask, and as strong as a convolution's."""
    layer = nn.FlexConv(
        4, 6, (9, 8), 2, network=network, feature_group_count=2, padding=3, mask_width=0.4,
        rngs=nnx.Rngs(0),
    )  # fmt: skip
    kernel = layer.kernel()
    assert kernel.shape == (9, 8, 2, 6)
    np.testing.assert_allclose((kernel**2).sum((0, 1, 2)).mean(), 1, rtol=1e-5)
    at = window_positions((9, 8)).astype(np.float32)
    mask = gaussian_mask(at, jnp.full(2, 0.4, jnp.float32))
    expected = mask[..., None] * layer.network(jnp.asarray(at))
    np.testing.assert_allclose(kernel.reshape(9, 8, 12), expected, rtol=1e-5, atol=1e-6)
    x = jax.random.normal(key, (3, 10, 11, 4))
    assert_close(layer(x), jconv.conv(x, kernel, stride=2, padding=3, groups=2), terms=144)


@pytest.mark.parametrize("network", ["magnet", "siren"])
def test_flex_conv_through_split_and_merge(network, key):
    """Flax sorts the names of a Dict when it merges: every array must find its place."""
    layer = nn.FlexConv(2, 3, (5, 5), network=network, hidden=7, layers=2, rngs=nnx.Rngs(0))
    x = jax.random.normal(key, (1, 6, 6, 2))
    graph, state = nnx.split(layer)
    merged = nnx.merge(graph, state)
    np.testing.assert_array_equal(merged.kernel(), layer.kernel())
    grads = jax.jit(jax.grad(lambda state: (nnx.merge(graph, state)(x) ** 3).sum()))(state)
    assert all(jnp.any(g != 0) for g in jax.tree.leaves(grads))


def test_flex_conv_parameters_are_of_no_size():
    small, large = (
        sum(a.size for a in jax.tree.leaves(nnx.state(nn.FlexConv(3, 4, (n, n), rngs=nnx.Rngs(0)))))
        for n in (5, 33)
    )
    assert small == large


def test_flex_conv_is_cut_to_its_mask(key):
    """What is cut off is below a tenth of the mask's height; the middle stays the middle."""
    layer = nn.FlexConv(1, 1, (17, 16), mask_width=0.2, rngs=nnx.Rngs(0))
    whole = layer.kernel()
    assert layer.fit() == (7, 6)
    np.testing.assert_allclose(layer.kernel(), whole[5:12, 5:11], rtol=1e-5, atol=1e-7)
    x = jax.random.normal(key, (1, 20, 20, 1))
    padded = jnp.pad(layer.kernel(), ((5, 5), (5, 5), (0, 0), (0, 0)))
    assert_close(layer(x), jconv.conv(x, padded), terms=42)


class Planted(nnx.Module):
    """Fixed values under a mask that is learned: the layer's network, replaced."""

    def __call__(self, at):
        return jnp.cos(3 * at.sum(-1, keepdims=True))


@pytest.mark.parametrize("planted", [0.15, 0.5])
def test_flex_conv_recovers_a_planted_size(planted, key):
    x = jax.random.normal(key, (8, 24, 24, 1))

    def layer(width):
        return nn.FlexConv(
            1, 1, (15, 15), network=Planted(), mask_width=width, use_bias=False, rngs=nnx.Rngs(0)
        )

    found, _ = trained(layer(0.25), x, layer(planted)(x), 300, 0.01)
    np.testing.assert_allclose(found.mask_width[...], planted, rtol=0.01)
    np.testing.assert_allclose(found.mask_centre[...], 0, atol=0.01)


def test_dcls_layer_recovers_planted_spacings(key):
    """Kernel, positions and all, up to the order of the taps: the filter that they make."""
    x = smooth(key, 32, 3)
    taps = jnp.zeros(13).at[jnp.array([1, 6, 10])].set(jnp.array([0.8, 1.0, -0.7]))
    y = jconv.conv(x, taps[:, None, None], padding="VALID")
    layer = nn.DCLSConv(1, 1, 13, 3, padding="VALID", position_init=spread, rngs=nnx.Rngs(0))
    layer, loss = trained(layer, x, y, 2000, 0.02)
    assert loss < 1e-3 * float((y**2).mean())
    np.testing.assert_allclose(np.sort(layer.position[...].ravel()), [-5, 0, 4], atol=0.1)


def spread(key, shape, dtype):
    """Three taps, a few pixels apart."""
    return jnp.asarray([-3.5, 0.3, 2.5], dtype).reshape(shape)


def test_dtypes(key):
    """Parameters in float32, the arithmetic in the layer's dtype."""
    x = jax.random.normal(key, (1, 8, 8, 2))
    options = {"dtype": jnp.bfloat16, "rngs": nnx.Rngs(0)}
    layers = [
        nn.DCLSConv(2, 3, (3, 3), 2, **options), nn.FlexConv(2, 3, (3, 3), **options),
        nn.LearnableDilationConv(2, 3, (3, 3), 5, **options),
    ]  # fmt: skip
    for layer in layers:
        assert layer(x).dtype == jnp.bfloat16
        assert all(a.dtype == jnp.float32 for a in jax.tree.leaves(nnx.state(layer, nnx.Param)))
    assert nn.DiffStride((2, 2))(x.astype(jnp.bfloat16)).dtype == jnp.bfloat16


RNGS = nnx.Rngs(0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: nn.DCLSConv(4, 6, 3, 2, interpolation="cubic", rngs=RNGS),
            "^DCLSConv: interpolation",
        ),
        (
            lambda: nn.DCLSConv(4, 6, 3, 0, rngs=RNGS),
            "^DCLSConv: taps must be at least 1; got taps=0",
        ),
        (lambda: nn.DCLSConv(4, 6, (), 2, rngs=RNGS), "^DCLSConv: kernel_size must have one entry"),
        (
            lambda: nn.DCLSConv(4, 6, 3, 2, feature_group_count=3, rngs=RNGS),
            "^DCLSConv: in_features and out_features must divide",
        ),
        (
            lambda: nn.LearnableDilationConv(4, 6, (3, 3), 5, dilation=(1.0,), rngs=RNGS),
            r"^LearnableDilationConv: dilation must be .* each of 2 axes; got \(1.0,\)",
        ),
        (
            lambda: nn.LearnableDilationConv(1, 1, 3, 5, rngs=RNGS)(jnp.ones((1, 8, 2))),
            "^LearnableDilationConv: inputs have 2 channels but in_features=1",
        ),
        (
            lambda: nn.DiffStride((0.5, 2)),
            r"^DiffStride: strides must be at least 1.*got strides=\(0.5",
        ),
        (lambda: nn.DiffStride((3, 2), shared_strides=True), "^DiffStride: .* shared_strides=True"),
        (lambda: nn.DiffStride(()), r"^DiffStride: strides must be .*got strides=\(\)"),
        (
            lambda: nn.FlexConv(4, 6, 3, network="mlp", rngs=RNGS),
            "^FlexConv: network .*; got 'mlp'",
        ),
        (
            lambda: nn.FlexConv(4, 6, 3, mask_width=0.0, rngs=RNGS),
            "^FlexConv: mask_width must be pos",
        ),
        (
            lambda: nn.FlexConv(4, 6, 3, extent=5, rngs=RNGS),
            r"^FlexConv: extent .*\(3,\); got \(5,\)",
        ),
        (
            lambda: nn.FlexConv(4, 6, 3, feature_group_count=3, rngs=RNGS),
            "^FlexConv: in_features and out_features must divide",
        ),
        (
            lambda: nn.FlexConv(4, 6, 3, rngs=RNGS)(jnp.ones((1, 8, 2))),
            "^FlexConv: inputs have 2 channels but in_features=4",
        ),
    ],
)
def test_says_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call()
