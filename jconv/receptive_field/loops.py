"""Programs that run other programs: loops, conditionals, and what runs on each device of a mesh."""

from __future__ import annotations

from typing import Any

import numpy as np

from jconv.receptive_field.constants import known
from jconv.receptive_field.rules.call import is_dep

MOST_EQUATIONS = 200_000  # in all turns of one scan, beyond which its carry is taken as whole
PATIENCE = 3  # turns after which a growing dependency is taken as whole


def scan(interpreter: Any, eqn: Any, ins: list[Any]) -> list[Any]:
    """Turn by turn, until nothing changes any more."""
    params, domain = eqn.params, interpreter.domain
    consts, carry, xs = _parts(params["ft_in"], ins)
    if params["length"] * _equations(params["jaxpr"]) > MOST_EQUATIONS:
        return _widened_scan(interpreter, eqn, consts, carry, xs)
    turns = range(params["length"])
    stacked: list[list[Any]] = []
    for t in reversed(turns) if params["reverse"] else turns:
        slices = [_slice(domain, x, t) for x in xs]
        out = interpreter.run(params["jaxpr"], [*consts, *carry, *slices])
        before, carry = carry, out[: len(carry)]
        stacked.append(out[len(carry) :])
        moves = any(domain.varies(x, 0) if is_dep(x) else x is not None for x in xs)
        if not moves and all(map(_same(domain), before, carry)):
            break
    stacked += [stacked[-1]] * (len(turns) - len(stacked)) if stacked else []
    if params["reverse"]:
        stacked.reverse()
    shapes = [var.aval.shape for var in eqn.outvars[len(carry) :]]
    ys = [_stack(domain, [turn[k] for turn in stacked], shape) for k, shape in enumerate(shapes)]
    return [*carry, *ys]


def repeat(interpreter: Any, eqn: Any, ins: list[Any]) -> list[Any]:
    """A while loop: any number of turns, and what decides on them is read by all results."""
    params = eqn.params
    a, b = params["cond_nconsts"], params["cond_nconsts"] + params["body_nconsts"]
    shapes = [var.aval.shape for var in eqn.outvars]

    def turn(carry):
        return interpreter.run(params["body_jaxpr"], [*ins[a:b], *carry])

    carry = _fixpoint(interpreter, turn, ins[b:], shapes, "while")
    (goes_on,) = interpreter.run(params["cond_jaxpr"], [*ins[:a], *carry])
    return [_also(interpreter, out, goes_on, s) for out, s in zip(carry, shapes, strict=True)]


def branch(interpreter: Any, eqn: Any, ins: list[Any]) -> list[Any]:
    """A conditional: any of its branches, and what decides on them."""
    which, *operands = ins
    shapes = [var.aval.shape for var in eqn.outvars]
    branches = eqn.params["branches"]
    if which is not None and not is_dep(which):
        branches = [branches[min(max(int(which.value), 0), len(branches) - 1)]]
    runs = [interpreter.run(program, operands) for program in branches]
    outs = [_either(interpreter.domain, cases, s) for *cases, s in zip(*runs, shapes, strict=True)]
    return [_also(interpreter, out, which, s) for out, s in zip(outs, shapes, strict=True)]


def shards(interpreter: Any, eqn: Any, ins: list[Any]) -> list[Any]:
    """On each device its part: where a dimension is split, its positions become one whole."""
    params, domain = eqn.params, interpreter.domain
    outs = [var.aval.shape for var in eqn.outvars]
    local = [var.aval.shape for var in params["jaxpr"].invars]
    args = []
    for value, var, spec, shape in zip(ins, eqn.invars, params["in_specs"], local, strict=True):
        if is_dep(value):
            value = _unsplit(domain, value, spec, var.aval.shape, shape)
        elif value is not None and shape != var.aval.shape:
            value = None  # another part on each device
        args.append(value)
    results = interpreter.run(params["jaxpr"], args)
    return [
        _unsplit(domain, value, spec, var.aval.shape, out) if is_dep(value) else None
        for value, var, spec, out in zip(
            results, params["jaxpr"].outvars, params["out_specs"], outs, strict=True
        )
    ]


def _unsplit(domain, dep, spec, before, after):
    """dep of one shape as of another, whose extents differ where the spec splits it."""
    split = [d for d, names in enumerate(spec) if names not in (None, ())]
    dep = domain.collapse(dep, split)
    return domain.place(dep, [None if d in split else d for d in range(len(after))], after)


def _widened_scan(interpreter, eqn, consts, carry, xs):
    """A scan of too many turns: as a loop of any number of turns, on all slices at once."""
    domain, params = interpreter.domain, eqn.params
    shapes = [var.aval.shape for var in eqn.outvars]
    slices = [domain.index(domain.collapse(x, [0]), 0, 0) if is_dep(x) else None for x in xs]
    ys: list[Any] = []

    def turn(carry):
        out = interpreter.run(params["jaxpr"], [*consts, *carry, *slices])
        ys[:] = out[len(carry) :]
        return out[: len(carry)]

    count = len(carry)
    carry = _fixpoint(interpreter, turn, carry, shapes[:count], "scan")
    turn(carry)
    places = ([None, *range(len(shape) - 1)] for shape in shapes[count:])
    stacked = [
        domain.place(y, place, shape) if is_dep(y) else None
        for y, place, shape in zip(ys, places, shapes[count:], strict=True)
    ]
    return [*carry, *stacked]


def _fixpoint(interpreter, turn, carry, shapes, name):
    """What any number of turns, none too, can leave in the carry."""
    domain, turns = interpreter.domain, 0
    while True:
        after = turn(carry)
        joined = [_either(domain, cases, s) for *cases, s in zip(carry, after, shapes, strict=True)]
        if turns >= PATIENCE:
            joined = [
                old if _same(domain)(old, new) else _widened(interpreter, new, name, s)
                for old, new, s in zip(carry, joined, shapes, strict=True)
            ]
        if all(map(_same(domain), carry, joined)):
            return carry
        carry, turns = joined, turns + 1


def _widened(interpreter, value, name, shape):
    if not is_dep(value):
        return value
    (out,) = interpreter.unknown(name, [value], [shape])
    return out


def _either(domain, cases, shape):
    """One of several values: None where no input is read, unless all know the same array."""
    deps = [case for case in cases if is_dep(case)]
    if deps:
        return domain.join(deps, shape, None)
    same = all(map(_same(domain), cases[:-1], cases[1:]))
    return cases[0] if same else None


def _also(interpreter, value, decides, shape):
    """A value that is also what something that reads the input decided."""
    if not is_dep(decides):
        return value
    domain = interpreter.domain
    whole = domain.place(interpreter.everything([decides]), [None] * len(shape), shape)
    return _either(domain, [value, whole], shape)


def _same(domain):
    def same(a, b):
        if is_dep(a) and is_dep(b):
            return domain.same(a, b)
        if a is None or b is None or is_dep(a) or is_dep(b):
            return a is b
        return a is b or np.array_equal(a.value, b.value)

    return same


def _slice(domain, x, t):
    if is_dep(x):
        return domain.index(x, 0, t)
    return known(x.value[t]) if x is not None else None


def _stack(domain, slices, shape):
    deps = [s if is_dep(s) else None for s in slices]
    return domain.stack(deps, shape) if any(d is not None for d in deps) else None


def _parts(tree, values):
    """The operands of a scan: what stays, what is carried, what is sliced."""
    parts = [list(part) for part in tree.update(range(len(values))).unpack()]
    return [[values[k] for k in part] for part in parts]


def _equations(program):
    """How many a run of the program goes through, in all turns of the scans in it."""
    total = 0
    for eqn in program.eqns:
        held = (v if isinstance(v, tuple) else (v,) for v in eqn.params.values())
        inner = sum(_equations(v) for vs in held for v in vs if hasattr(v, "eqns"))
        total += 1 + inner * (eqn.params["length"] if eqn.primitive.name == "scan" else 1)
    return total
