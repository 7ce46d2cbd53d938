"""Winograd's filtering: exact matrices, all passes, pieces, rounding, memory, refusals."""

from __future__ import annotations

import functools
import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

import jconv
from jconv.algorithms import pieces, winograd
from tests.algorithms import passes
from tests.ops.conv_cases import Case
from tests.tolerance import assert_close

THREE = (3, 3)
CASES = {
    "plain": Case(window=THREE),
    "valid": Case(x=(1, 7, 9, 3), window=THREE, padding="VALID", k=2),
    "pads_wider_than_window": Case(window=THREE, padding=((4, 3), (5, 2))),
    "pads_of_one_side": Case(window=THREE, padding=((0, 2), (3, 0))),
    "one_pixel": Case(x=(1, 1, 1, 1), window=THREE, k=1),
    "one_axis": Case(x=(2, 9, 4), window=(3,), k=4),
    "three_axes": Case(x=(1, 4, 5, 3, 2), window=(3, 3, 3), k=3),
}
TILES = {"winograd": 2, "winograd4": 4}
SOME = ("plain", "one_axis")
each_tile = pytest.mark.parametrize("name", TILES)
GROWTH = {"winograd": 2, "winograd4": 12}  # of the largest error, over a sum's


@pytest.mark.parametrize("tile", TILES.values())
def test_matrices_filter_exactly(tile):
    a, g, b = winograd.matrices(tile)
    x, w = [Fraction(n * n - 5 * n) for n in range(tile + 2)], [Fraction(n) for n in (2, -7, 3)]
    values = [dot(row, w) * dot(pixels, x) for row, pixels in zip(g, b, strict=True)]
    assert [dot(row, values) for row in a] == [dot(x[p : p + 3], w) for p in range(tile)]


def dot(a, b):
    return sum(p * q for p, q in zip(a, b, strict=True))


def test_matrices_of_two_outputs_are_those_of_the_paper():
    """Up to the signs of the rows of G and B', two of which are turned round in both."""
    a, g, b = winograd.matrices(2)
    half = Fraction(1, 2)
    assert a == ((1, 1, 1, 0), (0, 1, -1, 1))
    assert g == ((-1, 0, 0), (half, half, half), (half, -half, half), (0, 0, 1))
    assert b == ((-1, 0, 1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, -1, 0, 1))


@pytest.mark.parametrize(
    ("name", "of"), [*(("winograd", of) for of in CASES), *(("winograd4", of) for of in SOME)]
)
def test_matches_definition(name, of, key):
    case = CASES[of]
    arrays = passes.operands(case, key, "float32")
    results = passes.computed(case, name, arrays)
    checks = zip(results, passes.expected(case, arrays), passes.terms(case), strict=True)
    for actual, expected, terms in checks:
        assert_close(actual, expected, terms=terms * GROWTH[name] ** 2)


@pytest.mark.parametrize(("name", "cache"), [("winograd", 1), ("winograd", 6000), ("winograd4", 1)])
def test_pieces_that_overlap(name, cache, key, monkeypatch):
    """Single rows of tiles, and groups of images, of which the last ones do not come out even."""
    monkeypatch.setattr(pieces, "CACHE", cache)
    case = Case(x=(3, 11, 5, 2), window=THREE, padding=((0, 1), (2, 1)), k=1)
    arrays = passes.operands(case, key, "float32")
    f = functools.partial(jconv.conv, implementation=name, **case.options)
    assert "stablehlo.while" in jax.jit(f).lower(*arrays[:2]).as_text()
    results = passes.computed(case, name, arrays)
    checks = zip(results, passes.expected(case, arrays), passes.terms(case), strict=True)
    for actual, expected, terms in checks:
        assert_close(actual, expected, terms=terms * GROWTH[name] ** 2)


@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
def test_dtypes(dtype, key, x64):
    """bfloat16 is transformed and summed in float32; float64 as it is."""
    case = CASES["valid"]
    arrays = passes.operands(case, key, dtype)
    name = "winograd" if dtype == "bfloat16" else "winograd4"
    results = passes.computed(case, name, arrays)
    assert {result.dtype for result in results} == {jnp.dtype(dtype)}
    checks = zip(results, passes.expected(case, arrays), passes.terms(case), strict=True)
    for actual, expected, terms in checks:
        assert_close(actual, expected, terms=terms * GROWTH[name] ** 2)


@pytest.mark.slow
def test_rounding(key):
    """F(2x2) within twice the direct form's error, as a default must be; F(4x4) is not."""
    case = Case(x=(2, 14, 14, 128), window=THREE, k=32)
    arrays = passes.operands(case, key, "float32")
    with jax.enable_x64(True):
        right = passes.computed(case, "direct", [a.astype(jnp.float64) for a in arrays])
        right = [np.asarray(r) for r in right]
    errors = {
        name: list(map(passes.root_mean_square, passes.computed(case, name, arrays), right))
        for name in ("direct", *TILES)
    }
    assert all(e <= 2 * d for e, d in zip(errors["winograd"], errors["direct"], strict=True))
    assert 2 < errors["winograd4"][0] / errors["direct"][0] < 8


MEMORY = {
    "images": Case(x=(8, 28, 28, 32), window=THREE, k=32),
    "rows": Case(x=(2, 200, 95, 16), window=THREE, k=64),
    "one_image": Case(x=(1, 120, 121, 64), window=THREE, k=64),
    "filter": Case(x=(4, 7, 7, 256), window=THREE, k=192),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", MEMORY.values(), ids=MEMORY)
@each_tile
def test_memory(case, name):
    """No more than the module states."""
    axes, c, tile = len(case.window), case.x[-1] + case.k, TILES[name]
    points = (tile + 2) ** axes
    values = 4 * points * case.x[-1] * case.k
    row = 4 * points * math.prod(-(-n // tile) for n in case.x[2:-1]) * c
    padded = 4 * 1.1 * math.prod(case.x[1:-1]) * max(case.x[-1], case.k) * (case.x[0] == 1)
    bound = 2 * values + 1.5 * max(pieces.CACHE, row, values) + padded
    for pass_, taken in passes.temporary_bytes(case, name).items():
        assert taken <= bound, pass_


@pytest.mark.devices
def test_inside_transformations(key, monkeypatch):
    monkeypatch.setattr(pieces, "CACHE", 2000)
    f = functools.partial(jconv.conv, implementation="winograd")
    x, w = jax.random.normal(key, (8, 5, 6, 2)), jax.random.normal(key, (2, 3, 3, 2, 2))

    def step(x, w):
        return f(x, w), jax.grad(lambda x, w: jnp.sin(f(x, w)).sum(), (0, 1))(x, w)

    expected = jax.vmap(jconv.conv, (None, 0))(x, w)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)
    close(jax.vmap(f, (None, 0))(x, w), expected)
    close(jax.lax.scan(lambda _, w: (None, f(x, w)), None, w)[1], expected)
    mesh = jax.make_mesh((2,), ("n",), axis_types=(jax.sharding.AxisType.Auto,))
    with jax.set_mesh(mesh):
        split = jax.jit(
            jax.shard_map(
                step, in_specs=(P("n"), P()), out_specs=(P("n"), (P("n"), P()))
            )
        )  # fmt: skip
        jax.tree.map(close, split(x, w[0]), step(x, w[0]))


@pytest.mark.parametrize(
    ("x", "w", "options", "message"),
    [
        ((1, 5, 5, 4), (3, 5, 4, 4), {}, "only filters of 3 taps along every axis"),
        ((1, 5, 5, 4), (3, 3, 4, 4), {"stride": 2}, "only stride and dilations of 1"),
        ((1, 5, 5, 4), (3, 3, 4, 4), {"dilation": (1, 2)}, "only stride and dilations of 1"),
        ((1, 5, 5, 4), (3, 3, 4, 4), {"input_dilation": 2}, "only stride and dilations of 1"),
        ((1, 5, 5, 4), (3, 3, 2, 4), {"groups": 2}, "only one group"),
        ((0, 5, 5, 4), (3, 3, 4, 4), {}, "nothing to compute"),
    ],
)
@each_tile
def test_says_what_it_does_not_compute(x, w, options, message, name):
    with pytest.raises(NotImplementedError, match=f"^conv: implementation '{name}' .*: {message}"):
        jconv.conv(jnp.zeros(x), jnp.zeros(w), implementation=name, **options)


def test_says_which_numbers_it_does_not_compute():
    x, w = jnp.ones((1, 4, 4, 4), "int32"), jnp.ones((3, 3, 4, 4), "int32")
    with pytest.raises(NotImplementedError, match="only for real floating-point numbers"):
        jconv.conv(x, w, implementation="winograd")


def test_says_that_sizes_must_be_known():
    shape = jax.ShapeDtypeStruct((*jax.export.symbolic_shape("n"), 5, 5, 1), jnp.float32)
    f = functools.partial(jconv.conv, w=jnp.ones((3, 3, 1, 1)), implementation="winograd")
    with pytest.raises(NotImplementedError, match="only for sizes that are known"):
        jax.export.export(jax.jit(f))(shape)


@pytest.mark.devices
def test_says_that_operands_must_be_whole():
    mesh = jax.make_mesh((2,), ("n",), axis_types=(jax.sharding.AxisType.Explicit,))
    with jax.set_mesh(mesh):
        x = jax.device_put(jnp.ones((2, 4, 4, 1)), jax.NamedSharding(mesh, P("n")))
        with pytest.raises(NotImplementedError, match="not on operands that explicit axes split"):
            jconv.conv(x, jnp.ones((3, 3, 1, 1)), implementation="winograd")
