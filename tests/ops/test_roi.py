"""jconv.ops.roi_align and roi_pool against the definitions, box by box."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jconv.ops.roi_align import roi_align
from jconv.ops.roi_pool import roi_pool
from tests.oracles import sampling as oracle
from tests.tolerance import assert_close

# Ordinary, of no size, hanging over each side, outside, larger than the image.
BOXES = np.array(
    [
        [1, 1, 4, 5], [2, 2, 2, 2], [-2.5, -0.5, 1.5, 2], [3, 4, 9, 9.5], [20, 1, 22, 3],
        [-4, -4, 9, 9],
    ], np.float32,
)  # fmt: skip
INDICES = np.array([0, 1, 1, 0, 1, 0])


@pytest.fixture
def x(key):
    return jax.random.normal(key, (2, 7, 6, 3))


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("sampling_ratio", [1, 2, 0])
def test_align_matches_definition(x, sampling_ratio, aligned):
    options = {"output_size": (2, 3), "spatial_scale": 0.7, "aligned": aligned}
    most = None if sampling_ratio else 5
    f = functools.partial(roi_align, sampling_ratio=sampling_ratio, most_samples=most, **options)
    y = jax.jit(f)(x, BOXES, INDICES)
    expected = oracle.roi_align(x, BOXES, INDICES, sampling_ratio=sampling_ratio, **options)
    assert_close(y, expected, terms=64)


def test_align_of_a_ramp_is_the_centre_of_the_bin():
    """He et al. 2017: no quantisation. On a linear image a mean is the value at the centre."""
    x = jnp.arange(8.0)[None, :, None, None] + 10 * jnp.arange(8.0)[None, None, :, None]
    box = jnp.asarray([[1.3, 2.1, 4.3, 6.1]])
    y = roi_align(x, box, [0], output_size=(2, 3), sampling_ratio=2, aligned=True)
    rows, columns = 2.1 - 0.5 + np.array([1, 3]), 1.3 - 0.5 + np.array([0.5, 1.5, 2.5])
    np.testing.assert_allclose(y[0, :, :, 0], rows[:, None] + 10 * columns, rtol=1e-6)


def test_more_samples_than_needed_change_nothing(x):
    f = jax.jit(
        functools.partial(roi_align, output_size=2, sampling_ratio=0),
        static_argnames="most_samples",
    )
    boxes = BOXES[:2]
    assert_close(
        f(x, boxes, INDICES[:2], most_samples=9), f(x, boxes, INDICES[:2], most_samples=2), terms=64
    )
    # Of a larger bin so many as there may be, spread over it.
    one = roi_align(x, BOXES[:1], INDICES[:1], output_size=1, sampling_ratio=2)
    assert_close(
        roi_align(x, BOXES[:1], INDICES[:1], output_size=1, sampling_ratio=0, most_samples=2),
        one, terms=64,
    )  # fmt: skip


@pytest.mark.parametrize("f", [functools.partial(roi_align, sampling_ratio=2), roi_pool])
def test_boxes_that_are_none(f, x):
    """Not a number, infinite, or of an image that does not exist: 0, and finite gradients."""
    boxes = jnp.asarray([[jnp.nan, 0, 2, 2], [0, 0, 1, jnp.nan], [0, 0, 2, 2], [0, 0, 2, 2]])
    indices = jnp.asarray([0, 0, -1, 2])
    f = jax.jit(functools.partial(f, output_size=2))
    y, vjp = jax.vjp(lambda *a: f(*a, indices), x, boxes)
    np.testing.assert_array_equal(y, jnp.zeros((4, 2, 2, 3)))
    assert not any(g.any() for g in vjp(jnp.ones_like(y)))
    infinite = jnp.asarray([[-jnp.inf, 0, jnp.inf, 1]])
    grads = jax.jit(jax.grad(lambda *a: f(*a, indices[:1]).sum(), (0, 1)))(x, infinite)
    assert all(jnp.isfinite(g).all() for g in grads)


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_pool_matches_definition(x, scale):
    options = {"output_size": (3, 2), "spatial_scale": scale}
    y = jax.jit(functools.partial(roi_pool, **options))(x, BOXES, INDICES)
    assert_close(y, oracle.roi_pool(x, BOXES, INDICES, **options), terms=1)


def test_pool_gives_its_gradient_to_the_first_of_equals():
    x = jnp.ones((1, 2, 3, 1)).at[0, 0, 0, 0].set(0.0)
    f = jax.jit(lambda x, box: roi_pool(x, box, [0], output_size=1))
    dx = jax.jit(jax.grad(lambda x: f(x, jnp.asarray([[0.0, 0, 2, 1]])).sum()))(x)
    np.testing.assert_array_equal(dx[0, :, :, 0], [[0, 1, 0], [0, 0, 0]])
    lowest = jnp.full((1, 2, 3, 1), -jnp.inf).at[0, 0, 0, 0].set(7.0)
    assert f(lowest, jnp.asarray([[1.0, 0, 2, 1]])).item() == -jnp.inf
    assert jnp.isnan(f(x.at[0, 1, 1, 0].set(jnp.nan), jnp.asarray([[0.0, 0, 2, 1]]))).all()


@pytest.mark.parametrize("f", [functools.partial(roi_align, sampling_ratio=2), roi_pool])
@pytest.mark.parametrize(("n", "k"), [(2, 0), (0, 0), (0, 2), (1, 1)])
def test_no_boxes_and_no_images(f, n, k):
    boxes = jnp.ones((k, 4))
    run = functools.partial(f, boxes=boxes, box_indices=jnp.zeros(k, int), output_size=2)
    y, vjp = jax.vjp(jax.jit(run), jnp.ones((n, 3, 3, 2)))
    assert y.shape == (k, 2, 2, 2)
    np.testing.assert_array_equal(y, jnp.full(y.shape, float(n > 0)))
    assert vjp(y)[0].shape == (n, 3, 3, 2)


def test_low_precision(x):
    y, vjp = jax.vjp(
        jax.jit(lambda x: roi_align(x, BOXES, INDICES, output_size=2, sampling_ratio=2)),
        x.astype(jnp.bfloat16),
    )
    assert (y.dtype, vjp(y)[0].dtype) == (jnp.bfloat16, jnp.bfloat16)
    expected = oracle.roi_align(x.astype(jnp.bfloat16), BOXES, INDICES, (2, 2), 1.0, 2, False)
    assert_close(y, expected, terms=64)
    pooled = roi_pool(x.astype(jnp.float16), BOXES, INDICES, output_size=2)
    assert pooled.dtype == jnp.float16


X = jnp.zeros((1, 4, 4, 2))


@pytest.mark.parametrize(
    ("x", "boxes", "indices", "options", "message"),
    [
        (X[0], BOXES, INDICES, {}, r"x must be floating point \(N, H, W, C\).*got x \(4, 4, 2\)"),
        (X.astype(int), BOXES, INDICES, {}, "x must be floating point .*of int32"),
        (X, BOXES[:, :3], INDICES, {}, r"boxes must be floating point \(K, 4\).*\(6, 3\)"),
        (X, BOXES.astype(int), INDICES, {}, r"boxes must be floating point.*of int32"),
        (X, BOXES, INDICES[:2], {}, r"box_indices must be integers \(K,\) = \(6,\).*\(2,\)"),
        (X, BOXES, INDICES * 1.0, {}, "box_indices must be integers .*of float32"),
        (X, BOXES, INDICES, {"output_size": (1, 2, 3)}, "output_size must be an int or one int"),
        (
            X,
            BOXES,
            INDICES,
            {"sampling_ratio": -1},
            "sampling_ratio must .*; got -1: .* is sampling_ratio=0",
        ),
        (X, BOXES, INDICES, {"sampling_ratio": -2}, "sampling_ratio must be at least 0"),
        (X, BOXES, INDICES, {"sampling_ratio": 0}, "give most_samples with sampling_ratio=0"),
        (X, BOXES, INDICES, {"most_samples": 2}, "give most_samples .*, and only then"),
        (X, BOXES, INDICES, {"sampling_ratio": 0, "most_samples": 0}, "most_samples must be at l"),
    ],
)
def test_says_what_is_wrong(x, boxes, indices, options, message):
    with pytest.raises(ValueError, match=f"^roi_align: {message}"):
        roi_align(x, boxes, indices, **{"output_size": 2, "sampling_ratio": 2, **options})


def test_pool_says_what_is_wrong():
    with pytest.raises(ValueError, match=r"^roi_pool: x must be floating point"):
        roi_pool(X[0], BOXES, INDICES, output_size=2)


def test_positions_on_a_pixel_read_it_when_compiled(x64):
    """XLA may compute a position twice, rounded to either side of a whole number."""
    random = np.random.default_rng(0)
    x = jnp.asarray(random.standard_normal((1, 9, 11, 1)))
    corners = np.sort(random.integers(-4, 26, (400, 2, 2)) / 2, axis=1)

    def f(x, boxes):
        return roi_align(x, boxes, np.zeros(400, np.int32), output_size=2, sampling_ratio=3)

    boxes = jnp.asarray(corners.reshape(400, 4))
    np.testing.assert_allclose(jax.jit(f)(x, boxes), f(x, boxes), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32"])
def test_images_are_found_by_narrow_integers(dtype):
    x = jnp.broadcast_to(jnp.arange(300.0)[:, None, None, None], (300, 4, 4, 1))
    box, at = jnp.array([[0.0, 0, 3, 3]]), jnp.array([100], dtype)
    assert roi_align(x, box, at, output_size=1, sampling_ratio=1).item() == 100
    assert roi_pool(x, box, at, output_size=1).item() == 100
