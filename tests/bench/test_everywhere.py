"""Whole programs by one implementation: which calls are asked for it, on any machine."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import pytest

import jconv
from jconv import bench

C = 16  # as many groups, whose number begins with the dense convolutions' 1
X = jax.ShapeDtypeStruct((2, 8, 8, C), jnp.float32)
DIRECTIONS = {"conv", "conv_input_grad", "conv_filter_grad"}


def conv(groups, spatial=2):
    x = jax.ShapeDtypeStruct((2, *(8,) * spatial, C), jnp.float32)
    w = jax.ShapeDtypeStruct((*(3,) * spatial, C // groups, C), jnp.float32)
    return functools.partial(jconv.conv, groups=groups), (x, w), DIRECTIONS


CALLS = {  # the function, its operands, what its gradient is made of, and whether it is asked for
    "dense": (*conv(1), False),
    "dense_of_one_axis": (*conv(1, spatial=1), False),
    "groups": (*conv(4), True),
    "depthwise": (*conv(C), True),
    "pool": (
        functools.partial(jconv.max_pool, window=2), (X,), {"max_pool_argmax", "pool_put"}, True
    ),
}  # fmt: skip


@pytest.mark.parametrize(("fn", "operands", "operations", "asked"), CALLS.values(), ids=CALLS)
def test_dense_convolutions_can_be_left_out(fn, operands, operations, asked):
    def loss(*args):
        return jnp.sum(jnp.sin(fn(*args)))

    gradient = jax.grad(loss, tuple(range(len(operands))))
    with bench.everywhere("triton", but=bench.DENSE):
        choices = jconv.explain_choice(gradient, *operands)
    assert {choice.op for choice in choices} == operations
    for choice in choices:
        # Followed, or passed over with the reason why it can't run here.
        assert (choice.tuned is not None or "tuned" in dict(choice.rejected)) == asked


def test_nothing_is_left_out_by_default():
    fn, operands, _, _ = CALLS["dense"]
    with bench.everywhere("triton"):
        (choice,) = jconv.explain_choice(fn, *operands)
    assert choice.tuned is not None or "tuned" in dict(choice.rejected)
