"""Code of others, told to convolve with jconv: outputs, gradients, and what the jaxpr holds."""

from __future__ import annotations

from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from jax import lax

import jconv.lax
from tests.lax.calls import primitives

OURS = {"conv", "conv_input_grad", "conv_filter_grad"}
THEIRS = {"conv_general_dilated"}
x = np.random.default_rng(0).standard_normal((2, 5, 6, 4)).astype(np.float32)


class NnxConv:
    """A layer of Flax NNX."""

    def __init__(self, **options):
        layer = nnx.Conv(4, 6, (3, 2), rngs=nnx.Rngs(0), **options)
        self._graph, self.params = nnx.split(layer)

    def __call__(self, params, x):
        return nnx.merge(self._graph, params)(x)


class NnxGroupedConv(NnxConv):
    def __init__(self, **options):
        super().__init__(feature_group_count=2, strides=2, kernel_dilation=(1, 2), **options)


class LinenConv:
    """A layer of Flax Linen."""

    def __init__(self, **options):
        self._layer = linen.Conv(6, (3, 2), input_dilation=(2, 1), padding=1, **options)
        self.params = self._layer.init(jax.random.key(0), x)

    def __call__(self, params, x):
        return self._layer.apply(params, x)


class HaikuConv:
    """What haiku.Conv2D does: it calls jax.lax, where the other function is put for the while."""

    def __init__(self, conv_general_dilated=lax.conv_general_dilated):
        self._function = conv_general_dilated
        self.params = {"w": jnp.cos(jnp.arange(72.0)).reshape(3, 3, 2, 4), "b": jnp.ones(4)}

    def __call__(self, params, x):
        with mock.patch("jax.lax.conv_general_dilated", self._function):
            y = lax.conv_general_dilated(
                x, params["w"], window_strides=(2, 2), padding="SAME", lhs_dilation=(1, 1),
                rhs_dilation=(1, 1), dimension_numbers=("NHWC", "HWIO", "NHWC"),
                feature_group_count=2, precision=None,
            )  # fmt: skip
        return y + jnp.broadcast_to(params["b"], y.shape)


@pytest.mark.parametrize("layer", [NnxConv, NnxGroupedConv, LinenConv, HaikuConv])
def test_layers_of_others(layer):
    theirs, ours = layer(), layer(conv_general_dilated=jconv.lax.conv_general_dilated)

    def run(layer):
        def loss(params, x):
            y = layer(params, x)
            return jnp.sin(y).sum(), y

        grad = jax.grad(loss, (0, 1), has_aux=True)
        return jax.jit(grad)(layer.params, x), primitives(grad, layer.params, x)

    (actual, found), (expected, without) = run(ours), run(theirs)
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, e, rtol=1e-5, atol=1e-5)
    assert found >= OURS
    assert not found & THEIRS
    assert without >= THEIRS
