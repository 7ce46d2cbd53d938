"""The tables of convolution and its two gradients: which formulation runs, and why not another.

Formulations for XLA alone stand between oneDNN and XLA's own convolution. What they can't compute
is said by `unsupported` (`conv_call.py`); where they were measured to lose, by `slower`
(`conv_measured.py`). Measured on CPUs, they are chosen on CPUs, and only where XLA compiles the
program whole: their chunks of examples would be gathered where it splits them.
"""

from __future__ import annotations

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp

from jconv.algorithms import (
    depthwise,
    im2col,
    phases,
    planes,
    pointwise,
    rows,
    shifted,
    spectral,
    winograd,
)
from jconv.core import Implementation, Parts, explicit_sharding, one_body, onednn, triton
from jconv.ops import conv_bodies as bodies
from jconv.ops import conv_call as calls
from jconv.ops import conv_measured as measured
from jconv.ops.conv_call import (
    MOST_TAPS,
    few_taps,
    one_channel_each,
    one_group,
    one_tap,
    three_axes,
    three_taps,
    unstrided_or_undilated,
)

CAN = unstrided_or_undilated, few_taps
LOOPS = measured.small, measured.uneven
F2, F4 = {"tile": 2}, {"tile": 4}


def _row(name, body, call_of, formulation, *rules, slower):
    """A formulation, chosen on CPUs unless a rule of `slower` speaks against it."""
    return Implementation(
        name, body(formulation), calls.reasons(call_of, calls.in_chunks, calls.floating, *rules),
        slower=calls.reasons(call_of, *slower),
        platforms=("cpu",), here_only=True,
    )  # fmt: skip


def _by_name(name, body, call_of, formulation, *rules):
    """A formulation that loses where it was measured, or is less exact."""
    unsupported = calls.reasons(call_of, calls.in_chunks, *rules)
    return Implementation(name, body(formulation), unsupported, by_name_only=True)


def _outside(row, call_of, slower):
    """A row outside XLA, chosen unless the rule `slower` speaks against it."""
    return dataclasses.replace(row, slower=calls.reasons(call_of, slower))


def _kernel(direction):
    """Triton's kernels: of one group channels and features fall into parts each by itself, of a
    depthwise convolution together, of other groups not.
    """

    def parts(first, second, *, window, **static):
        between = (None,) * (first.ndim - 2)
        depthwise = 1 < window.groups == first.shape[-1] == second.shape[-1]
        c, k = ("c", "k") if window.groups == 1 else ("c" if depthwise else None,) * 2
        image, result = ("n", *between, c), ("n", *between, k)
        taps = (*between, None if depthwise else c, k)
        if direction == "filter_grad":
            return Parts((image, result), (taps,))
        image, result = (image, result) if direction == "forward" else (result, image)
        return Parts((image, taps), (result,))

    return triton(f"conv_{direction}", parts)


def _tiles(call_of, direction, pairs):
    """Winograd's tiles with oneDNN's products."""
    row = onednn(f"winograd_{direction}", "onednn_winograd")
    return _outside(row, call_of, measured.tiles_pay(pairs))


def _table(body, call_of, gathers, direction):
    direct = _outside(onednn(f"conv_{direction}"), call_of, measured.few_features)

    def row(name, formulation, *rules, slower):
        return _row(name, body, call_of, formulation, *rules, slower=slower)

    def by_name(name, formulation, *rules):
        return _by_name(name, body, call_of, bodies.summed(formulation), *rules)

    def on_xla(formulation):
        return functools.partial(formulation, bodies.on_xla)

    fits = measured.memory(lambda call: call.size[-1])
    return one_body(
        body(bodies.on_xla),
        _tiles(call_of, direction, pairs=170),
        direct,
        _kernel(direction),
        row(
            "depthwise",
            bodies.summed(depthwise.conv),
            one_channel_each,
            *CAN,
            slower=[measured.tiny],
        ),
        row(
            "pointwise",
            bodies.summed(pointwise.conv),
            one_group,
            one_tap,
            *CAN,
            slower=[measured.small, measured.narrow, measured.unstrided_pays],
        ),
        row("rows", bodies.summed(rows.conv), *CAN, slower=[*LOOPS, measured.rows_pay, fits]),
        row("phases", on_xla(phases.conv), *CAN, slower=[*LOOPS, measured.phases_pay]),
        row("planes", on_xla(planes.conv), three_axes, slower=[*LOOPS, measured.planes_pay]),
        row(
            "winograd",
            bodies.summed(functools.partial(winograd.conv, **F2)),
            three_taps,
            slower=[*LOOPS, measured.winograd_pays],
        ),
        by_name("winograd4", functools.partial(winograd.conv, **F4), calls.floating, three_taps),
        by_name("im2col", im2col.conv, calls.numbers, one_group),
        by_name("fft", spectral.conv, calls.inexact),
        Implementation("shifted", body(bodies.summed(shifted.conv)), gathers, split_only=True),
    )


def _filter_row(name, formulation, *rules, slower):
    return _row(
        name, bodies.filter_grad, calls.filter_grad, bodies.summed(formulation), few_taps, *rules,
        slower=slower,
    )  # fmt: skip


def _filter_by_name(name, formulation, *rules):
    return _by_name(name, bodies.filter_grad, calls.filter_grad, bodies.summed(formulation), *rules)


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


FORWARD = _table(bodies.forward, calls.forward, _gathered(lambda w, groups: w.shape[-2]), "forward")
INPUT_GRAD = _table(
    bodies.input_grad, calls.input_grad, _gathered(lambda w, groups: w.shape[-1] // groups),
    "input_grad",
)  # fmt: skip
FILTER_GRAD = one_body(
    bodies.filter_grad_on_xla,
    _tiles(calls.filter_grad, "filter_grad", pairs=60),
    _outside(
        onednn("depthwise_filter_grad", "onednn_depthwise"),
        calls.filter_grad,
        measured.few_columns,
    ),
    _outside(onednn("conv_filter_grad"), calls.filter_grad, measured.long_products),
    _kernel("filter_grad"),
    _filter_row("depthwise", depthwise.filter_grad, one_channel_each, slower=[measured.tiny]),
    _filter_row("planes", planes.filter_grad, three_axes, slower=[*LOOPS, measured.planes_pay]),
    _filter_row(
        "winograd",
        functools.partial(winograd.filter_grad, **F2),
        three_taps,
        slower=[*LOOPS, measured.winograd_pays],
    ),
    _filter_row("im2col", im2col.filter_grad, one_group, slower=[*LOOPS, measured.im2col_pays]),
    _filter_row(
        "pointwise",
        pointwise.filter_grad,
        one_group,
        one_tap,
        slower=[measured.small, measured.narrow],
    ),
    _filter_row(
        "rows",
        rows.filter_grad,
        slower=[*LOOPS, measured.filter_rows_pay, measured.memory(measured.side_by_side)],
    ),
    _filter_by_name(
        "winograd4", functools.partial(winograd.filter_grad, **F4), calls.floating, three_taps
    ),
)
