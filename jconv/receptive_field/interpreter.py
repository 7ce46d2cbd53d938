"""A jaxpr, evaluated on what its values read instead of on numbers.

An abstract value is one of three things: a dependency in the words of a domain (`Affine` or
`Sets`), an array that is known without the input (`Known`), or None: neither. An operation that no
rule knows reads all that its operands read, and its name goes with the result.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from jconv.core.primitive import OPERATIONS
from jconv.receptive_field import loops
from jconv.receptive_field.constants import Known, fold, known
from jconv.receptive_field.rules import RULES
from jconv.receptive_field.rules.call import Call, is_dep
from jconv.receptive_field.rules.pools import WINDOWED

# Operations that run a program of theirs on their operands, and where they keep it.
CALLS = {
    "jit": "jaxpr", "pjit": "jaxpr", "closed_call": "call_jaxpr", "core_call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr", "custom_vjp_call": "call_jaxpr",
    "custom_vjp_call_jaxpr": "fun_jaxpr", "custom_vmap_call": "call", "remat": "jaxpr",
    "remat2": "jaxpr", "checkpoint": "jaxpr", "eval_jaxpr": "call_jaxpr",
    "composite": "jaxpr", "custom_partitioning": "call",
}  # fmt: skip
JAX = str(Path(jax.__file__).parent)
OWN = [str(Path(__file__).parents[1] / part) for part in ("ops", "algorithms")]
LOOPS = {"scan": loops.scan, "while": loops.repeat, "cond": loops.branch}


class Interpreter:
    """Runs programs in a domain."""

    def __init__(self, domain: Any):
        self.domain = domain
        self._inside = 0  # how many of jconv's own definitions are being run

    def run(self, program: Any, args: Sequence[Any]) -> list[Any]:
        """The abstract results of a program on abstract arguments."""
        jaxpr = getattr(program, "jaxpr", program)
        consts = list(getattr(program, "consts", ()))
        if len(consts) != len(jaxpr.constvars):
            consts = [None] * len(jaxpr.constvars)
        env: dict[Any, Any] = {
            var: None if _is_reference(var) else known(const)
            for var, const in zip(jaxpr.constvars, consts, strict=True)
        }
        env.update(zip(jaxpr.invars, args, strict=True))

        def read(var):
            return known(var.val) if hasattr(var, "val") else env.get(var)

        for eqn in jaxpr.eqns:
            ins = [read(var) for var in eqn.invars]
            references = [var for var in eqn.invars if _is_reference(var)]
            if references and any(map(is_dep, ins)):
                # It may write what it reads into any of them.
                kept = [*references, *eqn.outvars]
                held = self.unknown(eqn.primitive.name, ins, [var.aval.shape for var in kept])
                env.update(zip(references, held, strict=False))
                outs = held[len(references) :]
            else:
                outs = self._equation(eqn, ins)
            for var, out in zip(eqn.outvars, outs, strict=True):
                # What has no element reads nothing.
                env[var] = out if out is None or var.aval.size else None
        return [read(var) for var in jaxpr.outvars]

    def _equation(self, eqn: Any, ins: list[Any]) -> Sequence[Any]:
        name = eqn.primitive.name
        if name in CALLS:
            return self.run(eqn.params[CALLS[name]], ins)
        if not any(map(is_dep, ins)):
            if len(eqn.outvars) != 1:
                return [None] * len(eqn.outvars)
            return [fold(name, eqn.params, ins, eqn.outvars[0].aval)]
        if name in LOOPS:
            return LOOPS[name](self, eqn, ins)
        if name == "shard_map":
            return loops.shards(self, eqn, ins)
        if eqn.primitive in OPERATIONS and name not in WINDOWED:
            return self._defined(eqn, ins)
        return self.apply(name, eqn, ins)

    def apply(self, name: str, eqn: Any, ins: list[Any]) -> Sequence[Any]:
        """The results of one operation, by its rule if there is one."""
        shapes = [tuple(var.aval.shape) for var in eqn.invars]
        outs = [tuple(var.aval.shape) for var in eqn.outvars]
        # Inside a definition the branches are its own taps.
        at = None if self._inside else functools.partial(_place, eqn)
        call = Call(name, eqn.params, ins, shapes, outs, at)
        found = RULES[name](self.domain, call) if name in RULES else NotImplemented
        if found is NotImplemented:
            found = self.unknown(name, ins, outs)
        return found if isinstance(found, list) else [found] * len(outs)

    def unknown(self, name: str, ins: Sequence[Any], outs: Sequence[Sequence[int]]) -> list[Any]:
        """Every result reads all that any operand reads."""
        whole = self.everything(ins, name)
        return [self.domain.place(whole, [None] * len(shape), shape) for shape in outs]

    def everything(self, ins: Sequence[Any], name: str | None = None) -> Any:
        """A scalar that reads all that any of these reads."""
        wholes = [self.domain.whole(dep, name) for dep in ins if is_dep(dep)]
        return self.domain.join([self.domain.place(w, (), ()) for w in wholes], (), None)

    def _defined(self, eqn, ins):
        """One of jconv's operations, by the row of its table that defines it."""
        static = tuple((k, v) for k, v in eqn.params.items() if k != "implementation")
        avals = tuple((var.aval.shape, var.aval.dtype) for var in eqn.invars)
        self._inside += 1
        try:
            return self.run(_definition(eqn.primitive, avals, static), ins)
        finally:
            self._inside -= 1


def _is_reference(var: Any) -> bool:
    """Whether a variable is a reference to an array (`jax.new_ref`), which can be written to."""
    return hasattr(var.aval, "inner_aval")


def _place(eqn: Any) -> str | None:
    """Where branches meet, in words; None in code of jconv's own, where they are taps."""
    traceback = eqn.source_info.traceback
    for frame in traceback.frames if traceback else ():
        if any(frame.file_name.startswith(folder) for folder in OWN):
            return None
        if not frame.file_name.startswith(JAX):
            break
    scope = str(eqn.source_info.name_stack)
    return f"{eqn.primitive.name} in {scope}" if scope else eqn.primitive.name


@functools.lru_cache(maxsize=1024)
def _definition(primitive, avals, static):
    body = functools.partial(OPERATIONS[primitive].table[-1].body, **dict(static))
    return jax.make_jaxpr(body)(*(jax.ShapeDtypeStruct(*aval) for aval in avals))


def interpret(domain: Any, program: Any, start: Any) -> list[Any]:
    """The dependency of each result of a traced function, whose first argument `start` describes;
    None reads nothing.
    """
    x, *others = program.jaxpr.invars
    args = [start if x.aval.size else None, *(None for _ in others)]
    found = Interpreter(domain).run(program, args)
    return [None if isinstance(value, Known) else value for value in found]
