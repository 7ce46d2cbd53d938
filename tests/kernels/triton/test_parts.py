"""Which parts of a call the kernels see on eight devices, by what is launched; none runs."""

from __future__ import annotations

import collections
import functools
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from jconv_kernels.triton import launch

import jconv
from tests.kernels.triton.calls import interpreted

pytestmark = [interpreted, pytest.mark.devices]
N, SIZE, C = 8, 6, 32
IMAGE = jax.ShapeDtypeStruct((N, SIZE, SIZE, C), jnp.float32)
TAPS, LINE = jax.ShapeDtypeStruct((3, 3, 1, C), jnp.float32), jax.ShapeDtypeStruct((C,), "float32")


def depthwise(x, w):
    options: dict[str, Any] = {"stride": 2, "groups": x.shape[-1], "implementation": "triton"}
    return jconv.conv(x, w, **options)


def layer_norm(x, scale):
    return jconv.layer_norm(x, scale, scale, implementation="triton")


def rms_norm(x, scale):
    return jconv.rms_norm(x, scale, implementation="triton")


def epilogue(x, w):
    """With a gate for each example."""
    scale, gate = jnp.sum(w, (0, 1, 2)), jnp.mean(x, (1, 2))
    return jconv.scale_bias_act(
        x, scale, scale, activation="silu", gate=gate, implementation="triton"
    )


def activation(x):
    return jconv.scale_bias_act(x, activation="relu", implementation="triton")


def max_pool(x):
    return jconv.max_pool(x, 3, stride=2, padding=1, implementation="triton")


def avg_pool(x):
    return jconv.avg_pool(x, 2, implementation="triton")


def gradient(fn, *args):
    """y, and the gradients of all arguments; the loss is the sum of squares."""
    y, back = jax.vjp(fn, *args)
    return y, back(2 * y)


def tangent(fn, *args):
    return jax.jvp(fn, args, args)


# Along which axes of the mesh, of 4 and 2 devices, the operands lie, for images and for parameters.
EXAMPLES = (P("d"), P())
CHANNELS = (P(None, None, None, "m"), P(None, None, None, "m"))
BOTH = (P("d", None, None, "m"), P(None, None, None, "m"))
CASES = {
    "depthwise": (depthwise, (IMAGE, TAPS), (EXAMPLES, CHANNELS, BOTH)),
    "layer_norm": (layer_norm, (IMAGE, LINE), (EXAMPLES,)),
    "rms_norm": (rms_norm, (IMAGE, LINE), (EXAMPLES,)),
    "epilogue": (epilogue, (IMAGE, TAPS), (EXAMPLES, CHANNELS, BOTH)),
    "activation": (activation, (IMAGE,), (EXAMPLES, CHANNELS, BOTH)),
    "max_pool": (max_pool, (IMAGE,), (EXAMPLES, CHANNELS, BOTH)),
    "avg_pool": (avg_pool, (IMAGE,), (EXAMPLES, CHANNELS, BOTH)),
}
# The definition of a convolution, which says what a kernel's result looks like, takes no explicit
# axis along channels.
SPLITS = {
    f"{name}-{layout[0]}-{kind.name}": (name, layout, kind)
    for name, (_, _, layouts) in CASES.items()
    for layout in layouts
    for kind in (AxisType.Auto, AxisType.Explicit)
    if (name, kind) != ("depthwise", AxisType.Explicit) or layout == EXAMPLES
}


def recorded(run):
    """How often each launch is asked for while `run()` compiles: kernel, grid and constants."""
    found: collections.Counter[Any] = collections.Counter()

    def record(kernel, grid, operands, results, constants, warps, stages):
        shapes = tuple(array.shape for array in (*operands, *results))
        found[kernel.__name__, grid, shapes, tuple(sorted(constants.items()))] += 1

    with launch.recording(record):
        value = run()
    return found, value


def part(aval, spec):
    """What one of 4x2 devices holds of an array."""
    sizes = {None: 1, "d": 4, "m": 2}
    axes = (*spec, *[None] * (len(aval.shape) - len(spec)))
    shape = tuple(n // sizes[axis] for n, axis in zip(aval.shape, axes, strict=True))
    return jax.ShapeDtypeStruct(shape, aval.dtype)


@pytest.mark.parametrize("derivative", [gradient, tangent])
@pytest.mark.parametrize(("name", "layout", "kind"), SPLITS.values(), ids=SPLITS)
def test_a_device_computes_its_part(name, layout, derivative, kind):
    fn, avals, _ = CASES[name]
    specs = (layout[0], *[layout[1]] * (len(avals) - 1))
    parts = [part(aval, spec) for aval, spec in zip(avals, specs, strict=True)]
    run = functools.partial(derivative, fn)
    alone, _ = recorded(lambda: jax.jit(run).lower(*parts))
    mesh = jax.make_mesh((4, 2), ("d", "m"), axis_types=(kind,) * 2)
    laid = [
        jax.ShapeDtypeStruct(aval.shape, aval.dtype, sharding=NamedSharding(mesh, spec))
        for aval, spec in zip(avals, specs, strict=True)
    ]
    with jax.set_mesh(mesh):
        split, compiled = recorded(lambda: jax.jit(run).lower(*laid).compile())
    assert alone
    assert alone <= split
    assert "all-gather" not in compiled.as_text()
