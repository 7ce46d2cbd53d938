"""A call of convolution or of a gradient as its windows, and what formulations can't compute."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from numbers import Integral
from typing import Any

import jax.numpy as jnp

from jconv.algorithms import winograd
from jconv.core import explicit_sharding
from jconv.window import Pair, Window

type Rule = Callable[[Call, Any, Any], str | None]  # of the call and its operands' types

MOST_TAPS = 128  # each is a product of its own, to be compiled: some 20 ms


@dataclasses.dataclass(frozen=True)
class Call:
    """A call of one of the three, as the convolution that it is, or that it differentiates.

    Attributes:
      image: (N, *spatial, channels) of what the windows stand on: x, or dy for an input gradient.
      size, stride, pads, input_dilation, dilation: of the windows.
      output: spatial extent of the result; for a filter gradient, of dy.
      channels, features: of one group, into and out of its products.
    """

    image: tuple[int, ...]
    size: tuple[int, ...]
    stride: tuple[int, ...]
    pads: tuple[Pair, ...]
    input_dilation: tuple[int, ...]
    dilation: tuple[int, ...]
    output: tuple[int, ...]
    groups: int
    channels: int
    features: int

    @property
    def taps(self) -> int:
        """Pixels of a window."""
        return math.prod(self.size)


def forward(x: Any, w: Any, window: Window) -> Call:
    """Of `conv`."""
    return Call(
        x.shape, window.size, window.stride, window.pads, window.input_dilation, window.dilation,
        window.output, window.groups, w.shape[-2], w.shape[-1] // window.groups,
    )  # fmt: skip


def input_grad(dy: Any, w: Any, window: Window) -> Call:
    """Of `conv_input_grad`."""
    return Call(
        dy.shape, window.size, window.input_dilation, window.input_grad_pads, window.stride,
        window.dilation, window.input, window.groups, w.shape[-1] // window.groups, w.shape[-2],
    )  # fmt: skip


def filter_grad(x: Any, dy: Any, window: Window) -> Call:
    """Of `conv_filter_grad`."""
    return Call(
        x.shape, window.size, window.stride, window.pads, window.input_dilation, window.dilation,
        window.output, window.groups, x.shape[-1] // window.groups, dy.shape[-1] // window.groups,
    )  # fmt: skip


def reasons(call_of: Callable[[Any, Any, Window], Call], *rules: Rule) -> Callable[..., str | None]:
    """`unsupported` or `slower` of a row, from rules about the call: the first reason found."""

    def reason(first, second, *, window, **static):
        call = call_of(first, second, window)
        return next((why for rule in rules if (why := rule(call, first, second))), None)

    return reason


def in_chunks(call: Call, first: Any, second: Any) -> str | None:
    """What no formulation computes that works through chunks of examples."""
    sizes = (*first.shape, *second.shape, *(side for pad in call.pads for side in pad))
    if not all(isinstance(size, Integral) for size in sizes):
        return "only for sizes that are known when it is compiled"
    if 0 in (*first.shape, *second.shape, *call.image, *call.output):
        return "nothing to compute"
    if any(_split(aval) for aval in (first, second)):
        return "not on operands that explicit axes split"
    return None


def floating(call: Call, first: Any, second: Any) -> str | None:
    """Real numbers that are no integers."""
    real = all(jnp.issubdtype(aval.dtype, jnp.floating) for aval in (first, second))
    return None if real else "only for real floating-point numbers"


def inexact(call: Call, first: Any, second: Any) -> str | None:
    """Numbers that are no integers."""
    fits = all(jnp.issubdtype(aval.dtype, jnp.inexact) for aval in (first, second))
    return None if fits else "only for floating-point and complex numbers"


def numbers(call: Call, first: Any, second: Any) -> str | None:
    """Anything that can be added."""
    return "not for bool" if jnp.bool in (first.dtype, second.dtype) else None


def _split(aval):
    sharding = explicit_sharding(aval)
    return sharding is not None and any(sharding.spec)


def unstrided_or_undilated(call: Call, *_: Any) -> str | None:
    """Either stride or input_dilation."""
    if set(call.input_dilation) != {1} and set(call.stride) != {1}:
        return "not for stride and input_dilation in one"
    return None


def few_taps(call: Call, *_: Any) -> str | None:
    """No more than `MOST_TAPS`."""
    if call.taps > MOST_TAPS:
        return f"only for filters of at most {MOST_TAPS} taps"
    return None


def one_channel_each(call: Call, *_: Any) -> str | None:
    """Depthwise, without a multiplier."""
    if (call.channels, call.features) != (1, 1):
        return "only for one channel into and one out of each group"
    return None


def one_tap(call: Call, *_: Any) -> str | None:
    """A product for each pixel."""
    return "only for filters of one tap" if call.taps > 1 else None


def three_axes(call: Call, *_: Any) -> str | None:
    """Dense and in 3-D."""
    if len(call.size) != 3 or call.groups > 1:
        return "only for three spatial axes and one group"
    return None


def one_group(call: Call, *_: Any) -> str | None:
    """Dense."""
    return "only one group" if call.groups > 1 else None


def three_taps(call: Call, *_: Any) -> str | None:
    """Dense, and 3 taps next to one another on every axis."""
    if set(call.size) != {winograd.TAPS}:
        return f"only filters of {winograd.TAPS} taps along every axis"
    if {*call.stride, *call.dilation, *call.input_dilation} != {1}:
        return "only stride and dilations of 1"
    return one_group(call)
