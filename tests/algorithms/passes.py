"""The three passes of a convolution by one formulation, by the definition, and in bytes."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

import jconv
from jconv.ops.conv_triangle import filter_grad, forward, input_grad
from jconv.window import Window
from tests.oracles import conv as oracle

NAMES = ("fwd", "dx", "dw")


def computed(case, implementation, arrays):
    """y, dx, dw by one implementation, from x, w, dy."""
    x, w, dy = arrays
    f = functools.partial(jconv.conv, implementation=implementation, **case.options)

    @jax.jit
    def passes(x, w, dy):
        y, vjp = jax.vjp(f, x, w)
        return y, *vjp(dy)

    return passes(x, w, dy)


def expected(case, arrays):
    """The same in float64, by the definition."""
    x, w, dy = arrays
    return (
        case.expected(x, w),
        oracle.input_grad(dy, w, input=case.x[1:-1], **case.definition),
        oracle.filter_grad(x, dy, window=case.window, **case.definition),
    )


def terms(case):
    """Products behind each entry of y, dx and dw."""
    y = np.prod(window(case).output) * case.x[0]
    return case.terms, case.terms * case.k, int(y)


def operands(case, key, dtype):
    """x, w and dy, normally distributed."""
    x, w = case.arrays(key, dtype)
    shape = (case.x[0], *window(case).output, case.k)
    return x, w, jax.random.normal(jax.random.fold_in(key, 2), shape).astype(dtype)


def window(case):
    options = {k: v for k, v in case.options.items() if k != "padding"}
    return Window.of(case.x[1:-1], case.window, padding=case.padding, **options)


def temporary_bytes(case, implementation):
    """What XLA allots beside arguments and results to each pass: {"fwd": bytes, ...}."""
    win = window(case)
    shapes = {"x": case.x, "w": case.w, "dy": (case.x[0], *win.output, case.k)}
    x, w, dy = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes.values())
    static = {"window": win, "dtype": x.dtype, "precision": None, "out_sharding": None}
    passes = {"fwd": (forward, x, w), "dx": (input_grad, dy, w), "dw": (filter_grad, x, dy)}
    return {
        name: jax.jit(functools.partial(op, implementation=op.offers(implementation), **static))
        .lower(first, second)
        .compile()
        .memory_analysis()
        .temp_size_in_bytes
        for name, (op, first, second) in passes.items()
        if op.offers(implementation)
    }


def root_mean_square(actual, right):
    return float(np.sqrt(np.mean((np.asarray(actual, np.float64) - right) ** 2)))
