"""jconv.ops.grid_sample against the definition, and what it makes of positions that are none."""

from __future__ import annotations

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jconv.ops.grid_sample import affine_grid, grid_sample
from tests.oracles import sampling as oracle
from tests.tolerance import assert_close

MODES = [*itertools.product(["nearest", "bilinear", "bicubic"], ["zeros", "border", "reflection"])]


def arrays(x=(2, 4, 3, 2), shape=(2, 5), dtype=np.float32, reach=2.2):
    random = np.random.default_rng(0)
    grid = random.uniform(-reach, reach, (x[0], *shape, len(shape)))
    return jnp.asarray(random.normal(size=x), dtype), jnp.asarray(grid, dtype)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize(("mode", "padding_mode"), MODES)
def test_matches_definition(mode, padding_mode, align_corners):
    x, grid = arrays()
    options = {"mode": mode, "padding_mode": padding_mode, "align_corners": align_corners}
    y = jax.jit(functools.partial(grid_sample, **options))(x, grid)
    # float32 positions err by their rounding times the slope of the image, in float64 by nothing.
    assert_close(y, oracle.grid_sample(x, grid, **options), terms=64)


@pytest.mark.parametrize(("mode", "padding_mode"), [("nearest", "zeros"), ("bilinear", "border")])
def test_three_dimensions(mode, padding_mode):
    x, grid = arrays((2, 2, 4, 3, 2), (2, 1, 3))
    options = {"mode": mode, "padding_mode": padding_mode, "align_corners": False}
    y = jax.jit(functools.partial(grid_sample, **options))(x, grid)
    assert_close(y, oracle.grid_sample(x, grid, **options), terms=64)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "padding_mode"), [("bilinear", "reflection"), ("bicubic", "border")]
)
def test_derivatives(mode, padding_mode, x64):
    """Of order 1; order 2, without padding, is among the transformations of all operations."""
    x, grid = arrays((1, 4, 3, 1), (1, 3), np.float64)
    f = jax.jit(functools.partial(grid_sample, mode=mode, padding_mode=padding_mode))
    check_grads(f, (x, grid), order=1, modes=["fwd", "rev"], eps=1e-4, rtol=1e-5, atol=1e-6)


def test_derivatives_at_the_border():
    """PyTorch's: none at the border and beyond it; at a pixel, the slope after it."""
    x = jnp.asarray([1.0, 2.0, 4.0]).reshape(1, 1, 3, 1)

    def slopes(*at, **options):
        grid = jnp.stack([jnp.asarray(at), jnp.zeros(len(at))], -1)[None, None]
        f = functools.partial(grid_sample, x, align_corners=True, **options)
        return jax.jit(jax.grad(lambda grid: f(grid).sum()))(grid)[0, 0, :, 0].tolist()

    assert slopes(-2.0, -1.0, 0.0, 0.5, 1.0, padding_mode="border") == [0, 0, 2, 2, 0]
    assert slopes(-1.5, 1.5, padding_mode="reflection") == [-1, -2]
    assert slopes(-1.0, 1.0, 9.0) == [1, -4, 0]
    assert slopes(0.3, mode="nearest") == [0]


@pytest.mark.parametrize(("mode", "padding_mode"), [*MODES[:6], ("bicubic", "border")])
def test_positions_that_are_none(mode, padding_mode):
    """NaN, infinite and far away: the same as PyTorch's CUDA kernels, and finite gradients."""
    x = jnp.arange(1.0, 10.0).reshape(1, 3, 3, 1)
    at = jnp.asarray([jnp.nan, jnp.inf, -jnp.inf, 1e30, -1e30, 0.0], jnp.float32)
    grid = jnp.stack([at, jnp.zeros(6)], -1)[None, None]
    f = jax.jit(functools.partial(grid_sample, mode=mode, padding_mode=padding_mode))
    y, vjp = jax.vjp(f, x, grid)
    dx, dgrid = vjp(jnp.ones_like(y))
    if mode == "bicubic":
        assert jnp.isnan(y[0, 0, :3]).all()
        y, dgrid = y[:, :, 3:], dgrid[:, :, 3:]
        expected = {"border": [6, 4, 5]}
    else:
        expected = {"zeros": [0, 0, 0, 0, 0, 5], "border": [4, 6, 4, 6, 4, 5]}
        assert jnp.isfinite(dx).all()
    assert jnp.isfinite(dgrid).all()
    assert ((y >= 4) & (y <= 6) | (padding_mode == "zeros")).all()
    if padding_mode != "reflection":
        np.testing.assert_array_equal(y.ravel(), expected[padding_mode])


def test_what_is_not_read_may_be_infinite():
    x = jnp.full((1, 3, 3, 1), jnp.nan).at[0, 1, 1, 0].set(2.0)
    grid = jnp.asarray([[0.0, 0.0], [9.0, 0.0]])[None, None]
    y, vjp = jax.vjp(lambda x: grid_sample(x, grid, mode="nearest"), x)
    np.testing.assert_array_equal(y.ravel(), [2, 0])
    np.testing.assert_array_equal(vjp(y)[0][0, :, :, 0], [[0, 0, 0], [0, 2, 0], [0, 0, 0]])


def test_low_precision():
    """A bfloat16 image is read at float32 positions, and its gradient is summed in float32."""
    x, grid = arrays()
    y, vjp = jax.vjp(jax.jit(grid_sample), x.astype(jnp.bfloat16), grid)
    dx, dgrid = vjp(jnp.ones_like(y))
    assert (y.dtype, dx.dtype, dgrid.dtype) == (jnp.bfloat16, jnp.bfloat16, jnp.float32)
    exact = oracle.grid_sample(x.astype(jnp.bfloat16), grid, "bilinear", "zeros", False)
    assert_close(y, exact, terms=64)
    # 1000 positions at one pixel: in bfloat16 a sum of ones would end at 256.
    _, vjp = jax.vjp(
        lambda x: grid_sample(x, jnp.zeros((1, 1, 1000, 2))), jnp.ones((1, 1, 1, 1), jnp.bfloat16)
    )
    assert vjp(jnp.ones((1, 1, 1000, 1), jnp.bfloat16))[0].item() == 1000


def test_empty_and_one_pixel():
    x, grid = arrays((0, 4, 3, 2))
    y, vjp = jax.vjp(grid_sample, x, grid)
    assert y.shape == (0, 2, 5, 2)
    assert [g.shape for g in vjp(y)] == [x.shape, grid.shape]
    for align_corners, mode in itertools.product([False, True], ["zeros", "reflection"]):
        y = grid_sample(
            jnp.full((1, 1, 1, 1), 3.0), jnp.zeros((1, 1, 1, 2)), padding_mode=mode,
            align_corners=align_corners,
        )  # fmt: skip
        assert y.item() == 3


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("size", [(3, 4), (1, 2), (2, 1, 3)])
def test_affine_grid(size, align_corners):
    theta = np.random.default_rng(0).normal(size=(2, len(size), len(size) + 1)).astype(np.float32)
    grid = affine_grid(theta, size, align_corners=align_corners)
    assert_close(grid, oracle.affine_grid(theta, size, align_corners), terms=4)


def test_the_identity_map_returns_the_image():
    x, _ = arrays()
    for align_corners in (False, True):
        theta = jnp.broadcast_to(jnp.eye(2, 3), (2, 2, 3))
        grid = affine_grid(theta, (4, 3), align_corners=align_corners)
        assert_close(grid_sample(x, grid, align_corners=align_corners), x, terms=64)


X, GRID = jnp.zeros((1, 4, 4, 2)), jnp.zeros((1, 3, 3, 2))


@pytest.mark.parametrize(
    ("x", "grid", "options", "message"),
    [
        (jnp.zeros((1, 4, 2)), GRID, {}, r"x must be floating point .*got x \(1, 4, 2\)"),
        (X.astype(int), GRID, {}, "x must be floating point .*of int32"),
        (jnp.zeros((1, 0, 4, 2)), GRID, {}, "no spatial axis empty"),
        (X, jnp.zeros((2, 3, 3, 2)), {}, r"grid must be \(N, P, Q, 2\) with x's N=1; got grid"),
        (X, jnp.zeros((1, 3, 3, 3)), {}, r"grid must be \(N, P, Q, 2\)"),
        (X, GRID.astype(int), {}, "grid must be floating point; got grid of int32"),
        (X, GRID, {"mode": "linear"}, "mode must be nearest, bilinear or"),
        (
            jnp.zeros((1, 2, 2, 2, 1)), jnp.zeros((1, 1, 1, 1, 3)), {"mode": "bicubic"},
            "in two dimensions, bicubic; got",
        ),
        (X, GRID, {"padding_mode": "reflect"}, "padding_mode must be one of zeros, border, refl"),
    ],
)  # fmt: skip
def test_says_what_is_wrong(x, grid, options, message):
    with pytest.raises(ValueError, match=r"^grid_sample: .*" + message):
        grid_sample(x, grid, **options)


@pytest.mark.parametrize(
    ("theta", "size", "message"),
    [
        (jnp.zeros((2, 3)), 2, r"theta must be floating point \(N, 2, 3\) or \(N, 3, 4\)"),
        (jnp.zeros((1, 2, 3), int), 2, "theta must be floating point .*of int32"),
        (jnp.zeros((1, 2, 3)), (2, 2, 2), "size must be an int or one int for each of 2"),
    ],
)
def test_affine_grid_says_what_is_wrong(theta, size, message):
    with pytest.raises(ValueError, match=f"^affine_grid: .*{message}"):
        affine_grid(theta, size)
