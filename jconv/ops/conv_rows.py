"""The tables of convolution and its two gradients: which formulation runs, and why not another.

Formulations for XLA alone stand between oneDNN and XLA's own convolution. What they can't compute
is said by `unsupported`; where they were measured to lose, by `slower`, with the case and the ratio
that is the reason (ours / direct: `experiments/bench/results/cpu`). Measured on CPUs, they are
chosen on CPUs, and only where XLA compiles the program whole: their chunks of examples would be
gathered where it splits them.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from numbers import Integral
from typing import Any

import jax
import jax.numpy as jnp

from jconv.algorithms import chunks, depthwise, phases, planes, rows, shifted
from jconv.core import Implementation, explicit_sharding, one_body, onednn
from jconv.ops import conv_bodies as bodies
from jconv.window import Pair

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
        return math.prod(self.size)


def _forward(x, w, window):
    return Call(
        x.shape, window.size, window.stride, window.pads, window.input_dilation, window.dilation,
        window.output, window.groups, w.shape[-2], w.shape[-1] // window.groups,
    )  # fmt: skip


def _input_grad(dy, w, window):
    return Call(
        dy.shape, window.size, window.input_dilation, window.input_grad_pads, window.stride,
        window.dilation, window.input, window.groups, w.shape[-1] // window.groups, w.shape[-2],
    )  # fmt: skip


def _filter_grad(x, dy, window):
    return Call(
        x.shape, window.size, window.stride, window.pads, window.input_dilation, window.dilation,
        window.output, window.groups, x.shape[-1] // window.groups, dy.shape[-1] // window.groups,
    )  # fmt: skip


def _reason(call_of, *rules):
    """`unsupported` or `slower` of a row, from rules about the call: the first reason found."""

    def reason(first, second, *, window, **static):
        call = call_of(first, second, window)
        return next((why for rule in rules if (why := rule(call, first, second))), None)

    return reason


def _in_chunks(call: Call, first: Any, second: Any) -> str | None:
    """What no formulation computes that works through chunks of examples."""
    numbers = (*first.shape, *second.shape, *(side for pad in call.pads for side in pad))
    if not all(isinstance(number, Integral) for number in numbers):
        return "only for sizes that are known when it is compiled"
    if 0 in (*first.shape, *second.shape, *call.image, *call.output):
        return "nothing to compute"
    if not jnp.issubdtype(first.dtype, jnp.floating):
        return "only for real floating-point numbers"
    if any(_split(aval) for aval in (first, second)):
        return "not on operands that explicit axes split"
    return None


def _split(aval):
    sharding = explicit_sharding(aval)
    return sharding is not None and any(sharding.spec)


def _unstrided_or_undilated(call, *_):
    if set(call.input_dilation) != {1} and set(call.stride) != {1}:
        return "not for stride and input_dilation in one"
    return None


def _few_taps(call, *_):
    if call.taps > MOST_TAPS:
        return f"only for filters of at most {MOST_TAPS} taps"
    return None


def _one_channel_each(call, *_):
    if (call.channels, call.features) != (1, 1):
        return "only for one channel into and one out of each group"
    return None


def _three_axes(call, *_):
    if len(call.size) != 3 or call.groups > 1:
        return "only for three spatial axes and one group"
    return None


# Where the formulations lose, or were not measured to win.

LEAST_CHUNK = 2**16
LEAST_OF_AN_EXAMPLE = 2**24
FEW_FEATURES, MOST_FEATURES = 32, 4
LEAST_PRODUCTS = 2**22  # below, a loop over chunks takes as long as what it computes


def _small(call, *_):
    """Multiply-adds with zeros of the padding count, those with zeros between pixels don't."""
    pixels = call.image[0] * math.prod(call.output) // math.prod(call.input_dilation)
    products = pixels * math.prod(call.size) * call.groups * call.channels * call.features
    if products < LEAST_PRODUCTS:
        return f"slower below {LEAST_PRODUCTS} multiply-adds"
    return None


def _uneven(call, first, second):
    """Chunks of one small example each, of which the steps of the loop take most of the time."""
    examples, example = call.image[0], math.prod(call.image[1:]) * first.dtype.itemsize
    if chunks.length(examples, example) * example < LEAST_CHUNK and examples > 1:
        return f"slower where {examples} examples don't divide into chunks of {LEAST_CHUNK} bytes"
    return None


def _memory(together):
    """The copies of `rows` within four times operands and result, for filters of 3x3 or so.

    Args:
      together: `together(call)`: how many taps' pixels are copied side by side.
    """

    def reason(call, first, second):
        n, *image = call.image
        one = math.prod(image), math.prod(call.output) * call.groups * call.channels
        length = chunks.length(n, (one[0] + one[1]) * first.dtype.itemsize)
        copies = length * together(call) * (one[0] + one[1])
        result = math.prod(call.output) * call.groups * call.features
        if copies > 3.5 * n * (one[0] + result):
            return "more memory than four times the operands and the result"
        return None

    return reason


def _side_by_side(call):
    return math.prod(call.size[-rows.together(call.size, call.channels) :])


def _rows_pay(call, *_):
    """Forward and in input gradients."""
    if call.groups > 1:
        # g32_28x256 fwd 0.46, dx 0.42; g4_28x128 fwd 0.48. Fewer channels were not measured.
        few = min(call.channels, call.features) < 8
        return "slower where a group has less than 8 channels" if few else None
    if set(call.input_dilation) != {1}:
        # c3s2_56x64 dx 0.74; patch4s4 dx 1.5, whose phases have one tap each; stem7s2 dx 4.7,
        # with three features.
        if _one_tap_each(call):
            return "slower where each phase has one tap"
        return "slower for few features" if call.features < FEW_FEATURES else None
    # c3_7x512 fwd 0.80, dx 0.76; c3_14x256 fwd 1.16.
    if math.prod(call.output) > 49 or call.channels < 512 or call.taps == 1:
        return "slower for dense convolutions but those of many channels on few pixels"
    return None


def _filter_rows_pay(call, first, second):
    # c3_56x64 0.53, c3_28x128 0.44, c3_14x256 0.81, c3_7x512 0.89, c3s2_56x64 0.26, stem7s2 0.63,
    # patch4s4 0.34, c1_56_64_256 0.07, c1_14_1024_256 0.33, c5_28_1_32 0.67, conv1d 0.80,
    # dil2_28x128 0.37, tc4s2 0.86, tc2s2 0.54, g32_28x256 0.003, g4_28x128 0.02, rs2_32x16 0.81.
    # r_32x16 1.33, r_16x32 1.07 and r_8x64 1.32 have 2.4 million multiply-adds per example.
    products = math.prod(call.output) * call.taps * call.channels * call.features
    plain = call.groups == 1 and call.taps > 1 and set(call.stride) == {1}
    if plain and call.channels >= 16 and products < LEAST_OF_AN_EXAMPLE:
        return f"slower below {LEAST_OF_AN_EXAMPLE} multiply-adds for each example"
    # c3_128x64 1.08: an example of 4 MiB is no chunk that stays in the cache.
    if plain and math.prod(call.image[1:]) * first.dtype.itemsize > chunks.BYTES:
        return f"slower where an example has more than {chunks.BYTES} bytes"
    return None


def _phases_pay(call, *_):
    # stem7s2 dx 0.46. With more features its sums are less exact than twice XLA's (c3s2_56x64).
    if set(call.input_dilation) == {1}:
        return "the same as XLA's without input_dilation (the stride of an input gradient)"
    if call.groups > 1 or call.features > MOST_FEATURES:
        return f"less exact for groups, or more than {MOST_FEATURES} features"
    return "slower where each phase has one tap" if _one_tap_each(call) else None


def _one_tap_each(call):
    pairs = zip(call.size, call.input_dilation, strict=True)
    return all(taps <= between for taps, between in pairs)


def _planes_pay(call, *_):
    # conv3d fwd 0.24, dx 0.24, dw 0.25.
    image = math.prod(call.image) * call.size[0]
    spread = image * call.input_dilation[0] // call.stride[0]
    if call.size[0] == 1 or call.channels > 64:
        return "slower for one tap along the first axis, or more than 64 channels"
    pixels = call.image[0] * math.prod(call.output)
    if spread > 3 * (math.prod(call.image) + pixels * call.features):
        return "more memory than three times the operands and the result"
    return None


def _table(body, call_of, gathers, outside):
    def row(name, convolve, *rules, slower=()):
        measured = (_small, _uneven, *slower)
        return Implementation(
            name, body(convolve), _reason(call_of, _in_chunks, *rules),
            slower=_reason(call_of, *measured), platforms=("cpu",), here_only=True,
        )  # fmt: skip

    def on_xla(formulation):
        return functools.partial(formulation, bodies.on_xla)

    can = _unstrided_or_undilated, _few_taps
    return one_body(
        body(bodies.on_xla),
        onednn(outside),
        row("depthwise", bodies.summed(depthwise.conv), _one_channel_each, *can),
        row(
            "rows",
            bodies.summed(rows.conv),
            *can,
            slower=[_rows_pay, _memory(lambda call: call.size[-1])],
        ),
        row("phases", on_xla(phases.conv), *can, slower=[_phases_pay]),
        row("planes", on_xla(planes.conv), _three_axes, slower=[_planes_pay]),
        Implementation("shifted", body(bodies.summed(shifted.conv)), gathers, split_only=True),
    )


def _filter_row(name, differentiate, *rules, slower=()):
    measured = (_small, _uneven, *slower)
    return Implementation(
        name, bodies.filter_grad(bodies.summed(differentiate)),
        _reason(_filter_grad, _in_chunks, _few_taps, *rules),
        slower=_reason(_filter_grad, *measured), platforms=("cpu",), here_only=True,
    )  # fmt: skip


def _gathered(channels):
    """Why `shifted` does not compute a call.

    Args:
      channels: `channels(w, groups)`: how many of a group's channels go into each sum.
    """

    def reason(image, w, *, window, dtype, out_sharding, **static):
        if window.groups == 1 or channels(w, window.groups) == 1:
            return "only grouped convolutions of more than one channel per group"
        if math.prod(window.size) > MOST_TAPS:
            return f"only for filters of at most {MOST_TAPS} taps"
        if 0 in (*image.shape, *w.shape, *window.input, *window.output):
            return "nothing to compute"
        if dtype == jnp.bool:
            return "not for bool"
        if not _splits_examples_or_groups(image, w, window.groups):
            return "only where explicit axes split examples, or groups in both operands"
        return None

    return reason


def _splits_examples_or_groups(image, w, groups):
    x, y = explicit_sharding(image), explicit_sharding(w)
    if x is None or y is None:
        return True
    (_, *pixels, c), (*taps, k) = x.spec, y.spec
    parts = math.prod(x.mesh.shape[name] for name in jax.tree.leaves(c))
    return set(pixels) | set(taps) <= {None} and c == k and groups % parts == 0


FORWARD = _table(bodies.forward, _forward, _gathered(lambda w, groups: w.shape[-2]), "conv_forward")
INPUT_GRAD = _table(
    bodies.input_grad, _input_grad, _gathered(lambda w, groups: w.shape[-1] // groups),
    "conv_input_grad",
)  # fmt: skip
FILTER_GRAD = one_body(
    bodies.filter_grad_on_xla,
    onednn("conv_filter_grad"),
    _filter_row("depthwise", depthwise.filter_grad, _one_channel_each),
    _filter_row("planes", planes.filter_grad, _three_axes, slower=[_planes_pay]),
    _filter_row("rows", rows.filter_grad, slower=[_filter_rows_pay, _memory(_side_by_side)]),
)
