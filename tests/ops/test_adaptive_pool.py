"""Adaptive and global pooling against the definition, and bin_sum against its own transpose."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jconv
from jconv.ops.adaptive_pool import (
    adaptive_avg_pool,
    adaptive_max_pool,
    bin_sum,
    global_avg_pool,
    global_max_pool,
)
from tests.oracles import pool_variants as oracle
from tests.tolerance import assert_close

CASES = {  # x, output_size, the same resolved
    "divides": ((2, 6, 4, 3), (3, 2), (3, 2)),
    "overlaps": ((2, 5, 7, 3), (3, 4), (3, 4)),
    "repeats": ((1, 2, 3, 2), (5, 4), (5, 4)),
    "keeps": ((2, 5, 4, 2), (None, 3), (5, 3)),
    "one_for_all": ((1, 5, 4, 2), 3, (3, 3)),
    "one_pixel": ((2, 5, 3, 2), 1, (1, 1)),
    "one_axis": ((2, 7, 3), 5, (5,)),
    "three_axes": ((1, 3, 4, 5, 2), (2, None, 3), (2, 4, 3)),
}
each_case = pytest.mark.parametrize(("x", "size", "output"), CASES.values(), ids=CASES)


def image(shape):
    """Small whole numbers: bins hold ties, and every maximum is exact."""
    return np.random.default_rng(0).integers(-3, 4, shape).astype(np.float32)


@each_case
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_matches_definition(x, size, output, dtype):
    x = jnp.asarray(image(x), dtype)
    mean, largest, position = oracle.adaptive_pool(x, output)
    average = jax.jit(lambda x: adaptive_avg_pool(x, size))(x)
    assert_close(average, mean, terms=x.shape[1])
    y, indices = jax.jit(lambda x: adaptive_max_pool(x, size, return_indices=True))(x)
    assert (average.dtype, y.dtype, indices.dtype) == (dtype, dtype, jnp.int32)
    np.testing.assert_array_equal(y.astype(np.float32), largest)
    np.testing.assert_array_equal(indices, position)


@each_case
def test_gradients(x, size, output):
    """To the first winner; and for the mean the adjoint: <pool(x), dy> = <x, dx> for unit x."""
    x = image(x)
    _, _, position = oracle.adaptive_pool(x, output)
    dy = np.random.default_rng(1).normal(size=position.shape).astype(np.float32)
    expected = np.zeros((x.shape[0], int(np.prod(x.shape[1:-1])), x.shape[-1]))
    for p in np.ndindex(dy.shape):
        expected[p[0], position[p], p[-1]] += dy[p]
    (dx,) = jax.jit(lambda x: jax.vjp(lambda x: adaptive_max_pool(x, size), x)[1](dy))(x)
    assert_close(dx, expected.reshape(x.shape), terms=16)
    pixels = int(np.prod(x.shape[1:-1]))
    units = np.moveaxis(np.eye(pixels).reshape(pixels, *x.shape[1:-1]), 0, -1)[None]
    matrix = oracle.adaptive_pool(units, output)[0].reshape(-1, pixels)
    flat = dy.astype(np.float64).reshape(x.shape[0], -1, x.shape[-1])
    (dx,) = jax.jit(lambda x: jax.vjp(lambda x: adaptive_avg_pool(x, size), x)[1](dy))(x)
    expected = np.einsum("qp,nqc->npc", matrix, flat).reshape(x.shape)
    assert_close(dx, expected, terms=2 * pixels)


@pytest.mark.parametrize(("n", "size"), [(7, 3), (3, 7), (6, 4), (4, 4), (9, 3), (1, 5)])
def test_sum_over_bins_is_its_own_transpose(n, size):
    sums = bin_sum(
        np.eye(n, dtype=np.float32)[..., None], input=(n,), output=(size,), dtype="float32"
    )
    back = bin_sum(
        np.eye(size, dtype=np.float32)[..., None], input=(size,), output=(n,), dtype="float32"
    )
    np.testing.assert_array_equal(sums[..., 0], back[..., 0].T)


def test_no_scatter_in_the_gradient_of_the_mean():
    program = jax.make_jaxpr(jax.grad(lambda x: adaptive_avg_pool(x, 3).sum()))
    assert "scatter" not in str(program(jnp.zeros((1, 5, 7, 2))))


def test_a_nan_stays_in_its_bins():
    x = image((1, 5, 6, 1))
    x[0, 2, 1, 0] = x[0, 4, 5, 0] = x[0, 3, 5, 0] = np.nan
    mean, largest, position = oracle.adaptive_pool(x, (3, 3))
    assert 0 < np.isnan(mean).sum() < mean.size
    y, indices = adaptive_max_pool(x, 3, return_indices=True)
    np.testing.assert_array_equal(y, largest)
    np.testing.assert_array_equal(indices, position)
    np.testing.assert_allclose(adaptive_avg_pool(x, 3), mean, rtol=1e-5, atol=1e-6)


def test_smallest_pixels_have_positions():
    x = np.full((1, 5, 7, 1), -np.inf, np.float32)
    _, indices = adaptive_max_pool(x, (3, 4), return_indices=True)
    np.testing.assert_array_equal(indices, oracle.adaptive_pool(x, (3, 4))[2])


@pytest.mark.parametrize("dtype", ["int32", "uint8"])
def test_integers(dtype):
    x = (image((2, 5, 7, 2)) + 3).astype(dtype)
    y = adaptive_max_pool(x, (3, 4))
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, oracle.adaptive_pool(x, (3, 4))[1])
    np.testing.assert_array_equal(global_max_pool(x), x.max((1, 2)))


def test_complex_means(key):
    x = jax.random.normal(key, (1, 5, 4, 2), jnp.complex64)
    y = adaptive_avg_pool(x, 3)
    np.testing.assert_allclose(y.imag, adaptive_avg_pool(x.imag, 3), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(global_avg_pool(x).real, x.real.mean((1, 2)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_global(dtype):
    x = jnp.asarray(image((2, 9, 8, 3)), dtype)
    wide = np.asarray(x, np.float64)
    y = global_avg_pool(x)
    assert y.dtype == dtype
    assert_close(y, wide.mean((1, 2)), terms=72)
    np.testing.assert_array_equal(np.asarray(global_max_pool(x), np.float64), wide.max((1, 2)))
    for pool in (global_avg_pool, global_max_pool):
        np.testing.assert_array_equal(pool(x, keepdims=True), pool(x)[:, None, None])


def test_global_maximum_gives_its_gradient_to_the_first():
    x = jnp.asarray([1.0, 3.0, 3.0, 2.0]).reshape(1, 2, 2, 1)
    np.testing.assert_array_equal(
        jax.grad(lambda x: global_max_pool(x).sum())(x).ravel(), [0, 1, 0, 0]
    )


@pytest.mark.parametrize("x", [(0, 5, 6, 3), (2, 5, 6, 0), (1, 1, 1, 1)])
@pytest.mark.parametrize("pool", [adaptive_avg_pool, adaptive_max_pool])
def test_empty_and_one_pixel(x, pool):
    y, vjp = jax.vjp(lambda x: pool(x, (2, 3)), jnp.ones(x))
    assert y.shape == (x[0], 2, 3, x[-1])
    assert vjp(y)[0].shape == x


def test_the_chosen_implementation_ran():
    f = jax.grad(lambda x: adaptive_avg_pool(x, 3).sum())
    choices = jconv.explain_choice(f, jnp.zeros((1, 5, 5, 1)))
    assert {c.op for c in choices} == {"bin_sum"}


IMAGE = jnp.zeros((1, 5, 5, 3))


@pytest.mark.parametrize("pool", [adaptive_avg_pool, adaptive_max_pool])
def test_sizes_in_arrays(pool, key):
    x = jax.random.normal(key, (1, 5, 5, 3))
    expected = pool(x, (2, 3))
    for size in (np.array([2, 3]), jnp.array([2, 3])):
        np.testing.assert_array_equal(pool(x, size), expected)


@pytest.mark.parametrize(
    ("pool", "x", "size", "message"),
    [
        (adaptive_avg_pool, IMAGE[0, 0], (2,), r"x must be \(N, \*spatial, C\) .*got x \(5, 3\)"),
        (adaptive_avg_pool, IMAGE.astype(int), (2,), r"floating-point or complex numbers; .*int32"),
        (adaptive_avg_pool, IMAGE[:, :0], (2,), r"every spatial axis must have a pixel; .*\(1, 0,"),
        (adaptive_avg_pool, IMAGE, ((2, 2, 2),), r"output_size must be an int or one int for each"),
        (adaptive_avg_pool, IMAGE, (np.ones(3, int),), r"output_size must be an int or one int"),
        (adaptive_avg_pool, IMAGE, ("ab",), r"output_size must be an int"),
        (adaptive_max_pool, IMAGE, (0,), r"output_size must be at least 1; got .*0"),
        (adaptive_max_pool, IMAGE > 0, (2,), r"x must hold real numbers; got x .* of bool"),
        (adaptive_max_pool, IMAGE.astype(jnp.complex64), (2,), r"real numbers; .*complex64"),
        (adaptive_max_pool, IMAGE[:, :, :0], (2,), r"every spatial axis must have a pixel"),
        (global_avg_pool, IMAGE.astype(int), (), r"floating-point or complex numbers; .*int32"),
        (global_avg_pool, IMAGE[:, :0], (), r"every spatial axis must have a pixel"),
        (global_max_pool, IMAGE > 0, (), r"x must hold real numbers"),
        (global_max_pool, IMAGE[:, :0], (), r"every spatial axis must have a pixel"),
    ],
)  # fmt: skip
def test_says_what_is_wrong(pool, x, size, message):
    with pytest.raises(ValueError, match=f"^{pool.__name__}: .*{message}"):
        pool(x, *size)
