"""What follows a convolution, as cases of gpu.py's part "layers".

    pass
    fwd     x, scale, bias and the gate -> y
    full    x, scale, bias, the gate and dy -> y and the gradients of the first four

In a full pass XLA must have y before it reads dy, as in a step of training, where dy comes of y.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

import jconv
from jconv.ops.epilogue import Activation

PASSES = ("fwd", "full")
# As a network in JAX has them without jconv.
STOCK: dict[str, Callable[[jax.Array], jax.Array]] = {
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,
    "hard_swish": jax.nn.hard_swish,
    "gelu_exact": lambda z: jax.nn.gelu(z, approximate=False),
}


@dataclasses.dataclass(frozen=True)
class Epilogue:
    """Scale, bias and activation of x (N, H, W, C), and a gate for each example and channel.

    Attributes:
      origin: the network that has this layer.
    """

    x: tuple[int, ...]
    activation: Activation
    gated: bool = False
    origin: str = ""
    dtype: str = "float32"
    op: str = "scale_bias_act"
    family: str = "epilogue"

    def shapes(self, pass_: str) -> list[tuple[int, ...]]:
        """Of a pass's operands."""
        n, *_, c = self.x
        gate, dy = [(n, c)] * self.gated, [self.x] * (pass_ == "full")
        return [self.x, (c,), (c,), *gate, *dy]

    def least_bytes(self, pass_: str) -> int:
        """x and y; and x again, dy and dx. Parameters don't count."""
        arrays = 2 if pass_ == "fwd" else 5
        return arrays * math.prod(self.x) * jnp.dtype(self.dtype).itemsize

    def program(self, pass_: str, implementation: str | None) -> Callable[..., Any]:
        """jconv's computation by an implementation, or without jconv for None."""

        def forward(x, scale, bias, *gate):
            if implementation is not None:
                return jconv.scale_bias_act(
                    x, scale, bias, activation=self.activation, gate=gate[0] if gate else None,
                    implementation=implementation,
                )  # fmt: skip
            wide, scale, bias = (a.astype(jnp.float32) for a in (x, scale, bias))
            y = STOCK[self.activation](wide * scale + bias)
            y = y * gate[0][:, None, None].astype(jnp.float32) if gate else y
            return y.astype(x.dtype)

        def full(*operands):
            *given, dy = operands
            y, back = jax.vjp(forward, *given)
            y, dy = lax.optimization_barrier((y, dy))
            return y, *back(dy)

        return forward if pass_ == "fwd" else full


EPILOGUES = {
    "silu_gate_56x144": Epilogue((0, 56, 56, 144), "silu", True, "EfficientNet-B0"),
    "gelu_56x384": Epilogue((0, 56, 56, 384), "gelu_exact", origin="ConvNeXt-T stage 1"),
    "hardswish_gate_14x672": Epilogue((0, 14, 14, 672), "hard_swish", True, "MobileNetV3-Large"),
    "relu_56x256": Epilogue((0, 56, 56, 256), "relu", origin="ResNet-50 layer1"),
}
