"""jconv.ops.resize against the definition, pixel by pixel, and against jax.image."""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jconv.core import explain_choice
from jconv.ops.resize import resize
from tests.oracles import resize as oracle
from tests.tolerance import assert_close

CASES = {
    "nearest": ((2, 5, 3, 2), {"size": (3, 7)}),
    # In exact arithmetic output 23 of 14 to 46 pixels reads pixel 7; PyTorch, in float32, pixel 6.
    "nearest_in_float32": ((1, 14, 1), {"size": 46}),
    "nearest_exact": ((2, 5, 3, 2), {"size": (3, 7), "method": "nearest-exact"}),
    "linear": ((2, 5, 3, 2), {"size": (3, 7), "method": "linear"}),
    "linear_one_axis": ((2, 4, 3), {"size": 9, "method": "linear", "align_corners": True}),
    "linear_three_axes": ((1, 2, 3, 4, 2), {"size": (3, 2, 5), "method": "linear"}),
    "linear_to_one_pixel": (
        (1, 3, 4, 2), {"size": 1, "method": "linear", "align_corners": True}
    ),
    "linear_from_one_pixel": ((1, 1, 1, 2), {"size": (2, 3), "method": "linear"}),
    "linear_antialias": ((2, 9, 4, 2), {"size": (3, 7), "method": "linear", "antialias": True}),
    "linear_scale": ((1, 5, 4, 2), {"scale": (1.7, 0.6), "method": "linear"}),
    "cubic": ((2, 5, 3, 2), {"size": (3, 7), "method": "cubic"}),
    "cubic_align_corners": (
        (1, 5, 3, 2), {"size": (3, 7), "method": "cubic", "align_corners": True}
    ),
    "cubic_antialias": ((2, 9, 4, 2), {"size": (4, 7), "method": "cubic", "antialias": True}),
    "area": ((2, 7, 3, 2), {"size": (3, 5), "method": "area"}),
    "more_than_32_taps": ((1, 70, 2), {"size": 2, "method": "area"}),
}  # fmt: skip
each_case = pytest.mark.parametrize(("x", "options"), CASES.values(), ids=CASES)


def expected_of(x, options):
    options = {"method": "nearest", **options}
    size, scale = options.pop("size", None), options.get("scale")
    spatial = x.shape[1:-1]
    if size is None:
        size = [math.floor(n * s) for n, s in zip(spatial, scale, strict=True)]
    size = (size,) * len(spatial) if isinstance(size, int) else size
    return oracle.resize(x, size, **options)


@each_case
def test_matches_definition(x, options, key):
    x = jax.random.normal(key, x)
    y = jax.jit(functools.partial(resize, **options))(x)
    assert_close(y, expected_of(x, options), terms=16)


@pytest.mark.parametrize("name", ["linear", "cubic_antialias", "area", "more_than_32_taps"])
def test_gradient_is_the_adjoint(name, key):
    """The matrix of the definition, transposed."""
    shape, options = CASES[name]
    spatial = shape[1:-1]
    units = np.eye(math.prod(spatial)).reshape(1, *spatial, -1)
    matrix = expected_of(units, options).reshape(-1, math.prod(spatial))
    y, vjp = jax.vjp(functools.partial(resize, **options), jax.random.normal(key, shape))
    dy = jax.random.normal(key, y.shape)
    flat = np.asarray(dy, np.float64).reshape(shape[0], -1, shape[-1])
    expected = np.einsum("qp,nqc->npc", matrix, flat).reshape(shape)
    assert_close(jax.jit(vjp)(dy)[0], expected, terms=32)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nearest", "cubic"])
def test_derivatives(name, x64):
    # Linear: a step of 1 has no truncation error.
    shape, options = CASES[name]
    x = jnp.asarray(np.random.default_rng(0).normal(size=shape))
    f = jax.jit(functools.partial(resize, **options))
    check_grads(f, (x,), order=2, modes=["fwd", "rev"], eps=1.0, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_other_dtypes(dtype, x64):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 40, 3, 2)) + 8, dtype)
    options = {"size": (2, 5), "method": "linear", "antialias": True}
    y, vjp = jax.vjp(jax.jit(functools.partial(resize, **options)), x)
    assert (y.dtype, vjp(y)[0].dtype) == (dtype, dtype)
    assert_close(y, expected_of(x, options), terms=40)


@pytest.mark.parametrize("name", ["taps", "matrix"])
def test_both_implementations_agree(name, key):
    x = jax.random.normal(key, (2, 6, 5, 3))
    options = {"size": (4, 9), "method": "cubic"}
    y, vjp = jax.vjp(functools.partial(resize, implementation=name, **options), x)
    expected, back = jax.vjp(functools.partial(resize, **options), x)
    assert_close(y, expected, terms=16)
    assert_close(vjp(y)[0], back(y)[0], terms=64)


def test_the_named_implementation_ran():
    def ran(x, **options):
        f = functools.partial(resize, method="area", **options)
        return [(c.op, c.implementation) for c in explain_choice(f, x)]

    assert ran(jnp.zeros((1, 64, 1)), size=2) == [("resample", "taps")]
    assert ran(jnp.zeros((1, 66, 1)), size=2) == [("resample", "matrix")]
    assert ran(jnp.zeros((1, 64, 1)), size=2, implementation="matrix") == [("resample", "matrix")]
    assert ran(jnp.zeros((1, 64, 1)), size=64) == []
    with pytest.raises(NotImplementedError, match="only up to 32 taps, got 33"):
        resize(jnp.zeros((1, 66, 1)), 2, method="area", implementation="taps")


def test_nothing_beyond_a_pixels_taps_sees_it():
    x = jnp.zeros((1, 6, 6, 1)).at[0, 0, 0, 0].set(jnp.nan).at[0, 5, 5, 0].set(jnp.inf)
    y = resize(x, 12, method="linear")[0, :, :, 0]
    assert jnp.isnan(y[:3, :3]).all()
    assert jnp.isinf(y[9:, 9:]).all()
    assert jnp.isfinite(y.at[:3, :3].set(0).at[9:, 9:].set(0)).all()
    # A pixel of weight 0 is not read, and neither is a cotangent.
    y, vjp = jax.vjp(lambda x: resize(x, 5, method="linear", align_corners=True), x[:, :, 0])
    dx = vjp(y.at[0, 0, 0].set(jnp.nan).at[0, 4, 0].set(1.0))[0][0, :, 0]
    np.testing.assert_array_equal(jnp.isnan(dx), [True, False, False, False, False, False])


def test_numbers_that_are_not_floats():
    x = jnp.arange(12).reshape(1, 3, 4, 1)
    np.testing.assert_array_equal(resize(x, (6, 2))[0, :, :, 0], np.repeat(x[0, :, ::2, 0], 2, 0))
    assert resize(x > 5, 2).dtype == bool
    z = x.astype(jnp.complex64) * (1 + 2j)
    half = resize(x.astype(jnp.float32), 2, method="linear")
    np.testing.assert_allclose(
        resize(z, 2, method="linear"), np.asarray(half) * (1 + 2j), rtol=1e-6
    )


def test_lists_and_empty_batches():
    assert resize([[[1.0], [3.0]]], 1, method="area").tolist() == [[[2.0]]]
    y, vjp = jax.vjp(lambda x: resize(x, 4, method="cubic"), jnp.ones((0, 2, 3, 2)))
    assert y.shape == (0, 4, 4, 2)
    assert vjp(y)[0].shape == (0, 2, 3, 2)


def test_scale():
    """The output is floor(n * scale); distances are 1 / scale, not n / m, as in PyTorch."""
    x = jnp.arange(5.0).reshape(1, 5, 1)
    np.testing.assert_allclose(
        resize(x, scale=0.5, method="linear")[0, :, 0], [0.5, 2.5], rtol=1e-6
    )
    np.testing.assert_allclose(resize(x, 2, method="linear")[0, :, 0], [0.75, 3.25], rtol=1e-6)
    # An axis that keeps its size is kept, and one that doubles is doubled, whatever the scale.
    np.testing.assert_array_equal(resize(x, scale=1.19, method="linear"), x)
    np.testing.assert_array_equal(resize(x, scale=np.float32(2.19)), jnp.repeat(x, 2, 1))


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"method": "nearest-exact"}, {"method": "nearest"}),
        ({"method": "linear"}, {"method": "linear", "antialias": False}),
        ({"method": "linear", "antialias": True}, {"method": "linear"}),
        ({"method": "cubic", "antialias": True}, {"method": "cubic"}),
    ],
)
def test_jax_image_resize(ours, theirs, key):
    """The table of names in docs/ops/sampling.md."""
    x = jax.random.normal(key, (1, 9, 4, 2))
    expected = jax.image.resize(x, (1, 5, 7, 2), precision="highest", **theirs)
    assert_close(resize(x, (5, 7), **ours), expected, terms=100)


def test_arrays_are_sequences():
    x = jax.random.normal(jax.random.key(0), (1, 4, 5, 2))
    np.testing.assert_array_equal(resize(x, np.array([2, 3])), resize(x, (2, 3)))
    np.testing.assert_array_equal(resize(x, scale=np.array([2, 0.5])), resize(x, scale=(2, 0.5)))


X = jnp.zeros((1, 4, 4, 2))


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (jnp.zeros((4, 4)), {"size": 2}, r"x must be \(N, \*spatial, C\).*got x \(4, 4\)"),
        (jnp.zeros((1, 0, 4, 2)), {"size": 2}, r"none empty; got x \(1, 0, 4, 2\)"),
        (X, {}, "give size or scale, one of them; got size=None, scale=None"),
        (X, {"size": 2, "scale": 2}, "give size or scale, one of them"),
        (X, {"size": (2, 2, 2)}, "size must be an int or one int for each of 2 spatial axes"),
        (X, {"size": 0}, "size must be at least 1"),
        (X, {"scale": (2.0,)}, "scale must be a positive number or one for each of 2"),
        (X, {"scale": "2"}, "scale must be a positive number"),
        (X, {"scale": True}, "scale must be a positive number"),
        (X, {"scale": -1.0}, "scale must be a positive number"),
        (X, {"scale": 0.2}, "scale must leave at least one pixel of each axis; got scale=0.2"),
        (X, {"size": 2, "method": "bilinear"}, "method must be one of nearest, .*got 'bilinear'"),
        (X, {"size": 2, "align_corners": True}, 'align_corners is for method="linear" or "cubic"'),
        (X, {"size": 2, "method": "area", "antialias": True}, "antialias is for method"),
        (X.astype(int), {"size": 2, "method": "linear"}, "takes means, so x must be floating"),
        (X, {"size": 2, "implementation": "x"}, "implementation must be None or one of"),
    ],
)
def test_says_what_is_wrong(x, options, message):
    with pytest.raises(ValueError, match=r"^(resize|resample): .*" + message):
        resize(x, **options)
