"""The kernels on layers of networks, batch 256 in bfloat16: what is compiled and measured."""

from __future__ import annotations

import jax.numpy as jnp

from jconv.window import Window

BF16, F32 = jnp.dtype("bfloat16"), jnp.dtype("float32")


def _pools(n, c, window):
    """x (256, n, n, c)."""
    x, y = (256, n, n, c), (256, *window.output, c)
    typed = {"window": window, "dtype": BF16}
    return {
        "max_pool": ([(x, BF16)], {"window": window}),
        "max_pool_argmax": ([(x, BF16)], {"window": window}),
        "pool_take": ([(x, BF16), (y, "uint8")], typed),
        "pool_put": ([(y, BF16), (y, "uint8")], typed),
        "window_sum": ([(x, BF16)], {**typed, "divisor": 9.0}),
        "window_spread": ([(y, BF16)], {**typed, "divisor": 9.0}),
    }


def _depthwise(n, c, size, **options):
    """x (256, n, n, c)."""
    window = Window.of((n, n), size, padding="SAME", groups=c, **options)
    x, y, w = (256, n, n, c), (256, *window.output, c), (size, size, 1, c)
    typed = {"window": window, "dtype": BF16}
    return {
        "conv_forward": ([(x, BF16), (w, BF16)], typed),
        "conv_input_grad": ([(y, BF16), (w, BF16)], typed),
        "conv_filter_grad": ([(x, BF16), (y, BF16)], typed),
    }


def _rows(n, c):
    """x (256, n, n, c), normalised over c."""
    x, row, line = (256, n, n, c), (256, n, n, 1), (1, 1, 1, c)
    static = {"axes": (3,), "epsilon": 1e-6, "centre": True, "bounds": None}
    scales = [(line, F32)] * 2
    return {
        "standardize": ([(x, BF16), *scales], static),
        "standardize_grad": (
            [(x, BF16), (row, F32), (row, F32), (x, BF16), *scales, (row, F32), (row, F32)],
            static,
        ),
    }


LAYERS = {
    "3s2_112x64": _pools(112, 64, Window.of((112, 112), 3, stride=2, padding=1)),
    "2s2_112x64": _pools(112, 64, Window.of((112, 112), 2, stride=2)),
    "dw3_56x144": _depthwise(56, 144, 3),
    "dw3s2_56x144": _depthwise(56, 144, 3, stride=2),
    "dw3dil2_28x192": _depthwise(28, 192, 3, dilation=2),
    "dw7_56x96": _depthwise(56, 96, 7),
    "dw7_14x384": _depthwise(14, 384, 7),
    "layernorm_56x96": _rows(56, 96),
    "layernorm_7x768": _rows(7, 768),
}
VARIANTS = {
    f"{body}_{layer}": (body, shapes, static)
    for layer, bodies in LAYERS.items()
    for body, (shapes, static) in bodies.items()
}
