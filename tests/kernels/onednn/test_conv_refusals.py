"""Everything that convolution on oneDNN refuses, in words: before the call, and in the call."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jconv_kernels import onednn
from jconv_kernels.onednn import conv

from tests.kernels.onednn.calls import needs_onednn, static_of, window_of
from tests.ops.conv_cases import CASES, Case

pytestmark = needs_onednn
CASE = Case(x=(2, 5, 6, 4), window=(3, 2), k=6)
WINDOW = window_of(CASE)


def refusal(case=CASE, *, dtype="float32", x=None, w=None, **static):
    given = {**static_of(case, dtype), **static}
    x = jax.ShapeDtypeStruct(x or case.x, dtype)
    w = jax.ShapeDtypeStruct(w or case.w, dtype)
    return onednn.conv_forward_unsupported(x, w, **given)


def replaced(**fields):
    return dataclasses.replace(WINDOW, **fields)


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        ({"dtype": "int32"}, "only float16, bfloat16, float32, got int32"),
        ({"case": CASES["four_axes"]}, "only one to three spatial axes, got 4"),
        ({"x": (0, 5, 6, 4)}, "nothing to compute"),
        ({"w": (3, 2, 4, 0)}, "nothing to compute"),
        (
            {"window": replaced(input_dilation=(2, 1), pads=((0, 0), (0, 0)))},
            "not with input_dilation, got (2, 1)",
        ),
        (
            {"window": replaced(pads=((-1, 0), (0, 0)))},
            "not with negative padding, got ((-1, 0), (0, 0))",
        ),
        ({"x": (2**29, 5, 6, 4)}, "only arrays of fewer than 2**31 elements"),
        (
            {"precision": lax.DotAlgorithmPreset.F32_F32_F32},
            "the sums' algorithm can't be chosen, got precision=F32_F32_F32",
        ),
        (
            {"precision": "BF16_BF16_F32"},
            "the sums' algorithm can't be chosen, got precision=BF16_BF16_F32",
        ),
        (
            {"window": replaced(pads=((2**30, 0), (0, 1)), stride=(2**20, 1))},
            "x with its padding must have fewer than 2**31 elements",
        ),
        ({"x": (2, 5, 6, 8)}, "x must have C = groups times w's channels"),
    ],
)
def test_says_why_not(call, reason):
    assert refusal(**call) == reason


def test_the_gradients_refuse_alike():
    dy, x, w = ((2, 5, 6, 6), CASE.x, CASE.w)
    window = replaced(input_dilation=(2, 1), pads=((0, 0), (0, 0)))
    for refuses, operands in (
        (onednn.conv_input_grad_unsupported, (dy, w)),
        (onednn.conv_filter_grad_unsupported, (x, dy)),
    ):
        arrays = [jax.ShapeDtypeStruct(shape, "float32") for shape in operands]
        static = {**static_of(CASE, "float32"), "window": window}
        assert refuses(*arrays, **static) == "not with input_dilation, got (2, 1)"


def test_explicit_axes():
    mesh = jax.make_mesh((1,), ("d",), axis_types=(AxisType.Explicit,))
    x = jax.device_put(jnp.zeros(CASE.x), NamedSharding(mesh, PartitionSpec("d")))
    reason = onednn.conv_forward_unsupported(
        *map(jax.typeof, (x, jnp.zeros(CASE.w))), **static_of(CASE, "float32")
    )
    assert reason == "not where axes of the mesh are explicit: use jax.shard_map there"


def test_symbolic_sizes():
    (n,) = jax.export.symbolic_shape("n")
    assert refusal(x=(n, 5, 6, 4)) == "not for symbolic sizes"


def test_code_that_onednn_lacks(monkeypatch):
    monkeypatch.setattr(conv, "ask", lambda *call: (None, "ref:any"))
    assert refusal() == "oneDNN has only its slow reference code (ref:any)"


def test_a_body_called_all_the_same():
    x, w = jnp.zeros((2, 5, 6, 8)), jnp.zeros(CASE.w)
    with pytest.raises(NotImplementedError, match="x must have C = groups times w's channels"):
        onednn.conv_forward(x, w, **static_of(CASE, "float32"))


# What XLA hands over is checked again, whatever lowered it: a program may come from a file.


def call(name="conv", shapes=None, *, dtype="float32", results=None, **attributes):
    shapes = shapes or [CASE.x, CASE.w]
    given = {
        "stride": (1, 1), "pads": (1, 1, 0, 1), "dilation": (1, 1), "groups": 1,
        **({"bias": False, "residual": False, "relu": False} if name == "conv" else {}),
        **attributes,
    }  # fmt: skip
    static = {k: v if isinstance(v, bool) else np.array(v, np.int64) for k, v in given.items()}
    static["groups"] = np.int64(given["groups"])
    types = [jax.ShapeDtypeStruct(results or (2, 5, 6, 6), dtype)]
    types.append(jax.ShapeDtypeStruct((64,), "uint8"))
    arrays = [jnp.ones(shape, dtype) for shape in shapes]
    return jax.block_until_ready(jax.ffi.ffi_call(f"jconv_onednn_{name}", types)(*arrays, **static))


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"shapes": [(2, 4), CASE.w]}, "x must have one to three spatial axes"),
        ({"shapes": [CASE.x, (3, 4, 6)]}, "x, w and y must have as many axes"),
        ({"results": (2, 5, 6)}, "x, w and y must have as many axes"),
        ({"stride": (1,)}, "stride, dilation and pads must have entries for each spatial axis"),
        ({"pads": (1, 1)}, "stride, dilation and pads must have entries for each spatial axis"),
        ({"dtype": "int64"}, "x, w or y has an unknown dtype"),
        ({"shapes": [(2, 0, 6, 4), CASE.w]}, "every axis must be at least 1"),
        ({"stride": (0, 1)}, "stride must be at least 1"),
        ({"dilation": (1, 0)}, "dilation must be at least 1"),
        ({"pads": (1, 1, -1, 1)}, "pads must be at least 0"),
        ({"groups": 4}, "K must divide by groups"),
        ({"groups": 0}, "K must divide by groups"),
        ({"groups": 2}, "x must have C = groups times w's channels"),
        (
            {"pads": (2**62, 2**62, 0, 1)},
            r"x with its padding must have fewer than 2\*\*31 elements",
        ),
        ({"dilation": (2**62, 1)}, "y's spatial axes must be those of the window"),
        ({"dtype": "int8"}, "of int8 or uint8 x, w must be int8 and y int32"),
        ({"results": (3, 5, 6, 6)}, r"y must be \(N, \*output, K\)"),
        ({"results": (2, 5, 7, 6)}, "y's spatial axes must be those of the window"),
        ({"bias": True}, "takes bias and residual as its attributes say"),
        ({"bias": True, "shapes": [CASE.x, CASE.w, (5,)]}, r"bias must be \(K,\)"),
        (
            {"residual": True, "shapes": [CASE.x, CASE.w, (2, 5, 6, 5)]},
            "residual must have the shape and dtype of y",
        ),
    ],
)
def test_the_call_itself_says_what_is_wrong(wrong, reason, x64):
    got = r"; got x \(.*\) \w+, w \(.*\) \w+, y \(.*\) \w+, stride .*, groups \d"
    with pytest.raises(jax.errors.JaxRuntimeError, match=f"conv: {reason}{got}"):
        call(**wrong)


def test_the_gradients_say_it_too():
    for name in ("conv_input_grad", "conv_filter_grad"):
        with pytest.raises(jax.errors.JaxRuntimeError, match=f"{name}: .*; got x "):
            call(name, [(2, 5, 7, 6), CASE.w])


def test_missing_scratch_memory_is_made_up_for(key):
    """The scratch result is too small here: lowered for fewer threads, say."""
    case = Case(x=(2, 6, 5, 16), window=(3, 3), k=24)
    x, w = case.arrays(key, "float32")
    y = onednn.conv_forward(x, w, **static_of(case, "float32"))
    types = [jax.ShapeDtypeStruct(y.shape, "float32"), jax.ShapeDtypeStruct((1,), "uint8")]
    ones, zero = np.ones(2, np.int64), {"bias": False, "residual": False, "relu": False}
    small, _ = jax.ffi.ffi_call("jconv_onednn_conv", types)(
        x, w, stride=ones, pads=np.ones(4, np.int64), dilation=ones, groups=np.int64(1), **zero
    )
    np.testing.assert_array_equal(small, y)
