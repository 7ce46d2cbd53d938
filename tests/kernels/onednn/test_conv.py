"""Convolution and its gradients on oneDNN against the definition, in float64."""

from __future__ import annotations

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jconv_kernels import onednn
from jconv_kernels.onednn import conv

from tests.kernels.onednn.calls import (
    MORE,
    calls,
    each_case,
    each_of,
    needs_onednn,
    static_of,
    window_of,
)
from tests.ops.conv_cases import CASES, Case
from tests.oracles import conv as oracle
from tests.tolerance import assert_close

pytestmark = needs_onednn
WIDE = Case(x=(2, 6, 5, 16), window=(3, 3), k=24, stride=(2, 1))


def check(case, key, dtype):
    for name, call in calls(case, key, dtype).items():
        assert call.refused is None, name
        result = jax.jit(call.run)(*call.operands)
        assert result.dtype == dtype
        assert_close(result, call.expected, terms=call.terms)


@each_case
def test_matches_definition(case, key):
    check(case, key, "float32")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@each_of({"depthwise": CASES["depthwise"], **MORE}, "depthwise", "blocks_of_channels")
def test_matches_definition_in_16_bits(case, dtype, key):
    """Where this CPU has no code for them, in float32."""
    check(case, key, dtype)


HOSTILE = {
    "dilation_of_millions": Case(
        x=(1, 5, 4), window=(2,), k=4, dilation=10**6, padding=((10**6, 0),)
    ),
    "pads_of_millions": Case(
        x=(1, 5, 1), window=(2,), k=3, dilation=10**8, padding=((10**8, 10**8),), stride=10**7
    ),
    "stride_beyond_int32": Case(
        x=(1, 5, 6, 16), window=(3, 3), k=16, stride=(2**31, 2**40), padding=0
    ),
    "stride_beyond_the_image": Case(
        x=(1, 5, 6, 16), window=(3, 3), k=16, stride=1000, groups=16, padding=1
    ),
    "pads_beyond_the_image": Case(x=(2, 5, 6, 16), window=(3, 3), k=16, padding=100, stride=11),
    "depthwise_in_pads": Case(
        x=(2, 5, 6, 16), window=(3, 3), k=16, groups=16, padding=100, stride=11
    ),
    "window_beyond_the_image": Case(x=(1, 2, 2, 3), window=(20, 20), k=4, padding=20),
    "three_axes_of_pads": Case(x=(1, 2, 2, 2, 4), window=(2, 2, 2), k=4, padding=9, stride=6),
}


@each_of(HOSTILE, "dilation_of_millions", "stride_beyond_int32")
def test_hostile_shapes(case, key):
    check(case, key, "float32")


@pytest.mark.parametrize("kind", [conv.FORWARD, conv.INPUT_GRAD, conv.FILTER_GRAD])
def test_one_axis_runs_on_the_code_for_depthwise(kind):
    """As one axis it would take oneDNN's code for groups of 16 channels."""
    x, w, dy = (
        jax.ShapeDtypeStruct(shape, "float32") for shape in ((2, 100, 64), (9, 1, 64), (2, 100, 64))
    )
    window = window_of(Case(x=x.shape, window=(9,), k=64, groups=64))
    _, implementation = conv._ask(kind, x, w, dy, window)
    assert implementation.startswith(("jit_dw:", "brdgmm_dw:", "brgemm_dw:"))


@pytest.mark.slow  # every case once more, in a process of its own
def test_writes_every_number():
    """Fresh memory holds -1.7e38 here, not the zeros that the system gives."""
    chosen = [f"{__file__}::test_matches_definition", "-q", "-n0", "-p", "no:cacheprovider"]
    process = subprocess.run(
        [sys.executable, "-m", "pytest", *chosen],
        env={**os.environ, "MALLOC_PERTURB_": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert process.returncode == 0, process.stdout[-2000:]


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@each_of({"dense": WIDE, "depthwise": CASES["depthwise"]}, "dense")
def test_forward_adds_bias_and_residual_before_relu(case, bias, residual, relu, key):
    static = static_of(case, "float32")
    (x, w), shape = case.arrays(key, "float32"), (case.x[0], *static["window"].output, case.k)
    extra = {
        "bias": jax.random.normal(key, (case.k,)) if bias else None,
        "residual": jax.random.normal(key, shape) if residual else None,
    }
    expected = case.expected(x, w) + sum(
        np.asarray(a, np.float64) for a in extra.values() if a is not None
    )
    expected = np.maximum(expected, 0) if relu else expected

    def f(x, w, extra):
        return onednn.conv_forward(x, w, **static, **extra, relu=relu), extra

    y, unchanged = jax.jit(f)(x, w, extra)
    assert_close(y, expected, terms=case.terms + 2)
    jax.tree.map(np.testing.assert_array_equal, unchanged, extra)


def test_operands_of_two_dtypes_and_a_wider_result(key):
    case = WIDE
    (x, w), static = case.arrays(key, "float32"), static_of(case, "float32")
    low = x.astype("bfloat16")
    if reason := onednn.conv_forward_unsupported(jax.typeof(low), jax.typeof(w), **static):
        pytest.skip(reason)
    y = onednn.conv_forward(low, w, **static)
    assert y.dtype == "float32"
    assert_close(y, case.expected(low, w), terms=case.terms)


def test_inside_scan_the_same_code_runs():
    """Stock JAX's filter gradient is 32 to 45 times slower there."""
    w, dys = jnp.ones(WIDE.w), jnp.ones((4, 2, 3, 5, 24))
    static = static_of(WIDE, "float32")

    def step(w, dy):
        return w - onednn.conv_filter_grad(jnp.ones(WIDE.x), dy, **static), None

    compiled = jax.jit(lambda w, dys: lax.scan(step, w, dys)[0]).lower(w, dys).compile()
    bodies = [part for part in compiled.as_text().split("\n\n") if "jconv_onednn" in part]
    assert len(bodies) == 1
    assert "jconv_onednn_conv_filter_grad" in bodies[0]
    assert "while(" not in bodies[0]  # it is the loop's body, not what is around it
    assert "while(" in compiled.as_text()


def test_inside_scan_and_jit(key):
    case = Case(x=(2, 5, 6, 4), window=(3, 3), k=4)
    (x, w), static = case.arrays(key, "float32"), static_of(case, "float32")

    def step(x, w):
        x = onednn.conv_forward(x, w, **static)
        return x, onednn.conv_filter_grad(x, x, **static)

    filters = jnp.stack([w, -w, w / 2])
    last, grads = jax.jit(lambda x, filters: lax.scan(step, x, filters))(x, filters)
    expected = np.asarray(x)
    for w, grad in zip(filters, grads, strict=True):
        expected = case.expected(expected, w)
        right = oracle.filter_grad(expected, expected, window=case.window, **case.definition)
        assert_close(grad, right, terms=60 * 40)
    assert_close(last, expected, terms=3 * case.terms)


@pytest.mark.parametrize("axis", [0, 1])
def test_vmap(axis, key):
    """One example after the other: `jconv.ops` folds the axis before it comes here."""
    x = jnp.moveaxis(jax.random.normal(key, (3, *WIDE.x)), 0, axis)
    _, w = WIDE.arrays(key, "float32")
    static = static_of(WIDE, "float32")
    y = jax.vmap(lambda x: onednn.conv_forward(x, w, **static), in_axes=axis)(x)
    for example, result in zip(jnp.moveaxis(x, axis, 0), y, strict=True):
        assert_close(result, WIDE.expected(example, w), terms=WIDE.terms)


def test_the_library_ran(key):
    (x, w), static = WIDE.arrays(key, "float32"), static_of(WIDE, "float32")
    text = jax.jit(lambda x, w: onednn.conv_forward(x, w, **static)).lower(x, w).as_text()
    assert "jconv_onednn_conv" in text


def test_scratch_memory_is_xlas(key):
    """The filter in its best layout is part of what XLA plans."""
    (x, w), static = WIDE.arrays(key, "float32"), static_of(WIDE, "float32")
    compiled = jax.jit(lambda x, w: onednn.conv_forward(x, w, **static)).lower(x, w).compile()
    assert compiled.memory_analysis().temp_size_in_bytes >= w.nbytes
    assert window_of(WIDE).output == (3, 5)
