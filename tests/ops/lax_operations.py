"""`jconv.lax` beside `jax.lax`, for the tests by property (see `operations.py`)."""

from __future__ import annotations

from jax import lax

import jconv.lax
from tests.ops.operations import Op


def twin(name, shapes, **options) -> Op:
    """The function of that name in both libraries."""
    return Op(
        lambda x, w: getattr(jconv.lax, name)(x, w, **options),
        lambda x, w: getattr(lax, name)(x, w, **options),
        shapes, (0, 1),
    )  # fmt: skip


OPS = {
    "lax.conv": twin(
        "conv", ((2, 2, 3, 3), (2, 2, 3, 2)), window_strides=(1, 2), padding="SAME"
    ),
    "lax.conv_with_general_padding": twin(
        "conv_with_general_padding", ((2, 2, 3, 3), (2, 2, 3, 2)), window_strides=(1, 2),
        padding=((1, 0), (0, 1)), lhs_dilation=(2, 1), rhs_dilation=(1, 2),
    ),
    "lax.conv_general_dilated": twin(
        "conv_general_dilated", ((2, 4, 3, 2), (2, 2, 2, 2)), window_strides=(2, 1),
        padding=((1, -1), (0, 1)), lhs_dilation=(1, 2), feature_group_count=2,
    ),
    "lax.conv_general_dilated_local": twin(
        "conv_general_dilated_local", ((2, 2, 3, 3), (2, 8, 2, 2)), window_strides=(1, 1),
        padding="VALID", filter_shape=(2, 2),
    ),
    "lax.conv_general_dilated_patches": Op(
        lambda x: jconv.lax.conv_general_dilated_patches(x, (2, 2), (1, 1), "SAME"),
        lambda x: lax.conv_general_dilated_patches(x, (2, 2), (1, 1), "SAME"),
        ((2, 2, 3, 3),), (0,),
    ),
    "lax.conv_transpose": twin(
        "conv_transpose", ((2, 3, 2, 2), (3, 2, 1, 2)), strides=(2, 1), padding="SAME",
        transpose_kernel=True,
    ),
}  # fmt: skip
