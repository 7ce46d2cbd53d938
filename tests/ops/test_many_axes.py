"""Four and five spatial axes: beyond what cuDNN, oneDNN and PyTorch have, the definition holds."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import jconv
from tests.ops.pool_cases import Case as Pooling
from tests.oracles import conv as conv_oracle
from tests.oracles import conv_variants, pool
from tests.oracles.conv_transpose import conv_transpose as transposed_oracle
from tests.tolerance import assert_close

# x, w, and one entry per axis; two groups.
CASES = {
    "four_axes": {
        "x": (2, 3, 2, 3, 2, 4), "w": (2, 1, 3, 2, 2, 4), "stride": (1, 2, 1, 1),
        "pads": ((1, 0), (0, 0), (0, 2), (1, 1)), "dilation": (2, 1, 1, 1),
    },
    "five_axes": {
        "x": (1, 2, 3, 2, 1, 3, 2), "w": (1, 2, 2, 1, 2, 1, 4), "stride": (1, 1, 2, 1, 2),
        "pads": ((0, 0), (1, 0), (0, 0), (0, 0), (1, 0)), "dilation": (1, 2, 1, 1, 1),
    },
}  # fmt: skip
each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
pytestmark = pytest.mark.slow


def options(case):
    return {"stride": case["stride"], "padding": case["pads"], "dilation": case["dilation"]}


def definition(case):
    return {name: case[name] for name in ("stride", "pads", "dilation")}


def normal(seed, shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


@each_case
def test_convolution(case, x64):
    x, w = normal(0, case["x"]), normal(1, case["w"])
    f = jax.jit(functools.partial(jconv.conv, groups=2, **options(case)))
    y = f(x, w)
    assert_close(y, conv_oracle.conv(x, w, groups=2, **definition(case)), terms=w[..., 0].size)
    check_grads(f, (x / 4, w), order=2, modes=["fwd", "rev"], eps=1e-3, rtol=1e-5, atol=1e-7)
    for axes in ((0, None), (None, 0), (0, 0)):
        pairs = zip((x, w), axes, strict=True)
        operands = [a if axis is None else jnp.stack([a, -2 * a]) for a, axis in pairs]
        factor = (-2) ** axes.count(0)
        np.testing.assert_allclose(jax.vmap(f, axes)(*operands)[1], factor * y, rtol=1e-10)


@each_case
def test_transposed_convolution(case):
    w = np.asarray(normal(1, case["w"]), np.float32)
    y = np.asarray(normal(0, (*case["x"][:-1], w.shape[-1])), np.float32)
    none = (0,) * (w.ndim - 2)
    expected = transposed_oracle(y, w, output_padding=none, groups=2, **definition(case))
    assert_close(jconv.conv_transpose(y, w, groups=2, **options(case)), expected, terms=w.size)


@each_case
def test_poolings(case, x64):
    window = tuple(min(r + 1, n) for r, n in zip(case["w"][:-2], case["x"][1:-1], strict=True))
    given = Pooling(x=case["x"], window=window, stride=1)
    x = jnp.asarray(given.distinct(np.float64))
    y, indices = pool.max_pool(x, **given.definition)
    for ties in ("first", "shared"):
        f = functools.partial(jconv.max_pool, return_indices=True, ties=ties, **given.options)
        for ours, expected in zip(f(x), (y, indices), strict=True):
            np.testing.assert_array_equal(ours, expected)
        squared = jax.jit(lambda x, f=f: f(x)[0] ** 2)
        check_grads(squared, (x,), order=2, eps=1e-3, rtol=1e-5)
    shape = given.definition
    shape.pop("dilation")
    mean = jax.jit(functools.partial(jconv.avg_pool, **given.options))
    assert_close(mean(x), pool.avg_pool(x, **shape), terms=int(np.prod(window)))
    check_grads(mean, (x,), order=2, eps=1.0, rtol=1e-10, atol=1e-10)


@each_case
def test_unfold_and_fold(case):
    x = np.asarray(normal(0, case["x"]), np.float32)
    window = case["w"][:-2]
    u = jconv.unfold(x, window, **options(case))
    np.testing.assert_array_equal(u, conv_variants.unfold(x, window, **definition(case)))
    expected = conv_variants.fold(u, x.shape[1:-1], **definition(case))
    assert_close(
        jconv.fold(u, x.shape[1:-1], **options(case)), expected, terms=int(np.prod(window))
    )
