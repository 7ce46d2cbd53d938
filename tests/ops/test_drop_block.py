"""jconv.drop_block against the definition, by its counts, and in distribution."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jconv.ops.drop_block import drop_block
from tests import often
from tests.oracles import regularisation as oracle
from tests.tolerance import assert_close

# Image N *spatial C, block.
CASES = {
    "odd": ((2, 7, 6, 3), 3),
    "even": ((2, 6, 7, 2), 4),
    "one_axis": ((3, 9, 2), 2),
    "three_axes": ((1, 4, 3, 5, 2), (2, 1, 3)),
    "larger_than_the_image": ((2, 3, 7, 2), 5),
    "one_pixel": ((4, 1, 1, 2), 3),
}


@functools.partial(jax.jit, static_argnums=(2, 3))
def value_and_grad(key, x, rate, block):
    """y, and its gradient by a cotangent that is x."""
    y, vjp = jax.vjp(lambda x: drop_block(key, x, rate, block), x)
    return y, vjp(x)[0]


@pytest.mark.parametrize("name", often.names(CASES, ("odd", "one_axis")))
def test_matches_definition(name, key):
    check(*CASES[name], key, "float32")


def check(shape, block, key, dtype):
    image, rate = shape[1:-1], 0.3
    sizes = np.minimum(np.broadcast_to(block, len(image)), image)
    places = [n - r + 1 for n, r in zip(image, sizes, strict=True)]
    gamma = np.float32(oracle.gamma(image, sizes, rate))
    seeds = jax.random.bernoulli(key, gamma, (shape[0], *places, shape[-1]))
    assert seeds.any()
    x = jax.random.normal(key, shape, dtype)
    y, dx = value_and_grad(key, x, rate, block)
    assert y.dtype == dtype
    assert_close(y, oracle.drop_block(x, seeds, sizes), terms=2)
    assert_close(dx, oracle.drop_block(x, seeds, sizes), terms=2)


def test_bfloat16(key):
    check(*CASES["odd"], key, "bfloat16")


@pytest.mark.parametrize("rate", [0.05, 0.3])
def test_share_and_mean(rate, key):
    """Dropped is what the seeds cover, by the formula for blocks that overlap; the sum stays."""
    shape, block = (64, 12, 10, 8), 3
    y = np.asarray(drop_block(key, jnp.ones(shape), rate, block))
    np.testing.assert_allclose(y.mean(), 1, rtol=1e-5)
    gamma = oracle.gamma(shape[1:-1], (block, block), rate)
    covering = [np.convolve(np.ones(n - block + 1), np.ones(block)) for n in shape[1:-1]]
    share = 1 - np.mean((1 - gamma) ** np.outer(*covering))
    # Pixels of an image are not independent; images and channels are.
    shares = (y == 0).mean((1, 2)).ravel()
    deviation = shares.std() / np.sqrt(shares.size)
    assert abs(shares.mean() - share) < 5 * deviation
    assert 0.85 * rate < share < rate


def test_the_share_of_the_docstring():
    gamma = oracle.gamma((28, 28), (7, 7), 0.1)
    covering = np.convolve(np.ones(22), np.ones(7))
    share = 1 - np.mean((1 - gamma) ** np.outer(covering, covering))
    assert round(share, 2) == 0.09


def test_all_examples_are_scaled_by_one_number(key):
    """The paper counts over the whole mask: an example that lost more has a smaller sum."""
    y = drop_block(key, jnp.ones((4, 8, 8, 1)), 0.3, 3)
    values = np.unique(y)
    assert len(values) == 2
    np.testing.assert_allclose(values[1], y.size / (np.asarray(y) != 0).sum(), rtol=1e-6)
