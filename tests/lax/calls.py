"""Drawn calls of jax.lax's convolution functions, and everything that follows from one call.

Operands hold small whole numbers, so that every sum is exact in float32 and results must be equal,
not close.
"""

from __future__ import annotations

import dataclasses
import re
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import reject, settings
from hypothesis import strategies as st
from jax import lax

import jconv.lax

# Drawn calls per test: 8, and 80 with --hypothesis-profile=thorough. Each compiles two programs.
few = settings(max_examples=settings.default.max_examples // 25)


@dataclasses.dataclass(frozen=True)
class Call:
    """`name(*operands, **options)`, of jax.lax or of its twin."""

    name: str
    shapes: tuple[tuple[int, ...], ...]
    options: dict[str, Any]
    dtype: str = "float32"

    def operands(self) -> tuple[jax.Array, ...]:
        random = np.random.default_rng(0)
        arrays = [random.integers(-2, 3, shape) for shape in self.shapes]
        if self.dtype.startswith("complex"):
            arrays = [a + 1j * random.integers(-2, 3, a.shape) for a in arrays]
        return tuple(jnp.asarray(a.astype(jnp.dtype(self.dtype))) for a in arrays)

    def of(self, library: ModuleType):
        function = getattr(library, self.name)
        return lambda *operands: function(*operands, **self.options)

    def ends_the_process(self) -> bool:
        """Whether XLA's CPU compiler may abort on jax.lax's formulation (see `_aborts_xla`)."""
        try:
            jaxpr = jax.make_jaxpr(self.of(jconv.lax))(*self.operands()).jaxpr
        except (TypeError, ValueError, RuntimeError):
            return False
        w = next(eqn.params["window"] for eqn in jaxpr.eqns if eqn.primitive.name == "conv")
        convolutions = (
            (w.input_dilation, w.size, w.stride, w.pads),
            (w.stride, w.size, w.input_dilation, w.input_grad_pads),
            (w.input_dilation, w.output, w.dilation, w.filter_grad_pads),
        )
        return any(
            d == r > 1 and s == 1 and tuple(pad) == (0, 0)
            for convolution in convolutions
            for d, r, s, pad in zip(*convolution, strict=True)
        )


def everything(f, operands):
    """The value, its derivatives in both modes, and vmap over each operand and over all."""
    y, vjp = jax.vjp(f, *operands)
    stacked = [jnp.stack([a, -a]) for a in operands]
    results = {
        "y": y,
        "vjp": vjp(ramp(y)),
        "jvp": jax.jvp(f, operands, tuple(map(ramp, operands)))[1],
        "vmap": jax.vmap(f)(*stacked),
        "vmap_of_vjp": jax.vmap(lambda *a: jax.vjp(f, *a)[1](ramp(y)))(*stacked),
    }
    for i in range(len(operands)):
        axes = [0 if j == i else None for j in range(len(operands))]
        mixed = [stacked[j] if j == i else operands[j] for j in range(len(operands))]
        results[f"vmap_{i}"] = jax.vmap(f, axes)(*mixed)
    return results


def primitives(f, *args) -> set[str]:
    """The names of all primitives in the jaxpr of a call, inner jaxprs too."""
    return set(re.findall(r"= (\w+)\[", str(jax.make_jaxpr(f)(*args))))


def ramp(a):
    """Small whole numbers of the type of `a`: tangents and cotangents."""
    return (jnp.arange(a.size) % 5 - 2).astype(a.dtype).reshape(a.shape)


def outcome(call: Call, library: ModuleType):
    """What becomes of a call: the results' types and values, or the type of the error."""
    operands = call.operands()
    try:
        results = jax.jit(lambda *a: everything(call.of(library), a))(*operands)
    except (TypeError, ValueError, RuntimeError, NotImplementedError) as error:
        return type(error)
    return jax.tree.map(lambda a: (str(jax.typeof(a)), np.asarray(a).tolist()), results)


@st.composite
def convolutions(draw):
    """Calls of conv_general_dilated with every argument drawn; a few of them are refused."""
    letters = "HWD"[: draw(st.integers(0, 3))]
    batch_groups = draw(st.sampled_from([1, 1, 1, 2]))
    groups = 1 if batch_groups > 1 else draw(st.sampled_from([1, 2, 3]))
    c, k = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    sizes = {letter: draw(st.integers(0, 5)) for letter in letters}
    lhs = {"N": draw(st.integers(0, 2)) * batch_groups, "C": c * groups, **sizes}
    taps = {letter: draw(st.integers(1, 3)) for letter in letters}
    rhs = {"O": k * groups * batch_groups, "I": c, **taps}
    specs = draw(dimension_numbers(letters))
    shapes = [
        tuple(sizes[letter] for letter in spec)
        for sizes, spec in zip((lhs, rhs), specs or ("NC" + letters, "OI" + letters), strict=False)
    ]
    options = {**draw(windows(len(letters))), "dimension_numbers": specs}
    if specs and draw(st.booleans()):
        options["dimension_numbers"] = lax.conv_dimension_numbers(*shapes, specs)
    if groups > 1:
        options["feature_group_count"] = groups
    if batch_groups > 1:
        options["batch_group_count"] = batch_groups
    return Call("conv_general_dilated", tuple(shapes), options)


@st.composite
def dimension_numbers(draw, letters):
    """None, or three permutations, in a tuple or a list."""
    if draw(st.booleans()):
        return None
    specs = ["".join(draw(st.permutations([*two, *letters]))) for two in ("NC", "OI", "NC")]
    return specs if draw(st.booleans()) else tuple(specs)


@st.composite
def windows(draw, axes):
    """Strides, padding and dilations."""

    def each(low, high):
        return draw(st.lists(st.integers(low, high), min_size=axes, max_size=axes))

    words = ["SAME", "VALID", "SAME_LOWER", "same"]
    options = {
        "window_strides": each(1, 3),
        "padding": draw(st.sampled_from([*words, None, None, None, None])),
        "lhs_dilation": each(1, 3) if draw(st.booleans()) else None,
        "rhs_dilation": tuple(each(1, 2)) if draw(st.booleans()) else None,
    }
    if options["padding"] is None:
        options["padding"] = list(zip(each(-1, 3), each(-1, 3), strict=True))
    return options


@st.composite
def transposed(draw):
    """Calls of conv_transpose."""
    letters = "HWD"[: draw(st.integers(1, 2))]
    axes = len(letters)
    c, k = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    flip = draw(st.booleans())
    spatial = [draw(st.integers(1, 4)) for _ in letters]
    window = [draw(st.integers(1, 3)) for _ in letters]
    pads = [(draw(st.integers(0, 2)), draw(st.integers(0, 2))) for _ in letters]
    options = {
        "strides": [draw(st.integers(1, 3)) for _ in letters],
        "padding": draw(st.sampled_from(["SAME", "VALID", pads])),
        "rhs_dilation": draw(st.sampled_from([None, (1,) * axes, (2,) * axes])),
        "transpose_kernel": flip,
        "use_consistent_padding": draw(st.booleans()),
    }
    channels = (k, c) if flip else (c, k)
    return Call("conv_transpose", ((2, *spatial, c), (*window, *channels)), options)


@st.composite
def patches(draw, local=False):
    """Calls of conv_general_dilated_patches, or of conv_general_dilated_local."""
    letters = "HW"[: draw(st.integers(1, 2))]
    c = draw(st.integers(1, 2))
    window = [draw(st.integers(1, 3)) for _ in letters]
    specs = draw(dimension_numbers(letters)) or ("NC" + letters, "OI" + letters, "NC" + letters)
    lhs = {"N": 2, "C": c, **{letter: draw(st.integers(1, 4)) for letter in letters}}
    shape = tuple(lhs[letter] for letter in specs[0])
    # filter_shape and strides follow the order of the letters in the filter's spec.
    options = {
        **draw(windows(len(letters))), "filter_shape": window, "dimension_numbers": tuple(specs),
    }  # fmt: skip
    if not local:
        return Call("conv_general_dilated_patches", (shape,), options)
    unfold = Call("conv_general_dilated_patches", (shape,), options)
    try:
        out = jax.eval_shape(unfold.of(lax), *unfold.operands())
    except ValueError:
        reject()
    size = dict(zip(specs[2], out.shape, strict=True))
    rhs = {**size, "O": 3, "I": c * int(np.prod(window))}
    filter = tuple(rhs[letter] for letter in specs[1])
    return Call("conv_general_dilated_local", (shape, filter), options)
