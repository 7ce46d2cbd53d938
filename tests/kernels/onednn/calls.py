"""One convolution in all three directions: arrays, the call on oneDNN, and the right answer."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jconv_kernels import onednn

from jconv.window import Window
from tests.often import cases as often_cases
from tests.ops.conv_cases import CASES, Case
from tests.oracles import conv as oracle

needs_onednn = pytest.mark.skipif(
    onednn.available() is not None, reason=f"no oneDNN: {onednn.available()}"
)

# Beyond those of the operation: channels of more than one vector, and what oneDNN has code of its
# own for: few input channels, depthwise with a multiplier, dilation in three axes.
MORE = {
    "blocks_of_channels": Case(x=(2, 5, 4, 32), k=48),
    "blocks_and_a_rest": Case(x=(1, 6, 4, 17), k=33, window=(3, 3)),
    "image_of_three_channels": Case(x=(1, 11, 9, 3), k=16, window=(5, 5), stride=2),
    "many_groups": Case(x=(1, 5, 4, 32), k=64, groups=8, stride=2),
    "depthwise_wide": Case(x=(2, 6, 5, 32), k=32, groups=32, window=(3, 3)),
    "depthwise_multiplier": Case(x=(1, 6, 5, 16), k=48, groups=16, window=(3, 3), stride=2),
    "one_axis_dilated": Case(x=(2, 14, 6), window=(4,), k=6, groups=6, dilation=2),
    "one_axis_depthwise": Case(
        x=(2, 40, 32), window=(5,), k=32, groups=32, stride=2, padding=((3, 1),)
    ),
    "three_axes_grouped": Case(
        x=(1, 4, 5, 6, 4), window=(2, 3, 2), k=6, groups=2, stride=2, dilation=(1, 2, 1)
    ),
    "three_axes_depthwise": Case(x=(1, 4, 5, 4, 4), window=(2, 2, 2), k=4, groups=4),
    "three_axes_asymmetric": Case(
        x=(1, 3, 4, 3, 2), window=(2, 2, 2), k=3, padding=((0, 1), (2, 0), (1, 1))
    ),
}
TAKEN = {
    name: case
    for name, case in {**CASES, **MORE}.items()
    if case.input_dilation == 1 and len(case.window) <= 3
}


def each_of(cases, *often):
    """All of the cases: those named on every change, the others on demand."""
    return pytest.mark.parametrize("case", often_cases(cases, often))


each_case = each_of(
    TAKEN, "depthwise", "blocks_and_a_rest", "many_groups", "one_axis_dilated",
    "three_axes_asymmetric",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Call:
    """One direction: the operands, the function, why it is refused, the right answer in float64
    and the length of its sums.
    """

    operands: tuple[jax.Array, jax.Array]
    static: dict
    run: functools.partial
    refused: str | None
    expected: np.ndarray
    terms: int


def window_of(case: Case) -> Window:
    d = case.definition
    return Window(
        case.x[1:-1], case.window, d["stride"], d["dilation"], d["pads"], d["input_dilation"],
        case.groups,
    )  # fmt: skip


def static_of(case: Case, dtype) -> dict:
    """What the tables of jconv.ops pass to a body."""
    return {
        "window": window_of(case), "dtype": jnp.dtype(dtype), "precision": None,
        "out_sharding": None,
    }  # fmt: skip


def calls(case: Case, key, dtype, body: str = "conv") -> dict[str, Call]:
    """The three directions, computed by `body`_forward and its likes."""
    window, static, d = window_of(case), static_of(case, dtype), case.definition
    x, w = case.arrays(key, dtype)
    dy = jax.random.normal(key, (case.x[0], *window.output, case.k), jnp.float32).astype(dtype)
    pixels = case.x[0] * int(np.prod(window.output))
    rows = {
        "forward": ((x, w), oracle.conv(x, w, **d), case.terms),
        "input_grad": (
            (dy, w), oracle.input_grad(dy, w, input=case.x[1:-1], **d), case.terms * case.k
        ),
        "filter_grad": ((x, dy), oracle.filter_grad(x, dy, window=case.window, **d), pixels),
    }  # fmt: skip
    return {
        name: Call(
            operands, static, functools.partial(getattr(onednn, f"{body}_{name}"), **static),
            getattr(onednn, f"{body}_{name}_unsupported")(*map(jax.typeof, operands), **static),
            expected, terms,
        )
        for name, (operands, expected, terms) in rows.items()
    }  # fmt: skip
