"""float8, float4 and int4: computed where jax.lax computes them, exact where jconv says so."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jconv
from jconv.ops.roi_pool import roi_pool
from tests.oracles import conv as oracle

FLOAT8 = ["float8_e4m3fn", "float8_e5m2", "float8_e4m3b11fnuz"]


@pytest.mark.parametrize("dtype", FLOAT8)
def test_convolution_sums_float8_in_float32(dtype):
    """1,800 products of 1/128: summed in float8 they would get no further than 1/4."""
    x, w = jnp.full((1, 3, 3, 200), 1 / 128, dtype), jnp.ones((3, 3, 200, 1), dtype)
    y = jconv.conv(x, w, padding="VALID")
    assert y.dtype == dtype
    assert float(y.ravel()[0]) == float(jnp.asarray(1800 / 128, dtype))
    wide = jconv.conv(x, w, padding="VALID", preferred_element_type=jnp.float32)
    np.testing.assert_array_equal(wide.ravel(), 1800 / 128)
    back = jconv.conv_transpose(x, w.swapaxes(2, 3))
    assert (back.dtype, float(back[0, 1, 1, 0])) == (dtype, float(jnp.asarray(1800 / 128, dtype)))


@pytest.mark.parametrize("dtype", FLOAT8)
def test_gradients_of_a_float8_convolution(dtype):
    """Small whole numbers: exact, then rounded to the operand's dtype."""
    random = np.random.default_rng(0)
    x, w = random.integers(-2, 3, (2, 4, 3, 2)), random.integers(-2, 3, (3, 2, 2, 3))
    x, w = jnp.asarray(x, dtype), jnp.asarray(w, dtype)
    y, vjp = jax.vjp(lambda x, w: jconv.conv(x, w, padding="VALID"), x, w)
    dy = jnp.ones_like(y)
    plain = {"stride": (1, 1), "pads": ((0, 0), (0, 0)), "dilation": (1, 1)}
    expected = (
        oracle.conv(x, w, **plain),
        oracle.input_grad(dy, w, input=x.shape[1:-1], **plain),
        oracle.filter_grad(x, dy, window=w.shape[:-2], **plain),
    )
    for ours, right in zip((y, *vjp(dy)), expected, strict=True):
        assert ours.dtype == dtype
        np.testing.assert_array_equal(
            ours.astype(jnp.float32), jnp.asarray(right, dtype).astype("f4")
        )


@pytest.mark.parametrize("dtype", [*FLOAT8, "float4_e2m1fn", "int4", "uint4"])
def test_poolings_of_dtypes_without_infinity(dtype):
    """Padding is the smallest number there is, so it never wins; alone it is what remains."""
    unsigned = dtype == "uint4"
    values = np.float32([[1, 3], [2, 4]]) - (0 if unsigned else 5)
    x = jnp.asarray(values, dtype)[None, :, :, None]
    y, indices = jconv.max_pool(x, 2, padding=1, return_indices=True)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y[0, :, :, 0].astype("float32"), values)
    np.testing.assert_array_equal(indices[0, :, :, 0], [[0, 1], [2, 3]])
    y, indices = jconv.min_pool(x, 2, padding=1, return_indices=True)
    np.testing.assert_array_equal(y[0, :, :, 0].astype("float32"), values)
    alone = jconv.max_pool(x, 1, stride=3, padding=1)[0, 0, 0, 0]
    lowest = {"float8_e5m2": -np.inf, "int4": -8, "uint4": 0}
    assert float(alone) == lowest.get(dtype, float(jnp.finfo(dtype).min) if "float" in dtype else 0)
    if "float8" in dtype:
        ones = jnp.ones((1, 2, 2, 1), dtype)
        mean = jconv.avg_pool(ones, 2, padding=1)
        np.testing.assert_array_equal(mean.astype("float32"), np.full((1, 2, 2, 1), 0.25))
        dx = jax.grad(lambda x: jconv.max_pool(x, 2, padding=1).astype(jnp.float32).sum())(x)
        np.testing.assert_array_equal(dx.astype("float32"), np.ones(x.shape))


@pytest.mark.parametrize("dtype", FLOAT8)
def test_regions_of_a_float8_image(dtype):
    x = -jnp.ones((1, 2, 2, 1), dtype)
    y = roi_pool(x, np.float32([[0, 0, 1, 1]]), np.zeros(1, np.int32), output_size=1)
    assert (y.dtype, float(y[0, 0, 0, 0])) == (dtype, -1.0)


@pytest.mark.parametrize("op", [jconv.max_pool, jconv.min_pool, jconv.avg_pool])
def test_scales_are_no_images(op):
    x = jnp.ones((1, 4, 4, 1), jnp.float8_e8m0fnu)
    message = rf"^{op.__name__}: x must be of a dtype that has 0 and negative.*float8_e8m0fnu"
    with pytest.raises(ValueError, match=message):
        op(x, 2)


NORMS = {
    "batch_norm": jconv.batch_norm,
    "layer_norm": jconv.layer_norm,
    "rms_norm": jconv.rms_norm,
    "instance_norm": jconv.instance_norm,
    "group_norm": lambda x: jconv.group_norm(x, groups=1),
}


@pytest.mark.parametrize(("name", "norm"), NORMS.items(), ids=NORMS)
def test_scales_are_not_normalised(name, norm):
    x = jnp.ones((2, 3, 4), jnp.float8_e8m0fnu)
    message = rf"^{name}: x must be of a dtype that has 0 and negative .*\(2, 3, 4\) of float8_e8m0"
    with pytest.raises(ValueError, match=message):
        norm(x)
