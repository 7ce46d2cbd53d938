"""Pixel shuffles against the definition, number by number."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jconv.ops.pixel_shuffle import depth_to_space, pixel_shuffle, pixel_unshuffle, space_to_depth
from tests.oracles import sampling as oracle


def numbered(*shape):
    return jnp.arange(np.prod(shape)).reshape(shape)


@pytest.mark.parametrize("order", ["DCR", "CRD"])
def test_depth_to_space(order):
    x = numbered(2, 2, 3, 12)
    y = depth_to_space(x, (2, 3), order=order)
    np.testing.assert_array_equal(y, oracle.depth_to_space(x, (2, 3), order))
    np.testing.assert_array_equal(space_to_depth(y, (2, 3), order=order), x)


def test_pixel_shuffle_is_crd():
    x = numbered(1, 2, 3, 8)
    np.testing.assert_array_equal(pixel_shuffle(x, 2), depth_to_space(x, 2, order="CRD"))
    y = numbered(1, 4, 6, 3)
    np.testing.assert_array_equal(pixel_unshuffle(y, 2), space_to_depth(y, 2, order="CRD"))


@pytest.mark.parametrize("order", ["DCR", "CRD"])
@pytest.mark.parametrize("shape", [(2, 3, 4), (1, 2, 1, 3, 16), (0, 2, 2, 8)])
def test_any_number_of_axes(shape, order):
    """One axis after the other is all axes at once, in the order CRD."""
    x = numbered(*shape)
    y = depth_to_space(x, 2, order=order)
    assert y.shape == (
        shape[0], *(2 * n for n in shape[1:-1]), shape[-1] // 2 ** (len(shape) - 2)
    )  # fmt: skip
    np.testing.assert_array_equal(space_to_depth(y, 2, order=order), x)
    if len(shape) == 3:
        channel = [0, 1] if order == "DCR" else [0, 2]
        np.testing.assert_array_equal(y[:, ::2], x[..., channel])


def test_a_tensor_of_torch_documentation():
    """torch.nn.PixelShuffle(3): (1, 9, 4, 4) to (1, 1, 12, 12)."""
    assert pixel_shuffle(jnp.zeros((1, 4, 4, 9)), 3).shape == (1, 12, 12, 1)


def test_gradient_is_the_inverse():
    x = numbered(2, 2, 3, 12).astype(jnp.float32)
    y, vjp = jax.vjp(lambda x: pixel_shuffle(x, (2, 3)), x)
    np.testing.assert_array_equal(vjp(y)[0], x)


@pytest.mark.parametrize(
    ("f", "x", "factor", "message"),
    [
        (pixel_shuffle, (4, 4), 2, r"x must be \(N, \*spatial, C\).*got x \(4, 4\)"),
        (pixel_shuffle, (1, 4, 4, 6), 2, r"x's C=6 does not divide into blocks of \(2, 2\) pixels"),
        (pixel_unshuffle, (1, 4, 5, 6), 2, r"x's \(4, 5\) pixels do not divide into blocks"),
        (pixel_unshuffle, (1, 4, 4, 6), (2, 2, 2), "factor must be an int or one int for each of"),
        (pixel_shuffle, (1, 4, 4, 6), 0, "factor must be at least 1"),
    ],
)
def test_says_what_is_wrong(f, x, factor, message):
    with pytest.raises(ValueError, match=f"^{f.__name__}: {message}"):
        f(jnp.zeros(x), factor)


def test_says_which_orders_there_are():
    with pytest.raises(
        ValueError, match=r"^depth_to_space: order must be one of DCR, CRD; got 'x'"
    ):
        depth_to_space(jnp.zeros((1, 2, 2, 4)), 2, order="x")
