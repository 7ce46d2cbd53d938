"""How images are cut into pieces, and that each output is computed or counted once."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jconv.algorithms import pieces
from jconv.algorithms.pieces import Pieces


@pytest.mark.parametrize(
    ("images", "rows", "row_bytes", "unit", "cut", "count"),
    [
        (4, 8, 1, 1, (4, 8), (1, 1)),
        (7, 10, 25, 1, (4, 10), (2, 1)),  # four fit, seven make two equal parts
        (3, 10, 150, 1, (1, 5), (3, 2)),  # six fit
        (1, 11, 150, 2, (1, 6), (1, 2)),
        (2, 11, 5000, 2, (1, 2), (2, 6)),  # not even one fits
        (2, 3, 5000, 4, (1, 3), (2, 1)),
    ],
)
def test_cut(images, rows, row_bytes, unit, cut, count, monkeypatch):
    monkeypatch.setattr(pieces, "CACHE", 1000)
    found = Pieces.of(images, rows, row_bytes, unit=unit)
    assert ((found.images, found.rows), found.count) == (cut, count)


def test_pieces_are_no_smaller_than_what_each_of_them_reads(monkeypatch):
    monkeypatch.setattr(pieces, "CACHE", 1000)
    assert Pieces.of(9, 10, 100, least=3000).images == 3


@pytest.mark.parametrize("cut", [(2, 7), (1, 3), (1, 7), (3, 7)])
def test_each_output_once(cut):
    whole = Pieces((3, 7), *cut)
    x = jnp.arange(1.0, 3 * 7 * 2 + 1).reshape(3, 7, 2, 1)

    @jax.jit
    def both(x):
        filled = whole.fill(lambda place: read(whole, x, place) ** 2, x, x)
        total = jax.ShapeDtypeStruct((), x.dtype)
        return filled, whole.add(lambda place: whole.outputs(x, place).sum(), total, x)

    filled, total = both(x)
    np.testing.assert_array_equal(filled, x**2)
    assert total == x.sum()


def read(whole, x, place):
    return whole.read(x, place, lo=(0, 0), input_dilation=(1, 1), stride=1, reach=(whole.rows, 2))


def test_read_pads_crops_and_spreads():
    whole = Pieces((1, 3), 1, 2)
    x = jnp.arange(1.0, 5).reshape(1, 4, 1)
    rows = whole.read(x, (0, 1), lo=(1,), input_dilation=(2,), stride=2, reach=(6,))
    np.testing.assert_array_equal(rows[0, :, 0], [0, 2, 0, 3, 0, 4])
    rows = whole.read(x, (0, 0), lo=(-1,), input_dilation=(1,), stride=1, reach=(4,))
    np.testing.assert_array_equal(rows[0, :, 0], [2, 3, 4, 0])
