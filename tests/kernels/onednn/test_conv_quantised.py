"""Convolution of 8-bit images with 8-bit filters: the sums are exact, or the call is refused."""

from __future__ import annotations

import os
import random
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jconv_kernels import onednn

from tests.kernels.onednn.calls import each_of, needs_onednn, static_of
from tests.ops.conv_cases import Case
from tests.oracles import conv as oracle

pytestmark = needs_onednn
CASES = {
    "dense": Case(x=(2, 6, 5, 19), window=(3, 3), k=21, stride=(2, 1)),
    "pointwise": Case(x=(2, 4, 4, 64), window=(1, 1), k=32),
    "sums_beyond_float32": Case(x=(1, 3, 3, 512), window=(3, 3), k=16),
    "sums_beyond_float32_in_groups": Case(
        x=(1, 4, 5, 192), window=(4, 4), k=32, groups=2, padding=((3, 1), (0, 2))
    ),
    "three_channels": Case(x=(1, 11, 9, 3), window=(5, 5), k=16, stride=2, padding=3),
    "depthwise": Case(x=(2, 6, 5, 32), window=(3, 3), k=32, groups=32),
    "groups": Case(x=(1, 5, 4, 12), window=(3, 2), k=8, groups=4, dilation=2, padding=2),
    "one_axis": Case(x=(2, 14, 16), window=(4,), k=24),
    "three_axes": Case(x=(1, 4, 3, 5, 8), window=(2, 2, 2), k=8),
}


def extremes(dtype):
    least, most = np.iinfo(dtype).min, np.iinfo(dtype).max
    return np.array([least, most, most - 1, most // 2], dtype)


def compared(case, x, w):
    """oneDNN's sums beside those of float64, which are exact here: (ours, right), or its reason."""
    static = static_of(case, "int32")
    x, w = jnp.asarray(x), jnp.asarray(w)
    reason = onednn.conv_forward_unsupported(jax.typeof(x), jax.typeof(w), **static)
    if reason:
        return reason
    return onednn.conv_forward(x, w, **static), oracle.conv(x, w, **case.definition)


def skip_without_vnni(result):
    if result == "sums of int8 are not exact on a CPU without VNNI":
        pytest.skip(result)


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@each_of(CASES, "dense", "sums_beyond_float32", "three_channels", "depthwise")
def test_sums_are_exact(case, dtype):
    rng = np.random.default_rng(0)
    for draw_x, draw_w in (
        (lambda n: rng.choice(extremes(dtype), n), lambda n: rng.choice(extremes("int8"), n)),
        (lambda n: rng.choice(extremes(dtype)[:3], n), lambda n: np.full(n, -127, "int8")),
    ):
        result = compared(case, draw_x(case.x), draw_w(case.w))
        skip_without_vnni(result)
        ours, right = result
        assert ours.dtype == "int32"
        np.testing.assert_array_equal(ours, right)


@pytest.mark.slow  # two minutes
def test_random_shapes():
    """Everything that is not refused is exact; and nearly everything is not refused."""
    draw, rng, taken = random.Random(0), np.random.default_rng(0), 0
    for _ in range(300):
        axes, groups = draw.choice([1, 2, 2, 3]), draw.choice([1, 1, 1, 2, 3, 16])
        size = tuple(draw.randint(1, 4) for _ in range(axes))
        c, k = (groups * draw.choice([1, 2, 5, 8, 32]) for _ in range(2))
        case = Case(
            x=(draw.randint(1, 3), *(draw.randint(4, 9) for _ in size), c), window=size, k=k,
            groups=groups, stride=draw.randint(1, 3), dilation=draw.randint(1, 2), padding=3,
        )  # fmt: skip
        x = rng.choice(extremes(draw.choice(["int8", "uint8"])), case.x)
        result = compared(case, x, rng.integers(-128, 128, case.w).astype("int8"))
        skip_without_vnni(result)
        if not isinstance(result, str):
            np.testing.assert_array_equal(*result)
            taken += 1
    assert taken > 250


def test_sums_that_would_be_rounded():
    """oneDNN takes float32 on the way for few channels: this sum came out odd by one."""
    case = Case(x=(1, 16, 16, 3), window=(15, 15), k=16)
    result = compared(case, np.full(case.x, 255, "uint8"), np.full(case.w, -128, "int8"))
    skip_without_vnni(result)
    assert result.startswith("sums of 8-bit products beyond 2**24 would be rounded (")


@pytest.mark.parametrize(
    ("x", "w", "dtype", "reason"),
    [
        ("int8", "int8", "int8", "only float16, bfloat16, float32, got int8"),
        ("int8", "uint8", "int32", "only float16, bfloat16, float32, got int8"),
        ("int32", "int32", "int32", "only float16, bfloat16, float32, got int32"),
    ],
)
def test_other_integers(x, w, dtype, reason):
    case = CASES["dense"]
    operands = (jax.ShapeDtypeStruct(case.x, x), jax.ShapeDtypeStruct(case.w, w))
    assert onednn.conv_forward_unsupported(*operands, **static_of(case, dtype)) == reason


@pytest.mark.slow  # a process of its own
def test_a_cpu_that_rounds():
    """Without VNNI oneDNN halves the filter: 255 * 127 + 255 * 127 is not 64770 there."""
    process = subprocess.run(
        [sys.executable, "-m", "pytest", __file__, "-q", "-n0", "-rs", "-p", "no:cacheprovider",
         "-k", "test_sums_are_exact"],
        env={**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX512_CORE"}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert process.returncode == 0, process.stdout[-2000:]
    assert "sums of int8 are not exact on a CPU without VNNI" in process.stdout
    assert "passed" not in process.stdout
