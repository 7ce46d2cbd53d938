"""Operations whose results read the same index of each operand, or one that is broadcast to it.

An allow-list: that the shapes agree does not make an operation pointwise (a Fourier transform).
"""

from __future__ import annotations

from typing import Any

from jconv.receptive_field.constants import Known
from jconv.receptive_field.rules.call import Call, is_dep, joined

NAMES = (
    "abs", "acos", "acosh", "add", "add_any", "and", "asin", "asinh", "atan", "atan2", "atanh",
    "bessel_i0e", "bessel_i1e", "cbrt", "ceil", "clamp", "clz", "complex", "conj",
    "convert_element_type", "copy", "copy_p", "cos", "cosh", "digamma", "div", "eq", "erf",
    "erf_inv", "erfc", "exp", "exp2", "expm1", "floor", "ge", "gt", "igamma", "igamma_grad_a",
    "igammac", "imag", "integer_pow", "is_finite", "le", "lgamma", "log", "log1p", "log2",
    "logistic", "lt", "max", "mesh_cast", "min", "mul", "mulhi", "name", "ne", "neg",
    "nextafter", "not", "one_minus_square", "or", "polygamma", "population_count", "pow",
    "real", "reduce_precision", "regularized_incomplete_beta", "rem", "reshard", "round",
    "rsqrt", "select_n", "sharding_constraint", "shift_left", "shift_right_arithmetic",
    "shift_right_logical", "sign", "sin", "sinh", "sqrt", "square", "stop_gradient", "sub",
    "tan", "tanh", "xor", "zeta",
)  # fmt: skip
# Each result reads the operand of its number. Sums over devices add up one place of each.
VARIADIC = (
    "device_put", "layout_constraint", "optimization_barrier", "pbroadcast", "pcast", "pmax",
    "pmin", "psum", "psum2", "psum_invariant", "pvary", "reduced_vary_cast",
)  # fmt: skip


def pointwise(domain: Any, call: Call) -> Any:
    """The union over the operands, each broadcast to the result."""
    (shape,) = call.outs
    if not all(_broadcasts(given, shape) for given in call.shapes):
        return NotImplemented
    deps = [broadcast(domain, dep, given, shape) for dep, given in call.deps]
    return joined(domain, deps, shape, call.at)


def broadcast(domain: Any, dep: Any, given: tuple[int, ...], shape: tuple[int, ...]) -> Any:
    """dep of a shape (), or of the result's rank with some extents 1, as of the result's."""
    source = [None if not given or given[d] != n else d for d, n in enumerate(shape)]
    return domain.place(dep, source, shape)


def select(domain: Any, call: Call) -> Any:
    """Where it is known which case is taken, that case alone is read."""
    which, *cases = call.ins
    (shape,) = call.outs
    if not isinstance(which, Known) or any(s != shape for s in call.shapes[1:]):
        return pointwise(domain, call)
    deps = [case if is_dep(case) else None for case in cases]
    chosen = which.value.astype(int).reshape(which.value.shape or (1,) * len(shape))
    return domain.choose(chosen, deps, shape)


def variadic(domain: Any, call: Call) -> Any:
    """One result for each operand."""
    if len(call.ins) != len(call.outs) or list(call.shapes) != list(call.outs):
        return NotImplemented
    return [dep if is_dep(dep) else None for dep in call.ins]


def bitcast(domain: Any, call: Call) -> Any:
    """Pointwise where the numbers keep their width."""
    return pointwise(domain, call) if call.shapes[0] == call.outs[0] else NotImplemented


def _broadcasts(given, shape):
    return not given or (
        len(given) == len(shape) and all(a in (1, b) for a, b in zip(given, shape, strict=True))
    )


RULES = {
    **dict.fromkeys(NAMES, pointwise),
    **dict.fromkeys(VARIADIC, variadic),
    "select_n": select,
    "bitcast_convert_type": bitcast,
}
