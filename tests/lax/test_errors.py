"""What jax.lax refuses, jconv.lax refuses with the same type of error."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jconv.lax

X, W = jnp.ones((2, 3, 5, 4)), jnp.ones((6, 3, 2, 2))
PADS = ((0, 0), (0, 0))


def dilated(*args, **options):
    """A call of conv_general_dilated on X and W, unless other operands are given."""
    operands = options.pop("lhs", X), options.pop("rhs", W)
    return lambda library: library.conv_general_dilated(*operands, *args, **options)


def numbered(*specs):
    return dilated((1, 1), "SAME", dimension_numbers=specs)


def strided(strides, **options):
    return dilated(strides, PADS, **options)


def padded(padding, **options):
    return dilated((1, 1), padding, **options)


def same(**options):
    return dilated((1, 1), "SAME", **options)


BAD = {
    "ranks": same(rhs=W[0]),
    "rank_1": dilated((), (), lhs=jnp.ones(2), rhs=jnp.ones(2)),
    "dtypes": same(rhs=W.astype(jnp.bfloat16)),
    "channels": same(rhs=W[:, :2]),
    "list": same(lhs=X.tolist()),
    "scalar": same(lhs=1.0),
    "strings": same(lhs=np.array(["a"]).reshape(1, 1, 1, 1)),
    "groups": same(feature_group_count=2),
    "groups_of_outputs": same(lhs=jnp.ones((2, 12, 5, 4)), feature_group_count=4),
    "no_groups": same(feature_group_count=0),
    "no_batch_groups": same(batch_group_count=0),
    "batch_groups": same(batch_group_count=4),
    "both_groups": same(lhs=jnp.ones((2, 6, 5, 4)), feature_group_count=2, batch_group_count=2),
    "stride_of_0": strided((0, 1)),
    "negative_stride": strided((-1, 1)),
    "too_few_strides": strided((1,)),
    "stride_as_int": strided(1),
    "stride_as_none": strided(None),
    "stride_as_text": strided("ab"),
    "dilation_of_0": strided((1, 1), rhs_dilation=(0, 1)),
    "input_dilation_of_0": strided((1, 1), lhs_dilation=(0, 1)),
    "too_few_dilations": strided((1, 1), rhs_dilation=(1,)),
    "too_few_input_dilations": strided((1, 1), lhs_dilation=(1,)),
    "too_few_pads": padded(((0, 0),)),
    "pads_as_int": padded(1),
    "pads_of_floats": padded(((0.0, 0), (0, 0))),
    "pads_of_three": padded(((0, 0, 0), (0, 0, 0))),
    "crops_more_than_there_is": padded(((-4, -4), (0, 0))),
    "unknown_padding": padded("FULL"),
    "word_with_input_dilation": padded("SAME", lhs_dilation=(2, 1)),
    "unequal_letters": numbered("NCHW", "OIHW", "NCHX"),
    "twice_a_letter": numbered("NCHH", "OIHW", "NCHW"),
    "no_features": numbered("NAHW", "OIHW", "NCHW"),
    "two_specs": numbered("NCHW", "OIHW"),
    "long_spec": numbered("NCHWD", "OIHW", "NCHW"),
    "specs_of_ints": numbered((0, 1, 2, 3), (0, 1, 2, 3), (0, 1, 2, 3)),
    "number_twice": same(
        dimension_numbers=lax.ConvDimensionNumbers((0, 1, 2, 3), (0, 1, 2, 3), (0, 1, 2, 2))
    ),
    "number_too_large": same(
        dimension_numbers=lax.ConvDimensionNumbers((0, 1, 2, 9), (0, 1, 2, 3), (0, 1, 2, 3))
    ),
    "negative_number": same(
        dimension_numbers=lax.ConvDimensionNumbers((0, 1, -2, -1), (0, 1, 2, 3), (0, 1, 2, 3))
    ),
    "specs_as_int": same(dimension_numbers=3),
    "precision": same(precision="best"),
    "three_precisions": same(precision=("high", "high", "high")),
    "narrower": same(preferred_element_type="bfloat16"),
    "float_to_int": same(preferred_element_type="int32"),
    "real_to_complex": same(preferred_element_type="complex64"),
    "unknown_dtype": same(preferred_element_type="float31"),
    "unknown_argument": same(stride=2),
    "missing_argument": dilated((1, 1)),
    "transposed_letters": lambda library: library.conv_transpose(X, W, (1, 1), "LOWER"),
    "transposed_ranks": lambda library: library.conv_transpose(X, W[0], (1, 1), "SAME"),
    "transposed_5d": lambda library: library.conv_transpose(
        jnp.ones((1,) * 6), jnp.ones((1,) * 6), (1,) * 4, "SAME"
    ),
    "patches_channels": lambda library: library.conv_general_dilated_patches(X, (2, 2), (1,), PADS),
    "local_shape": lambda library: library.conv_general_dilated_local(
        X, jnp.ones((6, 12, 4, 4)), (1, 1), "VALID", (2, 2)
    ),
    "local_precision": lambda library: library.conv_general_dilated_local(
        X, jnp.ones((6, 12, 4, 3)), (1, 1), "VALID", (2, 2), precision="F32_F32_F32"
    ),
}


@pytest.mark.parametrize("call", BAD.values(), ids=BAD)
def test_refusals(call):
    with pytest.raises(Exception) as theirs:  # noqa: PT011 - which one is the question
        call(lax)
    with pytest.raises(theirs.type) as ours:
        call(jconv.lax)
    assert ours.type is theirs.type


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (strided((-1, 1)), r"window_strides must be one positive int .* 2 spatial axes; got \(-1"),
        (strided((1, 1), lhs_dilation=(1,)), r"lhs_dilation must be .*; got \(1,\)"),
        (strided((1, 1), rhs_dilation=(1,)), r"rhs_dilation must be .*; got \(1,\)"),
        (BAD["number_twice"], r"out_spec must name each of 4 axes once; got \(0, 1, 2, 2\)"),
        (BAD["negative_number"], r"lhs_spec must name each of 4 axes once"),
    ],
)
def test_messages_of_its_own(call, message):
    """For what jax.lax lets pass and the compiler refuses, in the compiler's words."""
    with pytest.raises(ValueError, match=f"^conv_general_dilated: {message}"):
        call(jconv.lax)


@pytest.mark.parametrize("strides", [np.array([1, 2]), (True, 2), [2, 1]], ids=str)
def test_strides_that_pass(strides):
    np.testing.assert_array_equal(strided(strides)(jconv.lax), strided(strides)(lax))
