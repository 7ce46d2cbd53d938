"""Triton kernels for NVIDIA GPUs, one operation per file.

Optional: without Triton `unavailable()` says what to install. Every function has the signature of a
body in the tables of `jconv.ops`, and a `..._unsupported` beside it that says in words what it
refuses; the kernels' modules, which import Triton, are loaded when one is first asked for.

The operands of a call lie on one device; `across` are the axes of a mesh over which a result that
sums over examples is summed too.
"""

from __future__ import annotations

import importlib
from typing import Any

from .launch import compiling_for as compiling_for
from .launch import installed as installed
from .launch import interpreting as interpreting
from .launch import unavailable as unavailable

_MODULES = {
    "max_pool": "max_pooling",
    "max_pool_argmax": "max_pooling",
    "pool_take": "max_pooling",
    "pool_put": "max_pooling",
    "conv_forward": "conv",
    "conv_input_grad": "conv",
    "conv_filter_grad": "conv",
    "standardize": "norms",
    "standardize_grad": "norms",
    "standardize_tangent": "norms",
    "scale_bias_act": "epilogue",
    "scale_bias_act_grad": "epilogue",
    "window_sum": "avg_pooling",
    "window_spread": "avg_pooling",
}


def __getattr__(name: str) -> Any:
    module = _MODULES.get(name.removesuffix("_unsupported"))
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{module}", __name__), name)
