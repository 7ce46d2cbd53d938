"""How a function of arrays becomes a JAX primitive: type, evaluation, lowering and batching.

An operation is a table of implementations. The last row is its definition: it says what the result
looks like (so the type rule can't drift from the code) and runs where nothing better is supported.
Derivative rules stay with the op.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax._src import dispatch  # no public name for it
from jax.core import Tracer
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir

from jconv.core.dispatch import WHOLE, Implementation, Program, candidates, choose, refusal
from jconv.core.machine import platform_of
from jconv.core.parts import in_parts
from jconv.core.sharding import align
from jconv.core.tuned import measured

OPERATIONS: dict[Primitive, Operation] = {}


class Operation:
    """A function of arrays and static parameters: one primitive, computed by a row of its table.

    Args:
      name: the primitive's name in jaxprs.
      table: the implementations, best first; the last supports everything.
      fold: `fold(size, args, mapped, **static)`: the operation on arrays whose mapped axis, of
        length `size`, is axis 0 of those arguments with `mapped` true; returns the result with the
        mapped axis first.
      multiple_results: the bodies return a tuple.
      operands: `operands(random, *avals, **static)`: arrays of these types to measure the rows
        with, for an operation that random numbers don't suit; `random` is a NumPy generator.
    """

    def __init__(
        self,
        name: str,
        table: Sequence[Implementation],
        *,
        fold: Callable[..., Any],
        multiple_results: bool = False,
        operands: Callable[..., Sequence[Any]] | None = None,
    ):
        self.name, self.table, self._fold = name, tuple(table), fold
        self.operands = operands
        self.primitive = Primitive(name)
        self.primitive.multiple_results = multiple_results
        self.primitive.def_abstract_eval(self._type_of)
        self.primitive.def_impl(
            lambda *args, **static: _evaluate(self.primitive, tuple(static.items()), *args)
        )
        batching.primitive_batchers[self.primitive] = self._batch
        mlir.register_lowering(self.primitive, functools.partial(self._lower, platform=None))
        for platform in {p for row in self.table for p in row.platforms or ()}:
            mlir.register_lowering(
                self.primitive, functools.partial(self._lower, platform=platform), platform=platform
            )
        if any(row.parts for row in self.table):
            # Else custom_partitioning finds no devices where the primitive is lowered.
            dispatch.prim_requires_devices_during_lowering.add(self.primitive)
        OPERATIONS[self.primitive] = self

    def __call__(self, *args: Any, implementation: str | None = None, **static: Any) -> Any:
        rows = candidates(self.name, self.table, implementation)
        if implementation is not None:
            avals = [jax.typeof(arg) for arg in args]
            if reason := rows[0].unsupported(*avals, **static):
                raise refusal(self.name, [(implementation, reason)], avals)
            if rows[0].inline:
                return rows[0].body(*args, **static)
        return self.primitive.bind(*align(args), implementation=implementation, **static)

    def offers(self, implementation: str | None) -> str | None:
        """`implementation` where this table has such a row, else None.

        So a gradient inherits the caller's choice.
        """
        return implementation if any(row.name == implementation for row in self.table) else None

    def choose(
        self,
        avals: Sequence[Any],
        platform: str,
        *,
        implementation: str | None,
        program: Program = WHOLE,
        **static: Any,
    ):
        """The row that computes a call on `platform`, and the `Choice` that explains it."""
        return choose(
            self.name, self.table, avals, static,
            platform=platform, name=implementation, program=program,
            measured=measured(self.name, avals, static, platform),
        )  # fmt: skip

    def _type_of(self, *avals, implementation, **static):
        out = jax.make_jaxpr(lambda *args: self.table[-1].body(*args, **static))(*avals).out_avals
        return out if self.primitive.multiple_results else out[0]

    def _lower(self, ctx, *args, platform, implementation, **static):
        platform = platform or _platform(ctx)
        row, _ = self.choose(
            ctx.avals_in, platform, implementation=implementation, program=_program(ctx), **static
        )
        body = functools.partial(row.body, **static)
        if row.parts is not None and _splits(ctx):
            body = functools.partial(in_parts, body, row.parts(*ctx.avals_in, **static))
        return mlir.lower_fun(body, multiple_results=self.primitive.multiple_results)(ctx, *args)

    def _batch(self, args, axes, /, **static):
        mapped = [axis is not None for axis in axes]
        size = next(
            arg.shape[axis] for arg, axis in zip(args, axes, strict=True) if axis is not None
        )
        args = [
            arg if axis is None else jnp.moveaxis(arg, axis, 0)
            for arg, axis in zip(args, axes, strict=True)
        ]
        out = (
            self._fold(size, args, mapped, **static)
            if size
            else self._no_examples(args, mapped, **static)
        )
        return out, [0] * len(out) if self.primitive.multiple_results else 0

    def _no_examples(self, args, mapped, /, **static):
        """The result over a mapped axis of length 0, of which no group or batch can be made."""
        one = [
            jax.ShapeDtypeStruct(a.shape[1:] if m else a.shape, a.dtype)
            for a, m in zip(args, mapped, strict=True)
        ]
        types = jax.eval_shape(functools.partial(self.primitive.bind, **static), *one)
        return jax.tree.map(lambda t: jnp.zeros((0, *t.shape), t.dtype), types)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _evaluate(primitive, static, *args):
    """Evaluation outside jit, compiled once for each type of the arguments.

    Under `jax.disable_jit` and `jax.debug_nans`, which runs a function again without jit to find
    the NaN, this is called with arrays: then the chosen body runs, operation by operation.
    """
    if any(isinstance(arg, Tracer) for arg in args):
        return primitive.bind(*args, **dict(static))
    operation, static = OPERATIONS[primitive], dict(static)
    row, _ = operation.choose([jax.typeof(arg) for arg in args], default_platform(), **static)
    del static["implementation"]
    return row.body(*args, **static)


def default_platform() -> str:
    """Where JAX runs by default, by lowering's names."""
    return platform_of(jax.devices()[0])


def _platform(ctx) -> str:
    """What a rule that is registered for all platforms is lowered for; "any": for several."""
    platforms = ctx.platforms or ctx.module_context.platforms
    return platforms[0] if len(platforms) == 1 else "any"


def _program(ctx) -> Program:
    return Program(_split(ctx), ctx.module_context.lowering_parameters.for_export)


def _split(ctx) -> bool:
    """Whether XLA splits the program over several devices, on some axis of the mesh at least."""
    context = ctx.module_context.axis_context
    if _manual(context):
        return set(context.manual_axes) != set(context.mesh.axis_names)
    return getattr(context, "num_devices", 1) > 1


def _splits(ctx) -> bool:
    """Whether a call can be split further here: not inside a shard_map, whatever is left to XLA."""
    return _split(ctx) and not _manual(ctx.module_context.axis_context)


def _manual(context: Any) -> bool:
    """Inside a shard_map."""
    return hasattr(context, "manual_axes")
