"""jconv.causal_mask against the definition, and what a masked network can see."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jconv
from jconv.ops.causal_mask import causal_mask
from tests.oracles import conv_variants as oracle


@pytest.mark.parametrize("kind", ["A", "B"])
@pytest.mark.parametrize(
    ("window", "n_in", "n_out", "colors"),
    [((3, 5), 3, 6, 3), ((4,), 2, 2, 1), ((3, 1, 2), 2, 4, 2)],
)
def test_matches_definition(window, n_in, n_out, kind, colors):
    mask = causal_mask(window, n_in, n_out, kind, colors=colors)
    np.testing.assert_array_equal(mask, oracle.causal_mask(window, n_in, n_out, kind, colors))
    assert mask.dtype == jnp.float32


def test_the_figure_of_the_paper():
    """Mask A of 5x5 taps: two rows and two taps."""
    rows = [[1] * 5, [1] * 5, [1, 1, 0, 0, 0], [0] * 5, [0] * 5]
    np.testing.assert_array_equal(causal_mask((5, 5), 1, 1, "A")[..., 0, 0], rows)


@pytest.mark.parametrize("colors", [1, 3])
def test_no_number_depends_on_a_later_one(colors, key):
    """An A layer, then a B layer: the Jacobian in the order of generation is strictly triangular,
    and its first sub-diagonals are full."""
    first = causal_mask((3, 3), 3, 6, "A", colors=colors)
    second = causal_mask((3, 3), 6, 3, "B", colors=colors)
    keys = jax.random.split(key)
    w1, w2 = (
        jax.random.uniform(k, m.shape, minval=1.0) * m
        for k, m in zip(keys, (first, second), strict=True)
    )

    def network(x):
        return jconv.conv(jconv.conv(x.reshape(1, 3, 4, 3), w1), w2).reshape(-1)

    depends = np.asarray(jax.jit(jax.jacrev(network))(jnp.zeros(36))) != 0
    colour = np.arange(36) if colors == 3 else np.arange(36) // 3
    before = colour[:, None] > colour[None]
    assert not np.any(depends & ~before)
    # A pixel right of another one sees all of it.
    assert depends[3:6, 0:3].all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((3, 3), 1, 1, "C"), r'kind must be "A" or "B"; got \'C\''),
        (((3, 3), 4, 3, "A", 3), r"must divide into colors=3 parts; got in_features=4"),
        (((3, 0), 1, 1, "A"), r"window must be at least 1"),
        (((3, 3), 1, 1, "A", 0), r"colors must be at least 1"),
    ],
)
def test_says_what_is_wrong(arguments, message):
    *positional, colors = (*arguments, 1)[:5]
    with pytest.raises(ValueError, match=f"^causal_mask: .*{message}"):
        causal_mask(*positional, colors=colors)
