"""What follows a convolution, scale, bias, activation and gate, and its gradient.

    y = gate * act(z)          z = x * scale + bias
    dx = scale * t             t = dy * gate * act'(z)
    dscale = sum of x t, dbias = sum of t, dgate = sum of dy act(z)

Shapes (`pixels.py`): x, y and their gradients B M C, scale and bias 1 C or B C, the gate B C; B
examples where a gate, or scales of their own, tell them apart, else one of all pixels. A program
owns BLOCK_C channels of TOGETHER blocks of BLOCK_M pixels of one example. Sums are kept in
registers, one for each place in a block, added over the block at the end, and over programs in one
order: in every run the same.

Memory bounds both: x is read once and y written, x and dy are read once and dx written. XLA's own
forward pass moves no more.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import triton
import triton.language as tl
from jax import lax

from .geometry import unsupported
from .launch import launch
from .pixels import MOST_CHANNELS, Pixels, block_of, hold, own, passed, spread

DTYPES = ("float32", "bfloat16", "float16")
ELEMENTS = 2048  # of a block: 16 for each of 128 threads, two loads of 16 bytes of bfloat16
ELEMENTS_BACK = 1024  # of each of two arrays; three sums of as many numbers are in registers
PROGRAMS = 1056  # eight for each of 132 multiprocessors: 32 KiB in flight on each


def scale_bias_act(
    x: jax.Array, scale: jax.Array, bias: jax.Array, *gate: jax.Array, activation: str | None,
    across: Any = (),
) -> jax.Array:  # fmt: skip
    """y, as x: scale and bias have x's rank and size 1 where they repeat, the gate along pixels."""
    cut = _cut(x, scale, bias, *gate)
    grid, static = _spread(cut, activation, ELEMENTS)
    (y,) = launch(
        _forward, grid, [cut.pixels(x), *_lines(cut, scale, bias, *gate)],
        [jax.ShapeDtypeStruct((cut.b, cut.m, cut.c), x.dtype)], **static,
    )  # fmt: skip
    return y.reshape(x.shape)


def scale_bias_act_grad(
    dy: jax.Array, x: jax.Array, scale: jax.Array, bias: jax.Array, *gate: jax.Array,
    activation: str | None, across: Any = (),
) -> tuple[jax.Array, ...]:  # fmt: skip
    """dx, dscale, dbias, and dgate where there is a gate, each as what it belongs to."""
    cut = _cut(x, scale, bias, *gate)
    grid, static = _spread(cut, activation, ELEMENTS_BACK)
    static["SUMS"] = 2 + len(gate)
    dx, sums = launch(
        _grad, grid, [cut.pixels(dy), cut.pixels(x), *_lines(cut, scale, bias, *gate)],
        [jax.ShapeDtypeStruct((cut.b, cut.m, cut.c), x.dtype),
         jax.ShapeDtypeStruct((cut.b, static["PARTS"], static["SUMS"], cut.c), jnp.float32)],
        **static,
    )  # fmt: skip
    sums = jnp.sum(sums, 1)
    parameters = scale, bias, *gate
    dscale, dbias, *dgate = (cut.as_scale(sums[:, i], a) for i, a in enumerate(parameters))
    if across:  # what examples share: the gate is each one's own
        dscale, dbias = lax.psum((dscale, dbias), across)
    return dx.reshape(x.shape), dscale, dbias, *dgate


def scale_bias_act_unsupported(
    x: Any, scale: Any, bias: Any, *gate: Any, activation: str | None
) -> str | None:
    """Why the call can't be computed here, in words, or None if it can."""
    return _unsupported(x)


def scale_bias_act_grad_unsupported(
    dy: Any, x: Any, scale: Any, bias: Any, *gate: Any, activation: str | None
) -> str | None:
    """Why the call can't be computed here, in words, or None if it can."""
    return _unsupported(x)


def _unsupported(x):
    if reason := unsupported(x, dtypes=DTYPES):
        return reason
    if x.shape[-1] >= MOST_CHANNELS:
        return f"only for fewer than {MOST_CHANNELS} channels, got {x.shape[-1]}"
    return None


def _cut(x, scale, bias, *gate):
    """Examples are the axes up to the last one but channels along which parameters differ."""
    parameters = scale, bias, *gate
    differ = [axis for axis in range(x.ndim - 1) if any(a.shape[axis] != 1 for a in parameters)]
    outer = max(differ, default=-1) + 1
    *pixels, c = x.shape[outer:]
    return Pixels(
        math.prod(x.shape[:outer]), math.prod(pixels), c, 1, outer,
        (*x.shape[:outer], *(1 for _ in pixels), c), scale.size > c,
    )  # fmt: skip


def _spread(cut, activation, elements):
    grid, static = spread(cut, elements, PROGRAMS)
    return grid, {**cut.constants(), **static, "ACTIVATION": activation or "none"}


def _lines(cut, scale, bias, *gate):
    """scale and bias, (1, C) or (B, C), and the gate, (B, C): ones if there is none."""
    gates = gate or (jnp.ones((1,) * len(cut.shape), scale.dtype),)
    each = jnp.broadcast_to(gates[0], cut.shape).reshape(cut.b, cut.c)
    return cut.scales(scale), cut.scales(bias), each


# fmt: off
@triton.jit
def _activated(z, ACTIVATION: tl.constexpr):
    """act(z)."""
    if ACTIVATION == "relu":
        z = hold(z, 0.0, float("inf"))
    elif ACTIVATION == "relu6":
        z = hold(z, 0.0, 6.0)
    elif ACTIVATION == "silu":
        z = z * tl.sigmoid(z)
    elif ACTIVATION == "hard_swish":
        z = z * (hold(z + 3.0, 0.0, 6.0) / 6.0)
    elif ACTIVATION == "gelu":  # (1 + tanh(u)) / 2 is the sigmoid of 2 u
        z = z * tl.sigmoid(1.5957691216057308 * (z + 0.044715 * (z * z * z)))
    elif ACTIVATION == "gelu_exact":
        z = z * (0.5 + 0.5 * tl.erf(z * 0.7071067811865476))
    return z


@triton.jit
def _slope(z, ACTIVATION: tl.constexpr):
    """act'(z); at a kink 0, as JAX has it."""
    slope = tl.full(z.shape, 1.0, tl.float32)
    if ACTIVATION == "relu":
        slope = passed(slope, z, 0.0, float("inf"))
    elif ACTIVATION == "relu6":
        slope = passed(slope, z, 0.0, 6.0)
    elif ACTIVATION == "silu":
        s = tl.sigmoid(z)
        slope = s * (1.0 + z * (1.0 - s))
    elif ACTIVATION == "hard_swish":
        slope = hold(z + 3.0, 0.0, 6.0) / 6.0 + passed(z / 6.0, z, -3.0, 3.0)
    elif ACTIVATION == "gelu":
        s = tl.sigmoid(1.5957691216057308 * (z + 0.044715 * (z * z * z)))
        slope = s + z * s * (1.0 - s) * (1.5957691216057308 * (1.0 + 0.134145 * (z * z)))
    elif ACTIVATION == "gelu_exact":
        density = 0.3989422804014327 * tl.exp(-0.5 * (z * z))
        slope = (0.5 + 0.5 * tl.erf(z * 0.7071067811865476)) + z * density
    return slope


@triton.jit
def _forward(
    x_ptr, scale_ptr, bias_ptr, gate_ptr, y_ptr,
    M: tl.constexpr, C: tl.constexpr, L: tl.constexpr, PER_EXAMPLE: tl.constexpr,
    ACTIVATION: tl.constexpr,
    PARTS: tl.constexpr, TOGETHER: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr,
):
    b, part, c, of_gate, of_scale = own(C, L, PER_EXAMPLE, PARTS, BLOCK_C)
    scale = tl.load(scale_ptr + of_scale, mask=c < C, other=0.0)
    bias = tl.load(bias_ptr + of_scale, mask=c < C, other=0.0)
    gate = tl.load(gate_ptr + of_gate, mask=c < C, other=0.0)
    for number in range(TOGETHER):
        at, _, inside = block_of(b, part * TOGETHER + number, c, c < C, M, C, BLOCK_M)
        x = tl.load(x_ptr + at, mask=inside, other=0.0).to(tl.float32)
        y = gate[None, :] * _activated(x * scale[None, :] + bias[None, :], ACTIVATION)
        tl.store(y_ptr + at, y.to(y_ptr.dtype.element_ty), mask=inside)


@triton.jit
def _grad(
    dy_ptr, x_ptr, scale_ptr, bias_ptr, gate_ptr, dx_ptr, sums_ptr,
    M: tl.constexpr, C: tl.constexpr, L: tl.constexpr, PER_EXAMPLE: tl.constexpr,
    ACTIVATION: tl.constexpr, SUMS: tl.constexpr,
    PARTS: tl.constexpr, TOGETHER: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr,
):
    b, part, c, of_gate, of_scale = own(C, L, PER_EXAMPLE, PARTS, BLOCK_C)
    scale = tl.load(scale_ptr + of_scale, mask=c < C, other=0.0)
    bias = tl.load(bias_ptr + of_scale, mask=c < C, other=0.0)
    gate = tl.load(gate_ptr + of_gate, mask=c < C, other=0.0)
    dscale = tl.zeros((BLOCK_M, BLOCK_C), tl.float32)
    dbias = tl.zeros((BLOCK_M, BLOCK_C), tl.float32)
    dgate = tl.zeros((BLOCK_M, BLOCK_C), tl.float32)
    for number in range(TOGETHER):
        at, _, inside = block_of(b, part * TOGETHER + number, c, c < C, M, C, BLOCK_M)
        x = tl.load(x_ptr + at, mask=inside, other=0.0).to(tl.float32)
        dy = tl.load(dy_ptr + at, mask=inside, other=0.0).to(tl.float32)
        # An infinite bias must not make NaN of what is not there.
        z = tl.where(inside, x * scale[None, :] + bias[None, :], 0.0)
        t = dy * gate[None, :] * _slope(z, ACTIVATION)
        tl.store(dx_ptr + at, (scale[None, :] * t).to(dx_ptr.dtype.element_ty), mask=inside)
        dscale += x * t
        dbias += t
        if SUMS == 3:
            dgate += dy * _activated(z, ACTIVATION)
    at_sums = (b * PARTS + part) * (SUMS * C) + c
    tl.store(sums_ptr + at_sums, tl.sum(dscale, 0), mask=c < C)
    tl.store(sums_ptr + at_sums + C, tl.sum(dbias, 0), mask=c < C)
    if SUMS == 3:
        tl.store(sums_ptr + at_sums + 2 * C, tl.sum(dgate, 0), mask=c < C)
# fmt: on
