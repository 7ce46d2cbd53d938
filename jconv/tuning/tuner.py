"""The calls of a function, one after the other: measured, written down, reported."""

from __future__ import annotations

import collections
import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jconv.core.explain import Call, calls
from jconv.core.machine import facts, platform_of
from jconv.core.tuned import describe
from jconv.timing import ROUNDS, Spread
from jconv.tuning.file import default_file, save
from jconv.tuning.measure import Measurement, measure
from jconv.window import whole


@dataclasses.dataclass(frozen=True)
class Report:
    """What `jconv.tune` found; print it to read it.

    Attributes:
      file: where the choices are written.
      facts: the machine and the versions that they hold for.
      measurements: one for each distinct call, and how often the function makes it.
    """

    file: Path
    facts: dict[str, str]
    measurements: tuple[tuple[Measurement, int], ...]

    def __str__(self) -> str:
        machine = ", ".join(f"{name} {value}" for name, value in self.facts.items())
        if not self.measurements:
            return f"{machine}\nno call of jconv's operations that leaves the choice to the table"
        cells = [("call", "calls", "default", "chosen", "chosen/default", "others/default")]
        cells += [_cells(measurement, count) for measurement, count in self.measurements]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in cells
        ]
        failures = [
            f"{measurement.call}, {contender.implementation}: {contender.failure}"
            for measurement, _ in self.measurements
            for contender in measurement.contenders
            if contender.failure
        ]
        return "\n".join([machine, *lines, *failures, f"written to {self.file}"])


def tune(
    fn: Callable[..., Any],
    *args: Any,
    file: str | os.PathLike[str] | None = None,
    rounds: int = ROUNDS,
    by_name: bool = False,
    log: Callable[[str], Any] | None = None,
    **kwargs: Any,
) -> Report:
    """Measures which implementation of each operation in `fn(*args)` is fastest, and writes a file.

        report = jconv.tune(train_step, state, batch)
        with jconv.tuned():
            state = train_step(state, batch)

    `fn` is traced, not run: the arguments may be `jax.ShapeDtypeStruct`s. Of each distinct call in
    it, those of gradients too where `fn` takes them, all implementations that the rule could choose
    compute the same random operands, one after the other, in turns, on one device. What the rule
    would choose stays, unless another one takes less than 95 % of its time in four of five rounds
    and gives the same result up to rounding. Calls that name an implementation are left out.

    A call is measured alone. What XLA would fuse with it in `fn` is not seen, nor are the other
    devices of a program that is split over several: inside `jax.shard_map` a call has one device's
    types, and can be tuned. Let nothing else run meanwhile.

    Args:
      kwargs: of `fn`; those that are no arrays are left as they are.
      file: where the choices are written, beside those that are there, after every call; the
        default is `tuned.json` in jconv's folder for caches.
      rounds: how often each implementation runs.
      by_name: implementations that else only run when they are asked for by name take part; they
        may be less accurate.
      log: is told, in one line, of each call when it is done: `print`, for instance.

    Raises:
      ValueError: less than one round, or a file that `jconv.tune` didn't write.
      OSError: the file can't be written.
    """
    rounds = whole(rounds, "rounds", "tune", least=1)
    path = default_file() if file is None else Path(file)
    device = _device((args, kwargs))
    here = facts(platform_of(device))
    save(path, here, [])  # What can't be written is said before anything is measured.
    found = _distinct(calls(fn, args, kwargs))
    done: list[tuple[Measurement, int]] = []
    for call, count in found:
        done.append((measure(call, device, rounds=rounds, by_name=by_name), count))
        save(path, here, [_entry(m, by_name) for m, _ in done if m.contenders])
        if log is not None:
            log(f"{len(done)}/{len(found)}  {'  '.join(filter(None, _cells(*done[-1])))}")
    return Report(path, here, tuple(done))


def _distinct(found: list[Call]) -> list[tuple[Call, int]]:
    """Each call that leaves the choice to the table, and how often it occurs."""
    open_calls = [call for call in found if call.static["implementation"] is None]
    keys = [describe(call.operation.name, call.avals, call.static) for call in open_calls]
    counts = collections.Counter(keys)
    first = dict(zip(reversed(keys), reversed(open_calls), strict=True))
    return [(first[key], count) for key, count in counts.items()]


def _device(args: Any) -> Any:
    """That of the first array among the arguments, or JAX's default."""
    arrays = (leaf for leaf in jax.tree.leaves(args) if isinstance(leaf, jax.Array))
    array = next(arrays, None)
    array = jnp.zeros(()) if array is None else array
    return min(array.sharding.addressable_devices, key=lambda device: device.id)


def _entry(measurement: Measurement, by_name: bool) -> dict[str, Any]:
    times = {
        c.implementation: float(f"{1e3 * c.seconds.median:.4g}")
        for c in measurement.contenders
        if c.seconds is not None
    }
    return {
        "call": measurement.call,
        "settings": measurement.settings,
        "implementation": measurement.chosen,
        "by_name": by_name,
        "measured": {"default": measurement.default, "milliseconds": times},
    }


def _cells(measurement: Measurement, count: int) -> tuple[str, ...]:
    ratios = {c.implementation: _words(c.to_default) for c in measurement.contenders}
    mine = ratios.pop(measurement.chosen, "") if measurement.chosen != measurement.default else ""
    ratios.pop(measurement.default, None)
    others = ", ".join(f"{name} {words}".rstrip() for name, words in ratios.items())
    others = others if measurement.contenders else "nothing to choose"
    default, chosen = measurement.default, measurement.chosen
    return measurement.call, f"{count}x", default, chosen, mine, others


def _words(spread: Spread | None) -> str:
    return "" if spread is None else f"{spread.median:.3g} ({spread.p20:.3g}-{spread.p80:.3g})"
