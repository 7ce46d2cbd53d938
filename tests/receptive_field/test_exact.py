"""Exact fields: holes, phases, gathers, borders; and that they agree with the theoretical ones."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jconv
from jconv.receptive_field import exact, theoretical
from tests.receptive_field.cases import CASES, X, conv


def reads(fn, n=9, output=None):
    """Which of n positions each output reads, as lists."""
    field = exact(fn, jax.ShapeDtypeStruct((1, n, 1), "float32"), axes=1)
    rows = field[0, :, 0]
    return [np.flatnonzero(row).tolist() for row in rows]


def line(window, **options):
    return lambda x: jconv.conv(x, jnp.ones((window, 1, 1)), **options)


def test_holes_of_a_dilation():
    assert reads(line(3, dilation=2, padding="VALID"))[1] == [1, 3, 5]
    two = reads(lambda x: line(3, dilation=3)(line(3, dilation=3)(x)), 19)
    assert two[9] == [3, 6, 9, 12, 15]


def test_phases_of_a_transposed_convolution():
    def up(x):
        return jconv.conv_transpose(x, jnp.ones((3, 1, 1)), stride=2, padding="VALID")

    assert reads(up, 3) == [[0], [0], [0, 1], [1], [1, 2], [2], [2]]
    empty = reads(lambda x: jconv.conv_transpose(x, jnp.ones((1, 1, 1)), stride=2), 2)
    assert empty == [[0], [], [1], []]


def test_known_positions():
    assert reads(lambda x: x[:, jnp.array([4, 0, -1])]) == [[4], [0], [8]]
    assert reads(lambda x: x.at[:, jnp.array([1, 3])].add(x[:, :2]))[:4] == [
        [0],
        [0, 1],
        [2],
        [1, 3],
    ]
    assert reads(lambda x: jnp.where(jnp.arange(9)[:, None] < 4, x, 0.0))[3:5] == [[3], []]
    assert reads(lambda x: jnp.roll(x, 1, 1))[0] == [8]
    assert reads(lambda x: x.at[:, 2:4].set(x[:, :2]))[1:5] == [[1], [0], [1], [4]]


def test_borders():
    assert reads(line(3))[0] == [0, 1]
    reflected = reads(line(3, padding=1, padding_mode="circular"))
    assert reflected[0] == [0, 1, 8]
    assert reads(lambda x: jax.lax.pad(x, x.sum(), [(0, 0, 0), (1, 0, 0), (0, 0, 0)]), 2) == [
        [0, 1], [0], [1],
    ]  # fmt: skip


def test_two_axes_together():
    """A cross is not the product of its projections."""

    def cross(x):
        tall, wide = jnp.ones((3, 1, 4, 1)), jnp.ones((1, 3, 4, 1))
        return jconv.conv(x, tall) + jconv.conv(x, wide)

    field = exact(cross, X)
    assert field.shape == (1, 24, 24, 1)
    assert field.extents == (24, 24)
    at = field[0, 5, 6, 0]
    assert sorted(zip(*np.nonzero(at), strict=True)) == [(4, 6), (5, 5), (5, 6), (5, 7), (6, 6)]
    assert np.array_equal(field.pixels(1, 2)[5, 6], at)
    assert np.array_equal(field.pixels(2, 1)[6, 5], at)
    assert np.array_equal(exact(cross, X, axes=(2, 1))[0, 5, 6, 0], at.T)


def test_channels_are_told_apart():
    field = exact(lambda x: jconv.pixel_unshuffle(x, 2), X, axes=1)
    assert np.flatnonzero(field[0, 3, 0, 0]).tolist() == [6]
    assert np.flatnonzero(field.pixels(1)[3]).tolist() == [6, 7]
    nothing = exact(lambda x: jnp.ones(3), X, axes=1)
    assert not nothing[...].any()


@pytest.mark.parametrize("name", CASES)
def test_agrees_with_the_theoretical_field(name):
    """Nothing lies outside the bounds, and halfway along they are reached."""
    case = CASES[name]
    field = theoretical(case.fn, X)
    sets = exact(case.fn, X, axes=1)
    along = field.along[0]
    rows = sets[...].reshape(-1, 24).any(0)[None] if along is None else sets.pixels(along)
    for i, row in enumerate(rows):
        at = np.flatnonzero(row)
        first, last = field.span(i, 0)[0]
        assert not len(at) or first <= at[0] <= at[-1] <= last
    middle = len(rows) // 2
    first, last = field.span(middle, 0)[0]
    at = np.flatnonzero(rows[middle])
    assert (max(first, 0), min(last, 23)) == (at[0], at[-1])


def test_limit():
    message = (
        "exact: the sets of one value must fit into the limit of 1,000 bytes; got a value that"
    )
    with pytest.raises(ValueError, match=message):
        exact(conv, X, limit=1000)


def test_messages():
    with pytest.raises(ValueError, match="exact: axes must be different axes of x"):
        exact(conv, X, axes=7)


def test_unknown_operations_are_named():
    field = exact(lambda x: jax.lax.linalg.cholesky(x[..., 0]), X, axes=1)
    assert field.unknown == ("cholesky",)
    assert field[0, -1, 0].all()
