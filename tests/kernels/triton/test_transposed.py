"""Transposed convolutions compiled for an H200, without one: each pass is one call of cuDNN.

Of `jax.lax.conv_transpose`, written as a convolution of an image with zeros between its pixels, XLA
makes forward convolutions in all three passes, for the filter's gradient one whose filter is as
large as the image (users: jax-ml/jax issue 31662, openxla/xla issue 34273). Here the transposed
convolution is the input gradient of a convolution, and its gradients are that convolution and its
filter gradient.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec as P

import jconv
from tests.kernels.triton import h200

pytestmark = h200.needs_compiler
CALLS = {
    "__cudnn$convForward": 1,  # the gradient in the image
    "__cudnn$convBackwardInput": 1,  # the transposed convolution itself
    "__cudnn$convBackwardFilter": 1,
}


@pytest.mark.parametrize(("size", "stride"), [(4, 2), (3, 2), (2, 2), (3, 1)])
@pytest.mark.parametrize("axes", [2, 3])
def test_one_call_each(axes, size, stride):
    def loss(y, w):
        return jnp.sum(jconv.conv_transpose(y, w, stride=stride) ** 2)

    y = jax.ShapeDtypeStruct((4, *[16] * axes, 32), jnp.bfloat16)
    w = jax.ShapeDtypeStruct((*[size] * axes, 64, 32), jnp.bfloat16)
    operands = h200.on(h200.mesh(1), P(), (y, w))
    program = h200.compiled(jax.value_and_grad(loss, argnums=(0, 1)), *operands)
    calls = {name: n for name, n in program.names().items() if name.startswith("__cudnn$conv")}
    assert calls == CALLS
