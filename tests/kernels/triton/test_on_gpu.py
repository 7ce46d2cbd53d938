"""Kernels compiled and run on an NVIDIA GPU: no less exact than XLA, the same in every run.

Right is what the definitions give in float64 on the CPU, of the same numbers; they are compared
with the oracles elsewhere. An error may be twice that of XLA's program on this GPU, or what is
unavoidable: one rounding of a stored result, or of float32 those of a sum whose terms are added one
after the other, as a kernel adds the taps of a window. XLA may add them by parts, whose error is
smaller. n roundings of partial sums of size sqrt(k), k to n, make eps * sqrt(n / 2) of a result of
size sqrt(n), both in standard deviations (tests/tolerance.py); so it is of their largest entries.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jconv_kernels import triton

import jconv
from tests.kernels.triton import steps
from tests.tolerance import epsilons

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(triton.unavailable() is not None, reason=triton.unavailable() or ""),
]
N = 4


def layer_norm(x, scale, **options):
    return jconv.layer_norm(x, scale, scale, **options)


def depthwise(x, r, **options):
    c = x[-1]
    return x, ((r, r, 1, c),), functools.partial(jconv.conv, groups=c, **options)


def pool(x, op, window, **options):
    return x, (), functools.partial(op, window=window, **options)


def norm(x, op, **options):
    return x, ((x[-1],),), functools.partial(op, **options)


def dense(x, r, k, *, groups=1, **options):
    w = (r, r, x[-1] // groups, k)
    return x, (w,), functools.partial(jconv.conv, groups=groups, precision="highest", **options)


def batch_norm(x, scale, **options):
    return jconv.batch_norm(x, scale, scale, activation="relu", **options)[0]


def group_norm(x, scale, **options):
    return jconv.group_norm(x, scale, scale, **options)


def epilogue(x, scale, bias, *gate, **options):
    return jconv.scale_bias_act(x, scale, bias, gate=gate[0] if gate else None, **options)


def acted(x, activation, *, gated=False):
    """What follows a convolution, with a gate or without."""
    c = x[-1]
    parameters = ((c,), (c,), *([(x[0], c)] if gated else []))
    return x, parameters, functools.partial(epilogue, activation=activation)


# Shape of x, shapes of the parameters, the operation: layers of networks, and odd sizes.
CASES: dict[str, tuple[tuple[int, ...], tuple[tuple[int, ...], ...], Any]] = {
    "max_pool_3s2": pool((N, 112, 112, 64), jconv.max_pool, 3, stride=2, padding=1),
    "max_pool_odd": pool((3, 17, 23, 13), jconv.max_pool, 2, padding=1),
    "avg_pool_2": pool((N, 112, 112, 64), jconv.avg_pool, 2),
    "avg_pool_odd": pool((3, 17, 23, 13), jconv.avg_pool, 3, stride=2, padding=1),
    "dw3": depthwise((N, 56, 56, 144), 3),
    "dw3_strided": depthwise((N, 56, 56, 144), 3, stride=2),
    "dw3_dilated": depthwise((N, 28, 28, 192), 3, dilation=2),
    "dw7": depthwise((N, 56, 56, 96), 7),
    "dw31": depthwise((2, 28, 28, 64), 31),
    "dw5_odd": depthwise((3, 13, 19, 7), 5, stride=2),
    "layer_norm_96": norm((N, 56, 56, 96), layer_norm),
    "layer_norm_768": norm((N, 7, 7, 768), layer_norm),
    "layer_norm_odd": norm((3, 5, 7, 37), layer_norm),
    "rms_norm_384": norm((N, 14, 14, 384), jconv.rms_norm),
    "batch_norm_64": norm((N, 56, 56, 64), batch_norm),
    "batch_norm_2048": norm((32, 7, 7, 2048), batch_norm),
    "batch_norm_odd": norm((3, 5, 7, 37), batch_norm),
    "group_norm_256": norm((N, 28, 28, 256), group_norm, groups=32),
    "group_norm_768": norm((32, 7, 7, 768), group_norm, groups=1),
    "group_norm_odd": norm((33, 5, 7, 55), group_norm, groups=11),
    "instance_norm_128": norm((N, 64, 64, 128), jconv.instance_norm),
    "silu_gate_144": acted((N, 56, 56, 144), "silu", gated=True),
    "hard_swish_gate_672": acted((32, 14, 14, 672), "hard_swish", gated=True),
    "gelu_384": acted((N, 56, 56, 384), "gelu_exact"),
    "gelu_tanh_3072": acted((N, 7, 7, 3072), "gelu"),
    "relu6_odd": acted((3, 5, 7, 37), "relu6", gated=True),
    "conv3": dense((N, 28, 28, 64), 3, 128),
    "conv3_strided": dense((N, 28, 28, 128), 3, 64, stride=2, padding=1),
    "conv1": dense((N, 14, 14, 256), 1, 64),
    "conv7_image": dense((N, 64, 64, 3), 7, 64, stride=2, padding=3),
    "conv3_groups": dense((N, 14, 14, 128), 3, 128, groups=32),
    "conv3_odd": dense((3, 9, 11, 7), 3, 13, dilation=2, padding=1),
}
each_case = pytest.mark.parametrize("name", CASES)
each_dtype = pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])


def operands(name, dtype):
    """x and the parameters: standard normal numbers."""
    x, parameters, _ = CASES[name]
    random = np.random.default_rng(0)
    return [random.standard_normal(shape, np.float32).astype(dtype) for shape in (x, *parameters)]


def passes(name, implementation):
    """(x, *parameters) to y and all gradients of sum(y cos(position))."""
    _, _, op = CASES[name]

    def run(*args):
        y, back = jax.vjp(functools.partial(op, implementation=implementation), *args)
        dy = jnp.cos(jnp.arange(y.size, dtype="float32")).reshape(y.shape)
        return y, *back(dy.astype(y.dtype))

    return jax.jit(run)


def exact(name, args):
    """In float64 on the CPU."""
    with jax.enable_x64(True), jax.default_device(jax.devices("cpu")[0]):
        wide = [jnp.asarray(np.asarray(a, np.float64)) for a in args]
        return [np.asarray(result) for result in passes(name, "direct")(*wide)]


def in_a_row(name):
    """How many numbers a kernel adds one after the other in float32: the taps of a window, or the
    terms of a product of matrices; else what a thread holds of a row, and what follows it."""
    _, parameters, op = CASES[name]
    window = op.keywords.get("window", 1)
    return max(math.prod(parameters[0][:-1]) if parameters else 0, window**2, 32)


def error(result, right):
    """Of the largest entry; not a number if one entry is none."""
    return np.max(np.abs(np.asarray(result, np.float64) - right)) / np.max(np.abs(right))


@each_case
@each_dtype
def test_errors_at_most_twice_those_of_xla(name, dtype):
    args = operands(name, jnp.dtype(dtype))
    ours, xla = (passes(name, implementation)(*args) for implementation in ("triton", "direct"))
    stored, summed = epsilons(jnp.dtype(dtype))
    least = max(stored, summed * np.sqrt(in_a_row(name) / 2))
    for found, other, right in zip(ours, xla, exact(name, args), strict=True):
        assert found.dtype == args[0].dtype
        assert error(found, right) <= max(2 * error(other, right), least)


@each_case
def test_every_run_gives_the_same_bits(name):
    args = operands(name, jnp.bfloat16)
    run = passes(name, "triton")
    first = [np.asarray(result) for result in run(*args)]
    for _ in range(3):
        for once, again in zip(first, run(*args), strict=True):
            assert once.tobytes() == np.asarray(again).tobytes()


@pytest.mark.parametrize("name", steps.NETWORKS)
def test_a_step_of_training(name):
    random = np.random.default_rng(0)
    params = jax.tree.map(
        lambda t: jnp.asarray(random.standard_normal(t.shape) / 4, t.dtype), steps.parameters(name)
    )
    x, labels = steps.images(8)
    batch = (
        jnp.asarray(random.standard_normal(x.shape), x.dtype),
        jnp.asarray(random.integers(0, steps.CLASSES, labels.shape), labels.dtype),
    )
    ours, xla = (jax.jit(steps.step(name, how))(params, batch) for how in ("triton", None))
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(xla), strict=True):
        np.testing.assert_allclose(a, b, rtol=0.05, atol=0.02)
