"""Counts the multiply-adds of a traced function, equation by equation, from shapes alone.

Three operations multiply and add: a convolution, its two gradients and a matrix product. Each is
bilinear, and its count is (elements of the result) x (length of the sum behind each of them):

    dot_general          B M N      x  K                [B M K] [B K N] -> [B M N]
    convolution          N P Q K    x  R S C/G          x N H W C,  w R S C/G K

A gradient of a convolution does the multiply-adds of the convolution itself: the same products,
summed along other axes. Padding counts as if it were read. Where the input is dilated, most taps
meet the zeros in between and the products are counted at the input, N H W C x R S K/G, so a
transposed convolution costs the same in either spelling. Element-wise work, pooling and
normalisation have no multiply-adds here, as in papers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn  # pyright: ignore[reportPrivateImportUsage]


def multiply_adds(jaxpr: Jaxpr) -> int:
    """Multiply-adds of one evaluation of `jaxpr` (`jax.make_jaxpr(f)(*shapes).jaxpr`), calls and
    loops included."""
    return _total(walk(jaxpr))


class Work(NamedTuple):
    """What one equation does.

    Attributes:
      equation: the equation; a jitted function that is called twice is one program, whose equations
        come up twice.
      scope: the `jax.named_scope` names down to it, from the outside in.
      turns: how often it runs.
      multiply_adds: of one turn.
    """

    equation: JaxprEqn
    scope: str
    turns: int
    multiply_adds: int


def walk(jaxpr: Jaxpr, *, scope: str = "", turns: int = 1) -> Iterator[Work]:
    """The work of every equation in program order, inside jit, remat, custom rules, loops and
    conditionals too.

    A scan takes `length` turns, a conditional its most expensive branch, and a `while`, whose
    number of turns no shape tells, one.
    """
    for equation in jaxpr.eqns:
        here = f"{scope}/{equation.source_info.name_stack}"
        count = _BILINEAR.get(equation.primitive.name)
        yield Work(equation, here, turns, count(equation) if count else 0)
        if count:
            continue
        inside = turns * _turns(equation)
        bodies = [list(walk(body, scope=here, turns=inside)) for body in _bodies(equation)]
        if equation.primitive.name == "cond":
            bodies = [max(bodies, key=_total)]
        for body in bodies:
            yield from body


def _total(work: Iterable[Work]) -> int:
    return sum(w.turns * w.multiply_adds for w in work)


def _turns(equation: JaxprEqn) -> int:
    """How often the bodies of an equation run: the length of a scan, the programs of a grid, the
    shards of a mesh."""
    params = equation.params
    match equation.primitive.name:
        case "scan":
            return params["length"]
        case "pallas_call":
            return math.prod(params["grid_mapping"].grid)
        case "shard_map":
            axes = params.get("newly_manual_axes") or params.get("manual_axes") or ()
            return math.prod(params["mesh"].shape[axis] for axis in axes)
    return 1


def _bodies(equation: JaxprEqn) -> Iterator[Jaxpr]:
    """The programs inside an equation. Derivative rules are functions, not programs, so a custom
    rule runs its primal."""
    for value in equation.params.values():
        for body in value if isinstance(value, tuple | list) else [value]:
            if isinstance(body, ClosedJaxpr):
                yield body.jaxpr
            elif isinstance(body, Jaxpr):
                yield body


def _dot_general(equation: JaxprEqn) -> int:
    (contracted, _), _ = equation.params["dimension_numbers"]
    lhs = _shape(equation.invars[0])
    return _size(equation.outvars[0]) * math.prod(lhs[axis] for axis in contracted)


def _xla_conv(equation: JaxprEqn) -> int:
    """lax.conv_general_dilated, any layout."""
    params, (x, w), (y,) = equation.params, equation.invars, equation.outvars
    out_axis, in_axis, *window_axes = params["dimension_numbers"].rhs_spec
    shape = _shape(w)
    taps = math.prod(shape[axis] for axis in window_axes)
    if math.prod(params["lhs_dilation"]) > 1:
        return _size(x) * taps * shape[out_axis] // params["feature_group_count"]
    return _size(y) * taps * shape[in_axis]


def _jconv(equation: JaxprEqn, x: Any, w: Any, y: Any) -> int:
    """The primitives of jconv.ops.conv; x, w and y are their variables, values or gradients."""
    window = equation.params["window"]
    *size, channels, filters = _shape(w)
    if math.prod(window.input_dilation) > 1:
        return _size(x) * math.prod(size) * filters // window.groups
    return _size(y) * math.prod(size) * channels


def _shape(variable: Any) -> tuple[int, ...]:
    return variable.aval.shape


def _size(variable: Any) -> int:
    return math.prod(_shape(variable))


_BILINEAR = {
    "dot_general": _dot_general,
    "conv_general_dilated": _xla_conv,
    "conv": lambda e: _jconv(e, e.invars[0], e.invars[1], e.outvars[0]),
    "conv_input_grad": lambda e: _jconv(e, e.outvars[0], e.invars[1], e.invars[0]),
    "conv_filter_grad": lambda e: _jconv(e, e.invars[0], e.outvars[0], e.invars[1]),
}
