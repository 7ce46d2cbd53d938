"""The fields of values inside a program, wherever in it they are: in jit, remat, loops, vmap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jconv.receptive_field.affine import Affine
from jconv.receptive_field.field import ReceptiveField, field, line
from jconv.receptive_field.interpreter import Interpreter
from jconv.receptive_field.rules.call import is_dep


def named_fields(
    program: Any, number: int, axes: Sequence[int], prefix: str = ""
) -> dict[str, ReceptiveField]:
    """The fields of the values that `jax.ad_checkpoint.checkpoint_name` has named in a program.

    The program is a closed jaxpr; its argument `number` is followed along `axes`. Of values that
    have one name, such as one value in the turns of a loop, the widest field is taken, along each
    axis for itself.

    Args:
      prefix: of the names that are wanted.
    """
    shape = program.jaxpr.invars[number].aval.shape
    heard = [_heard(program, number, axis, shape, prefix) for axis in axes]
    found = {}
    for name in dict.fromkeys(name for _, values in heard for name in values):
        values = [deps[name] for _, deps in heard]
        lines = tuple(
            max((line(domain, dep) for dep in deps), key=lambda one: one.size)
            for (domain, _), deps in zip(heard, values, strict=True)
        )
        found[name] = field(lines, [dep for deps in values for dep in deps])
    return found


def _heard(program, number, axis, shape, prefix):
    """What the values of each name read along an axis, each thing once."""
    domain = Affine(shape[axis])
    listener = _Listener(domain, prefix)
    args: list[Any] = [None] * len(program.jaxpr.invars)
    args[number] = domain.start(shape, axis)
    listener.run(program, args)
    return domain, listener.heard


class _Listener(Interpreter):
    """Notes what named values read."""

    def __init__(self, domain: Affine, prefix: str):
        super().__init__(domain)
        self.prefix = prefix
        self.heard: dict[str, list[Any]] = {}

    def _equation(self, eqn: Any, ins: list[Any]) -> Sequence[Any]:
        if eqn.primitive.name == "name" and eqn.params["name"].startswith(self.prefix):
            reads = ins[0] if is_dep(ins[0]) else None
            values = self.heard.setdefault(eqn.params["name"], [])
            if not any(value == reads for value in values):
                values.append(reads)
        return super()._equation(eqn, ins)
