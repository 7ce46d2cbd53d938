"""jconv.lax against jax.lax: drawn calls, dtypes, weak types, precision, signatures."""

from __future__ import annotations

import dataclasses
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from jax import lax

import jconv.lax
from tests.lax.calls import Call, convolutions, few, outcome, patches, ramp, transposed

NAMES = (
    "conv",
    "conv_with_general_padding",
    "conv_general_dilated",
    "conv_general_dilated_local",
    "conv_general_dilated_patches",
    "conv_transpose",
)


def check(call):
    assume(not call.ends_the_process())
    assert outcome(call, jconv.lax) == outcome(call, lax)


@given(call=convolutions())
@few
def test_convolutions(call):
    check(call)


@given(call=transposed())
@few
def test_transposed(call):
    check(call)


@given(call=st.one_of(patches(), patches(local=True)))
@few
def test_patches_and_local(call):
    check(call)


CONV = Call(
    "conv_general_dilated",
    ((2, 3, 5, 4), (6, 3, 2, 2)),
    {"window_strides": (2, 1), "padding": ((1, -1), (0, 2))},
)
FLOATS = ("float32", "bfloat16", "float16", "complex64", "float8_e4m3fn")


def zero_or_ramp(a):
    """A tangent of `a`: float0 for what has no derivative."""
    if jnp.issubdtype(a.dtype, jnp.inexact):
        return ramp(a)
    return np.zeros(a.shape, jax.dtypes.float0)


def first_order(f, operands):
    """Value and derivatives, outside jit: float0 can't pass through it."""
    y, vjp = jax.vjp(f, *operands)
    tangents = tuple(map(zero_or_ramp, operands))
    _, push = jax.linearize(f, *operands)
    return [y, *vjp(zero_or_ramp(y)), jax.jvp(f, operands, tangents)[1], push(*tangents)]


@pytest.mark.parametrize(
    ("dtype", "preferred"),
    [
        *((dtype, None) for dtype in (*FLOATS, "bool", "int4", "int8", "uint8", "int32", "uint32")),
        ("int8", "int32"), ("int8", "float32"), ("uint32", "int32"), ("bool", "float32"),
        ("bfloat16", "float32"), ("float16", "bfloat16"), ("float8_e5m2", "float32"),
    ],
)  # fmt: skip
def test_dtypes(dtype, preferred):
    call = dataclasses.replace(
        CONV, dtype=dtype, options={**CONV.options, "preferred_element_type": preferred}
    )
    ours, theirs = (first_order(call.of(lib), call.operands()) for lib in (jconv.lax, lax))
    for a, e in zip(ours, theirs, strict=True):
        assert (a.dtype, a.shape) == (e.dtype, e.shape)
        if a.dtype != jax.dtypes.float0:
            # Narrow floats round sums that are exact in both: by as much, or by nothing.
            np.testing.assert_array_equal(np.asarray(a, complex), np.asarray(e, complex))


def test_float64_and_int64(x64):
    for dtype in ("float64", "int64", "complex128"):
        call = dataclasses.replace(CONV, dtype=dtype)
        ours, theirs = (call.of(lib)(*call.operands()) for lib in (jconv.lax, lax))
        assert ours.dtype == theirs.dtype == dtype
        np.testing.assert_array_equal(ours, theirs)


def test_numpy_operands_are_narrowed_as_jax_does():
    x, w = (np.asarray(a, np.float64) for a in CONV.operands())
    y = CONV.of(jconv.lax)(x, w)
    assert y.dtype == jnp.float32
    np.testing.assert_array_equal(y, CONV.of(lax)(x, w))


@pytest.mark.parametrize("weak", [(True, True), (True, False), (False, True), (False, False)])
def test_weak_types(weak):
    shapes = (2, 3, 5, 4), (6, 3, 2, 2)
    operands = [
        jnp.broadcast_to(2.0, shape) if w else jnp.full(shape, 2, jnp.float32)
        for w, shape in zip(weak, shapes, strict=True)
    ]
    ours, theirs = (CONV.of(lib)(*operands) for lib in (jconv.lax, lax))
    assert ours.weak_type == theirs.weak_type == all(weak)


PRECISIONS = (
    None, "highest", ("high", "default"), ["default", "highest"], lax.Precision.HIGH,
    (lax.Precision.HIGHEST, lax.Precision.DEFAULT), "F32_F32_F32",
    lax.DotAlgorithmPreset.F32_F32_F32,
)  # fmt: skip


@pytest.mark.parametrize("precision", PRECISIONS, ids=str)
def test_precision_reaches_xla(precision):
    """In the convolution and in both gradients, which are taken outside the context."""
    operands = CONV.operands()

    def configured(library):
        f = Call(CONV.name, CONV.shapes, {**CONV.options, "precision": precision}).of(library)
        with jax.default_matmul_precision("high"):
            y, vjp = jax.vjp(f, *operands)
        text = jax.jit(vjp).lower(y).as_text()
        return text.count("HIGHEST"), text.count("HIGH>"), text.count("DEFAULT")

    assert configured(jconv.lax) == configured(lax)


@pytest.mark.parametrize("name", NAMES)
def test_signatures(name):
    ours, theirs = getattr(jconv.lax, name), getattr(lax, name)
    assert inspect.signature(ours) == inspect.signature(theirs)
    assert ours.__doc__ == theirs.__doc__


def test_positional_arguments():
    x, w = CONV.operands()
    dn = ("NCHW", "OIHW", "NCHW")
    args = (x, w[:, :1], (2, 1), ((1, 0), (0, 2)), (1, 2), (2, 1), dn, 3, 1, "highest", "float32")
    np.testing.assert_array_equal(
        jconv.lax.conv_general_dilated(*args), lax.conv_general_dilated(*args)
    )
    args = (x, w, (2, 1), "SAME", None, (2, 1), "highest", "float32")
    np.testing.assert_array_equal(
        jconv.lax.conv_with_general_padding(*args), lax.conv_with_general_padding(*args)
    )
    args = (x, w, (2, 1), "VALID", "highest", "float32")
    np.testing.assert_array_equal(jconv.lax.conv(*args), lax.conv(*args))


def test_dimension_numbers_are_jax_s():
    assert jconv.lax.ConvDimensionNumbers is lax.ConvDimensionNumbers
    assert jconv.lax.conv_dimension_numbers is lax.conv_dimension_numbers
