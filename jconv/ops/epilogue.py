"""What follows a convolution, in one pass over its result: scale, bias, activation and gate.

    y = gate * act(z)          z = x * scale + bias

The gate multiplies what the activation gives, as squeeze and excitation does in MobileNetV3 and
EfficientNet. With t = dy * gate * act'(z) the derivatives are

    tangent     (dx, dscale, dbias, dgate) -> dy
        dy = gate * act'(z) * (scale * dx + x * dscale + dbias) + act(z) * dgate

    grad        dy -> (dx, dscale, dbias, dgate)
        dx = scale * t
        dscale = sum of x * t, dbias = sum of t, dgate = sum of dy * act(z), over what shares them

each a primitive, linear in what stands left of its arrow, and the other's transpose. Both need x,
scale, bias and gate alone: z is computed again, never stored. `of` numbers the operands that have
a tangent: 0 is x.

Shapes: x, y and dy N ... C; scale and bias of x's rank, alike, with size 1 where they repeat; the
gate N 1 ... 1 C, or not there. Sums, parameters and what lies between x and y are float32 or wider,
whatever the dtype of x, which is that of y.

References: Hu, Shen & Sun 2018, arXiv:1709.01507 (the gate); Howard et al. 2019, arXiv:1905.02244
(hard swish, and the gate behind it); Tan & Le 2019, arXiv:1905.11946; Hendrycks & Gimpel 2016,
arXiv:1606.08415 (GELU); Elfwing, Uchibe & Doya 2017, arXiv:1702.03118 (SiLU).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import lax
from jax.interpreters import ad

from jconv.core import Operation, Parts, one_body, triton
from jconv.ops.dtypes import at_least_float32
from jconv.ops.mask import broadcasts
from jconv.ops.norm_arguments import check_per_channel, floating
from jconv.window import hashable

type Activation = Literal["relu", "relu6", "silu", "gelu", "gelu_exact", "hard_swish"]


@jax.custom_jvp
def _normal_cdf(z):
    """The probability of a standard normal number below z."""
    return 0.5 * lax.erfc(-math.sqrt(0.5) * z)


@_normal_cdf.defjvp
def _normal_cdf_jvp(primals, tangents):
    """By its density: JAX 0.12's own derivative of erfc is refused in a shard_map with checks."""
    (z,), (t,) = primals, tangents
    return _normal_cdf(z), t * (jnp.exp(-0.5 * z * z) / math.sqrt(2 * math.pi))


# JAX's ReLU: the derivative of jconv's own is told from its result, which would be written for it.
ACTIVATIONS: dict[str | None, Callable[[jax.Array], jax.Array]] = {
    None: lambda z: z,
    "relu": jax.nn.relu,
    "relu6": jax.nn.relu6,
    "silu": jax.nn.silu,
    "gelu": jax.nn.gelu,
    "gelu_exact": lambda z: z * _normal_cdf(z),
    "hard_swish": jax.nn.hard_swish,
}


def scale_bias_act(
    x: jax.Array,
    scale: jax.Array | None = None,
    bias: jax.Array | None = None,
    *,
    activation: Activation | None = None,
    gate: jax.Array | None = None,
    implementation: str | None = None,
) -> jax.Array:
    """gate * act(x * scale + bias) for x (N, ..., C), of x's shape and dtype.

    For the gradient x and the parameters are kept, and no other large array.

    Args:
      scale, bias: (C,); None leaves it out.
      activation: "relu", "relu6", "silu", "hard_swish" or "gelu", functions of `jax.nn` by their
        names there, so "gelu" is the one by tanh; "gelu_exact" is `gelu(approximate=False)`; None
        is the identity.
      gate: a factor for each example and channel, (N, C) or (N, 1, ..., 1, C), or what broadcasts
        to one of them: what a squeeze-and-excitation block makes of the image.
      implementation: None takes the table's choice (see `jconv.explain_choice`); a name runs that
        one or raises.

    Raises:
      ValueError: shapes or dtypes that don't fit each other, or another activation.
      NotImplementedError: the implementation that was asked for can't compute this call.
    """
    x, scale, bias, gate = _checked(x, scale, bias, gate, activation)
    dtype, first = at_least_float32(x.dtype), tuple(range(x.ndim - 1))
    scale = jnp.ones(x.shape[-1], dtype) if scale is None else scale.astype(dtype)
    bias = jnp.zeros(x.shape[-1], dtype) if bias is None else bias.astype(dtype)
    scale, bias = jnp.expand_dims(scale, first), jnp.expand_dims(bias, first)
    gates = () if gate is None else (jnp.expand_dims(gate.astype(dtype), first[1:]),)
    return forward(x, scale, bias, *gates, activation=activation, implementation=implementation)


# The bodies on XLA


def _forward_xla(x, scale, bias, *gate, activation):
    y = ACTIVATIONS[activation](x.astype(scale.dtype) * scale + bias)
    return (gate[0] * y if gate else y).astype(x.dtype)


def _tangent_xla(*operands, of, activation, named):
    tangents, primals = operands[: len(of)], operands[len(of) :]
    f, at = _in(of, functools.partial(_forward_xla, activation=activation), primals)
    return jax.jvp(f, at, tangents)[1]


def _grad_xla(dy, *primals, activation):
    return jax.vjp(functools.partial(_forward_xla, activation=activation), *primals)[1](dy)


def _in(of, body, operands):
    """`body` as a function of those operands that `of` numbers, and these."""

    def f(*some):
        given = dict(zip(of, some, strict=True))
        return body(*(given.get(i, operand) for i, operand in enumerate(operands)))

    return f, tuple(operands[i] for i in of)


# vmap: what is mapped is one axis more


def _fold(operation, size, args, mapped, **static):
    args = [
        a if m else jnp.broadcast_to(a, (size, *a.shape)) for a, m in zip(args, mapped, strict=True)
    ]
    return operation(*args, **static)


def _axes(x, scale):
    """Of x, of scale and bias, and of a gate: a call falls into parts along the first and the last,
    which a scale has if it has its size.
    """
    inner = [None] * (x.ndim - 2)
    first = "n" if scale.shape[0] == x.shape[0] else None
    return ("n", *inner, "c"), (first, *inner, "c"), ("n", *inner, "c")


def _forward_parts(x, scale, bias, *gate, **static):
    of_x, of_scale, of_gate = _axes(x, scale)
    return Parts((of_x, of_scale, of_scale, *(of_gate for _ in gate)), (of_x,))


def _grad_parts(dy, x, scale, bias, *gate, **static):
    of_x, of_scale, of_gate = _axes(x, scale)
    operands = (of_x, of_scale, of_scale, *(of_gate for _ in gate))
    return Parts((of_x, *operands), operands)


forward = Operation(
    "scale_bias_act",
    one_body(_forward_xla, triton("scale_bias_act", _forward_parts)),
    fold=lambda *a, **k: _fold(forward, *a, **k),
)
# Elementwise, so that XLA's own fusion moves nothing in vain. `named` is the implementation that
# the caller asked for by name, for the gradient to inherit.
tangent = Operation(
    "scale_bias_act_tangent",
    one_body(_tangent_xla),
    fold=lambda *a, **k: _fold(tangent, *a, **k),
)
grad = Operation(
    "scale_bias_act_grad",
    one_body(_grad_xla, triton("scale_bias_act_grad", _grad_parts)),
    fold=lambda *a, **k: _fold(grad, *a, **k),
    multiple_results=True,
)


# Derivatives


def _forward_jvp(primals, tangents, *, activation, implementation):
    of = _numbers(tangents)
    y = forward(*primals, activation=activation, implementation=implementation)
    dy = tangent(
        *(tangents[i] for i in of), *primals, of=of, activation=activation, named=implementation
    )
    return y, dy


def _tangent_transpose(dy, *operands, of, activation, named, implementation):
    moved, primals = operands[: len(of)], operands[len(of) :]
    gradients = grad(
        ad.instantiate_zeros(dy), *primals, activation=activation,
        implementation=grad.offers(named),
    )  # fmt: skip
    wanted = zip(moved, (gradients[i] for i in of), strict=True)
    return [d if ad.is_undefined_primal(o) else None for o, d in wanted] + [None for _ in primals]


def _grad_transpose(cotangents, dy, *primals, activation, implementation):
    of = _numbers(cotangents)
    back = tangent(
        *(cotangents[i] for i in of), *primals, of=of, activation=activation, named=implementation
    )
    return [back, *(None for _ in primals)]


def _by_definition(operation, body):
    """Derivatives of a derivative, as its body is written."""

    def jvp(primals, tangents, *, implementation, **static):
        of = _numbers(tangents)
        f, at = _in(of, functools.partial(body, **static), primals)
        results = operation(*primals, **static, implementation=implementation)
        return results, jax.jvp(f, at, tuple(tangents[i] for i in of))[1]

    return jvp


def _numbers(tangents):
    """Which of them there are."""
    return tuple(i for i, tangent in enumerate(tangents) if not isinstance(tangent, ad.Zero))


ad.primitive_jvps[forward.primitive] = _forward_jvp
for _operation, _body, _transpose in (
    (tangent, _tangent_xla, _tangent_transpose),
    (grad, _grad_xla, _grad_transpose),
):
    ad.primitive_jvps[_operation.primitive] = _by_definition(_operation, _body)
    ad.primitive_transposes[_operation.primitive] = _transpose


def _checked(x: Any, scale: Any, bias: Any, gate: Any, activation: Any) -> tuple[Any, ...]:
    """x and the parameters as arrays, the gate (N, C); None stays None."""
    op = "scale_bias_act"
    x = floating(op, x)
    scale, bias, gate = (
        None if value is None else floating(op, value, name)
        for name, value in {"scale": scale, "bias": bias, "gate": gate}.items()
    )
    check_per_channel(op, x, 2, scale=scale, bias=bias)
    if hashable(activation) not in ACTIVATIONS:
        names = ", ".join(map(repr, ACTIVATIONS))
        raise ValueError(f"{op}: activation must be one of {names}; got activation={activation!r}")
    if gate is None:
        return x, scale, bias, None
    n, *pixels, c = x.shape
    shape = gate.shape
    if gate.ndim == x.ndim and shape[1:-1] == (1,) * len(pixels):
        shape = (shape[0], shape[-1])
    if not broadcasts(shape, (n, c)):
        raise ValueError(
            f"{op}: gate must broadcast to (N, C) = {(n, c)} or to (N, {'1, ' * len(pixels)}C); "
            f"got gate {gate.shape}, x {x.shape}"
        )
    return x, scale, bias, jnp.broadcast_to(gate.reshape(shape), (n, c))
