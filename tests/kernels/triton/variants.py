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


def _conv(n, c, k, size, *, groups=1, padding="SAME", dtype=BF16, **options):
    """x (256, n, n, c), y (256, n, n, k)."""
    window = Window.of((n, n), size, padding=padding, groups=groups, **options)
    x, y, w = (256, n, n, c), (256, *window.output, k), (size, size, c // groups, k)
    typed = {"window": window, "dtype": dtype}
    return {
        "conv_forward": ([(x, dtype), (w, dtype)], typed),
        "conv_input_grad": ([(y, dtype), (w, dtype)], typed),
        "conv_filter_grad": ([(x, dtype), (y, dtype)], typed),
    }


def _first(*sizes, **options):
    """Of a network: nobody asks for the gradient of an image."""
    bodies = _conv(*sizes, **options)
    return {name: bodies[name] for name in ("conv_forward", "conv_filter_grad")}


def _depthwise(n, c, size, **options):
    """x (256, n, n, c)."""
    return _conv(n, c, c, size, groups=c, **options)


def _norm(shape, axes, *, bounds=None):
    """x normalised over `axes`, a scale for each number along the last ones that have one."""
    row = tuple(1 if axis in axes else n for axis, n in enumerate(shape))
    line = tuple(n if axis > 2 else 1 for axis, n in enumerate(shape))
    static = {"axes": axes, "epsilon": 1e-6, "centre": True, "bounds": bounds}
    rows, scales = [(row, F32)] * 2, [(line, F32)] * 2
    return {
        "standardize": ([(shape, BF16), *scales], static),
        "standardize_grad": ([(shape, BF16), *rows, (shape, BF16), *scales, *rows], static),
    }


def _rows(n, c):
    """x (256, n, n, c), normalised over c."""
    return _norm((256, n, n, c), (3,))


def _batch(n, c):
    """x (256, n, n, c), each channel by itself, with a ReLU."""
    return _norm((256, n, n, c), (0, 1, 2), bounds=(0.0, float("inf")))


def _groups(examples, n, groups, c):
    """x (examples, n, n, groups * c), each group of an example by itself."""
    return _norm((examples, n, n, groups, c), (1, 2, 4))


def _epilogue(n, c, activation, *, gated=False):
    """x (256, n, n, c), a scale and a bias of each channel, a gate of each example's."""
    image, line, gate = (256, n, n, c), (1, 1, 1, c), (256, 1, 1, c)
    given = [(image, BF16), (line, F32), (line, F32), *([(gate, F32)] if gated else [])]
    static = {"activation": activation}
    return {
        "scale_bias_act": (given, static),
        "scale_bias_act_grad": ([(image, BF16), *given], static),
    }


LAYERS = {
    "3s2_112x64": _pools(112, 64, Window.of((112, 112), 3, stride=2, padding=1)),
    "2s2_112x64": _pools(112, 64, Window.of((112, 112), 2, stride=2)),
    "dw3_56x144": _depthwise(56, 144, 3),
    "dw3s2_56x144": _depthwise(56, 144, 3, stride=2),
    "dw3dil2_28x192": _depthwise(28, 192, 3, dilation=2),
    "dw7_56x96": _depthwise(56, 96, 7),
    "dw7_14x384": _depthwise(14, 384, 7),
    "conv3_56x64": _conv(56, 64, 64, 3),
    "conv3s2_28x128": _conv(28, 128, 256, 3, stride=2, padding=1),
    "conv1_14x1024": _conv(14, 1024, 256, 1),
    "conv3_tf32_28x128": _conv(28, 128, 128, 3, dtype=F32),
    "conv3_fp16_14x256": _conv(14, 256, 256, 3, dtype=jnp.dtype("float16")),
    "conv3g32_28x512": _conv(28, 512, 512, 3, groups=32),
    "conv7s2_224x3": _first(224, 3, 64, 7, stride=2, padding=3),
    "layernorm_56x96": _rows(56, 96),
    "layernorm_7x768": _rows(7, 768),
    "batchnorm_112x64": _batch(112, 64),
    "batchnorm_56x256": _batch(56, 256),
    "batchnorm_7x2048": _batch(7, 2048),
    "groupnorm_56x256": _groups(256, 56, 32, 8),
    "groupnorm_14x1024": _groups(256, 14, 32, 32),
    "groupnorm_64x320": _groups(16, 64, 32, 10),
    "groupnorm_7x768": _groups(256, 7, 1, 768),
    "instancenorm_64x128": _norm((16, 64, 64, 128), (1, 2)),
    "silu_gate_56x144": _epilogue(56, 144, "silu", gated=True),
    "hardswish_gate_14x672": _epilogue(14, 672, "hard_swish", gated=True),
    "gelu_56x384": _epilogue(56, 384, "gelu_exact"),
    "gelutanh_7x3072": _epilogue(7, 3072, "gelu"),
    "relu_56x256": _epilogue(56, 256, "relu"),
    "relu6_112x96": _epilogue(112, 96, "relu6"),
}
VARIANTS = {
    f"{body}_{layer}": (body, shapes, static)
    for layer, bodies in LAYERS.items()
    for body, (shapes, static) in bodies.items()
}
