"""One call of one operation: every implementation checked, then timed against the others."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jconv.core.dispatch import choose, comparable
from jconv.core.explain import Call
from jconv.core.machine import platform_of
from jconv.core.sharding import explicit_sharding
from jconv.core.tuned import describe
from jconv.timing import Compiled, Spread, compete, ratio

# Four rounds of five must be won by so much: a choice that differs from the table's has to pay.
MARGIN = 0.05
# Results may differ by so many times what rounding explains (tests/tolerance.py): Winograd's forms
# are right, though less exact; a missing tap is wrong.
LENIENCE = 8
# How products of float32 are rounded by default: accelerators take TF32 or bfloat16.
PRODUCTS = {"cpu": 0.0, "cuda": 2.0**-10, "rocm": 2.0**-10, "tpu": 2.0**-8}
FAILURES = (RuntimeError, NotImplementedError, ValueError, TypeError, MemoryError)


@dataclasses.dataclass(frozen=True)
class Contender:
    """An implementation in the race for one call.

    Attributes:
      seconds: per call; None where it failed.
      to_default: its time over that of the table's choice, round by round.
      failure: why it has no time.
    """

    implementation: str
    seconds: Spread | None = None
    to_default: Spread | None = None
    failure: str | None = None


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What was found for one call.

    Attributes:
      call: operation and operands, such as "conv(float32[8,32,32,3], float32[3,3,3,16])".
      settings: its static parameters.
      default: the table's choice.
      chosen: the fastest, if it is clearly faster than the table's choice, which else it is.
      contenders: none where there was nothing to choose.
    """

    call: str
    settings: str
    default: str
    chosen: str
    contenders: tuple[Contender, ...]


def measure(call: Call, device: Any, *, rounds: int, by_name: bool) -> Measurement:
    """Times the implementations that can compute a call on a device.

    Args:
      rounds: how often each runs.
      by_name: those that run by name only take part.

    Raises:
      ValueError: less than one round.
    """
    operation, platform = call.operation, platform_of(device)
    static = {name: value for name, value in call.static.items() if name != "implementation"}
    default, _ = choose(
        operation.name, operation.table, call.avals, static, platform=platform, name=None
    )
    rows = comparable(operation.table, call.avals, static, platform, by_name=by_name)
    about = *describe(operation.name, call.avals, static), default.name
    if rows == [default] or any(explicit_sharding(aval) is not None for aval in call.avals):
        return Measurement(*about, default.name, ())
    args = [jax.device_put(array, device) for array in _operands(call, static)]
    programs = {
        row.name: functools.partial(operation, implementation=row.name, **static) for row in rows
    }
    fit, failures = _fit(programs, operation.table[-1].name, args, PRODUCTS.get(platform, 2.0**-8))
    times = compete(fit, rounds=rounds)
    contenders = [
        Contender(name, failure=failures[name])
        if name in failures
        else Contender(
            name,
            Spread.of(times[name]),
            ratio(times[name], times[default.name]) if default.name in times else None,
        )
        for name in programs
    ]
    return Measurement(*about, _best(contenders, default.name), tuple(contenders))


def _best(contenders: Sequence[Contender], default: str) -> str:
    """Where the table's choice failed, the fastest of the others."""
    medians = {c.implementation: c.seconds.median for c in contenders if c.seconds is not None}
    clear = [c.implementation for c in contenders if c.to_default and _wins(c.to_default)]
    names = clear if default in medians else medians
    return min(names, key=lambda name: medians[name], default=default)


def _wins(to_default: Spread) -> bool:
    return to_default.p80 < 1 - MARGIN


def _fit(
    programs: Mapping[str, Any], direct: str, args: Sequence[Any], products: float
) -> tuple[dict[str, Compiled], dict[str, str]]:
    """The programs that give what the operation's definition gives, compiled; why others don't."""
    fit, failures, right = {}, {}, None
    terms = _terms(programs[direct], args)
    for name in sorted(programs, key=lambda name: name != direct):
        try:
            compiled = Compiled(programs[name], args)
            results = [np.asarray(result) for result in jax.tree.leaves(compiled.results())]
        except FAILURES as error:
            failures[name] = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            continue
        if name == direct:
            right = results
        if right is None:
            failures[name] = f"unchecked: {direct} failed"
        elif _wrong(results, right, terms, products):
            failures[name] = f"wrong: not what {direct} gives"
        else:
            fit[name] = compiled
    return fit, failures


def _terms(program, args) -> float:
    """Operations behind all results together, as XLA counts them; at least the largest operand's
    numbers where it can't."""
    lowered = jax.jit(program).lower(*args)
    flops = (lowered.cost_analysis() or {}).get("flops", 0.0)
    return flops if flops > 0 else max(arg.size for arg in args)


def _wrong(found, right, terms, products) -> bool:
    return any(
        not _agree(a, b, terms / max(b.size, 1), products)
        for a, b in zip(found, right, strict=True)
    )


def _agree(found: np.ndarray, right: np.ndarray, terms: float, products: float) -> bool:
    """Whether results are the same up to the rounding of sums of `terms` random terms."""
    if (found.shape, found.dtype) != (right.shape, right.dtype):
        return False
    if not jnp.issubdtype(right.dtype, jnp.inexact):
        return np.array_equal(found, right)
    stored = float(jnp.finfo(right.dtype).eps)
    summed = min(stored, float(jnp.finfo(jnp.float32).eps))
    wide = np.complex128 if np.iscomplexobj(right) else np.float64
    found, right = found.astype(wide), right.astype(wide)
    finite = np.isfinite(right)
    if not np.array_equal(found[~finite], right[~finite], equal_nan=True):
        return False
    found, right = found[finite], right[finite]
    size, error = (np.abs(a).max(initial=0.0) for a in (right, found - right))
    tolerance = LENIENCE * 4 * summed * max(terms, 1.0) ** 0.5 + 2 * max(stored, products)
    return bool(error <= tolerance * size)  # not of NaN


def _operands(call: Call, static: Mapping[str, Any]) -> Sequence[Any]:
    random = np.random.default_rng(0)
    if call.operation.operands is not None:
        return call.operation.operands(random, *call.avals, **static)
    return [_numbers(random, aval.shape, aval.dtype) for aval in call.avals]


def _numbers(random: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Standard normal; integers are 0 and 1, which all dtypes hold."""
    if not jnp.issubdtype(dtype, jnp.inexact):
        return random.integers(0, 2, shape).astype(dtype)
    numbers = random.standard_normal(shape, np.float32)
    if jnp.issubdtype(dtype, jnp.complexfloating):
        return (numbers + 1j * random.standard_normal(shape, np.float32)).astype(dtype)
    return numbers.astype(dtype)
