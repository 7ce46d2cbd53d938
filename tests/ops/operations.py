"""One small case of every operation beside its plain formulation, for tests by property."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import jconv


@dataclasses.dataclass(frozen=True)
class Op:
    """An operation and its plain formulation; operand 0 has examples first, `linear` are linear."""

    f: Callable
    plain: Callable
    shapes: tuple[tuple[int, ...], ...]
    linear: tuple[int, ...]

    def operands(self, dtype="float64", examples=None) -> tuple[jax.Array, ...]:
        """No two numbers within 1/100 of one another, so that maxima are far from ties."""
        shapes = list(self.shapes)
        if examples is not None:
            shapes[0] = (examples, *shapes[0][1:])
        size = sum(int(np.prod(shape)) for shape in shapes)
        step = max(0.01, 3 / max(size, 1))
        numbers = (np.random.default_rng(0).permutation(size) - size / 2) * step
        ends = np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1]
        parts = zip(np.split(numbers, ends), shapes, strict=True)
        return tuple(jnp.asarray(part.reshape(shape), dtype) for part, shape in parts)


def convolution(x, w, **options) -> Op:
    spatial = "DHW"[5 - len(x) :]

    def plain(x, w):
        return lax.conv_general_dilated(
            x, w,
            window_strides=options.get("stride", (1,) * len(spatial)),
            padding=options.get("padding", "SAME"),
            lhs_dilation=options.get("input_dilation", (1,) * len(spatial)),
            rhs_dilation=options.get("dilation", (1,) * len(spatial)),
            feature_group_count=options.get("groups", 1),
            dimension_numbers=(f"N{spatial}C", f"{spatial}IO", f"N{spatial}C"),
        )  # fmt: skip

    return Op(functools.partial(jconv.conv, **options), plain, (x, w), (0, 1))


def transposed(y, w):
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_transpose(
        y, w, (2, 1), "VALID", dimension_numbers=numbers, transpose_kernel=True
    )


def periodic(y, w):
    """`transposed`, a pixel wider on each side; then these are wrapped round."""
    x = transposed(y, w)
    h, v = x.shape[1] - 2, x.shape[2] - 2
    x = x[:, 1:-1].at[:, h - 1].add(x[:, 0]).at[:, 0].add(x[:, -1])
    return x[:, :, 1:-1].at[:, :, v - 1].add(x[:, :, 0]).at[:, :, 0].add(x[:, :, -1])


def patches(x):
    """The four pixels of each 2x2 window with stride 1, as an axis of their own."""
    h, w = x.shape[1:3]
    shifts = itertools.product(range(2), range(2))
    return jnp.stack([x[:, r : r + h - 1, s : s + w - 1] for r, s in shifts])


def normalised(x, scale, bias):
    mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
    return (x - mean) / jnp.sqrt(variance + 1e-5) * scale + bias, mean, variance


def gated_silu(x, scale, bias, gate):
    z = x * scale + bias
    return gate * z / (1 + jnp.exp(-z))


OPS = {
    "conv_1d": convolution((2, 5, 2), (3, 2, 2)),
    "conv_2d": convolution((2, 4, 3, 2), (3, 2, 2, 2)),
    "conv_3d": convolution((2, 3, 2, 3, 1), (2, 1, 2, 1, 2), padding=((0, 1), (0, 0), (1, 0))),
    "grouped": convolution((2, 4, 3, 4), (3, 2, 2, 4), groups=2, stride=(2, 1)),
    "depthwise": convolution((2, 4, 3, 2), (3, 2, 1, 4), groups=2),
    "dilated": convolution((2, 5, 4, 2), (2, 2, 2, 1), dilation=(2, 3)),
    "strided": convolution((2, 6, 5, 2), (2, 3, 2, 2), stride=(3, 2), padding="VALID"),
    "input_dilated": convolution(
        (2, 3, 3, 2), (3, 2, 2, 2), input_dilation=(2, 3), stride=(2, 1), padding=((1, 1), (0, 2))
    ),
    "conv_transpose": Op(
        functools.partial(jconv.conv_transpose, stride=(2, 1), padding="VALID"),
        transposed, ((2, 3, 2, 2), (3, 2, 1, 2)), (0, 1),
    ),
    "conv_transpose_circular": Op(
        functools.partial(
            jconv.conv_transpose, stride=(2, 1), padding=1, padding_mode="circular"
        ),
        periodic, ((2, 2, 3, 2), (3, 2, 1, 2)), (0, 1),
    ),
    "max_pool": Op(
        functools.partial(jconv.max_pool, window=2, stride=1),
        lambda x: patches(x).max(0), ((2, 4, 3, 2),), (),
    ),
    "avg_pool": Op(
        functools.partial(jconv.avg_pool, window=2, stride=1),
        lambda x: patches(x).mean(0), ((2, 4, 3, 2),), (0,),
    ),
    "batch_norm": Op(
        lambda x, scale, bias: jconv.batch_norm(x, scale, bias),
        normalised, ((2, 3, 2, 2), (2,), (2,)), (),
    ),
    "scale_bias_act": Op(
        lambda x, scale, bias, gate: jconv.scale_bias_act(
            x, scale, bias, activation="silu", gate=gate
        ),
        gated_silu, ((2, 3, 2, 2), (2,), (2,), (2,)), (),
    ),
}  # fmt: skip
