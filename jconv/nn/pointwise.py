"""Linear layers over the channels of every pixel, computed as 1x1 convolutions."""

from __future__ import annotations

from typing import Any

import jax

from jconv.ops.conv import conv


def pointwise_dot(
    inputs: jax.Array,
    kernel: jax.Array,
    dimension_numbers: Any,
    *,
    precision: jax.lax.PrecisionLike = None,
    preferred_element_type: Any = None,
    out_sharding: Any = None,
) -> jax.Array:
    """inputs (N, *spatial, C) times kernel (C, K), (N, *spatial, K): `dot_general=` of a Linear.

    The parameters stay those of the linear layer; the forward pass and both gradients are
    `jconv.conv`'s, each computed as its table chooses.

    Args:
      dimension_numbers: as of `jax.lax.dot_general`; C must be the last axis of inputs.
      precision: as of `jconv.conv`.
      preferred_element_type: the result's dtype; None means that of the operands.

    Raises:
      NotImplementedError: other dimension_numbers, or an out_sharding.
      ValueError: what `jconv.conv` refuses.

    Reference: Lin, Chen & Yan 2013, "Network in network", arXiv:1312.4400.
    """
    if dimension_numbers != (((inputs.ndim - 1,), (0,)), ((), ())) or out_sharding is not None:
        raise NotImplementedError(
            "pointwise_dot: the last axis of inputs with the first of kernel, without out_sharding;"
            f" got dimension_numbers={dimension_numbers}, out_sharding={out_sharding}"
        )
    spatial = inputs.ndim - 2
    return conv(
        inputs, kernel.reshape((1,) * spatial + kernel.shape), precision=precision,
        preferred_element_type=preferred_element_type,
    )  # fmt: skip
