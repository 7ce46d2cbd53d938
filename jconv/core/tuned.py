"""Choices that were measured: the files of `jconv.tune`, and the context that follows one.

    {"jconv tuned choices": 1, "machines": [
      {"facts": {"platform": "cpu", "processor": "...", "cores": "2", "jaxlib": "...", ...},
       "calls": [
         {"call": "conv(float32[64,32,32,16], float32[3,3,16,16])",
          "settings": "dtype=float32, ..., window=Window(...)",
          "implementation": "shifted", "by_name": false, "measured": {...}}]}]}

A call is looked up by its operands' types and its static parameters, on a machine with the same
facts. What a file says of anything else is not followed, and `jconv.explain_choice` tells why.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jconv.core.dispatch import Measured
from jconv.core.machine import facts

VERSION = 1
HEADER = "jconv tuned choices"

# Part of the key of JAX's caches: what was compiled outside a context is compiled anew inside.
_following = jax.make_user_context(None)


@dataclasses.dataclass(frozen=True)
class Tuned:
    """A file as it was when it was read; with the same content it is the same to JAX's caches."""

    file: str
    text: str

    @functools.cached_property
    def _by_call(self) -> Mapping[tuple[str, str], Sequence[tuple[dict, dict]]]:
        found: dict[tuple[str, str], list[tuple[dict, dict]]] = {}
        for machine in parse(self.text, self.file):
            for entry in machine["calls"]:
                key = entry["call"], entry["settings"]
                found.setdefault(key, []).append((machine["facts"], entry))
        return found

    def look_up(self, call: tuple[str, str], platform: str) -> Measured | None:
        """What the file says of a call on this machine's `platform`; None where it says nothing.

        Of other machines' choices it gives one, with the reason why it does not hold.
        """
        found = None
        for there, entry in self._by_call.get(call, ()):
            if there.get("platform") == platform:
                reason = _difference(there, facts(platform))
                found = Measured(entry["implementation"], self.file, entry["by_name"], reason)
                if reason is None:
                    break
        return found


@contextlib.contextmanager
def following(tuned: Tuned) -> Iterator[None]:
    """What this thread compiles inside follows the measured choices."""
    with _following(tuned):
        yield


def measured(
    op: str, avals: Sequence[Any], static: Mapping[str, Any], platform: str
) -> Measured | None:
    """What the file that is followed, if one is, says of a call."""
    tuned = _following.value
    return None if tuned is None else tuned.look_up(describe(op, avals, static), platform)


def describe(op: str, avals: Sequence[Any], static: Mapping[str, Any]) -> tuple[str, str]:
    """A call in text, the same in every process: operands and settings."""
    operands = ", ".join(f"{a.dtype.name}[{','.join(map(str, a.shape))}]" for a in avals)
    settings = (f"{name}={_text(value)}" for name, value in sorted(static.items()))
    return f"{op}({operands})", ", ".join(settings)


def read(path: Path) -> Tuned:
    """The file at `path`.

    Raises:
      ValueError: it is none that `jconv.tune` wrote, or one of another version.
      OSError: it can't be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise _broken(str(path), str(error)) from None
    parse(text, str(path))
    return Tuned(str(path), text)


def parse(text: str, file: str) -> list[dict[str, Any]]:
    """The machines in a file's text, each with its "facts" and "calls".

    Raises:
      ValueError: the text is none that `jconv.tune` wrote, or one of another version.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _broken(file, str(error)) from None
    if not isinstance(content, dict) or HEADER not in content:
        raise _broken(file, f"no {HEADER!r}")
    if content[HEADER] != VERSION:
        raise _broken(file, f"version {content[HEADER]!r:.40}")
    machines = content.get("machines")
    if not isinstance(machines, list) or not all(map(_is_machine, machines)):
        raise _broken(file, "machines or calls in another form")
    return machines


def _broken(file: str, what: str) -> ValueError:
    message = f"tuned: the file must be one that jconv.tune wrote, of version {VERSION}"
    return ValueError(f"{message}; got {file}: {what}")


def _is_machine(value: Any) -> bool:
    match value:
        case {"facts": dict(there), "calls": list(calls)}:
            return all(map(_is_text, [*there, *there.values()])) and all(map(_is_call, calls))
    return False


def _is_call(value: Any) -> bool:
    match value:
        case {"call": call, "settings": settings, "implementation": name, "by_name": bool()}:
            return all(map(_is_text, (call, settings, name)))
    return False


def _is_text(value: Any) -> bool:
    """What may be shown to a terminal: a file may come from elsewhere."""
    return isinstance(value, str) and value.isprintable()


def _difference(there: Mapping[str, str], here: Mapping[str, str]) -> str | None:
    for name in (*here, *there):
        if there.get(name) != here.get(name):
            return f"measured with {name} {there.get(name)}, here it is {here.get(name)}"
    return None


def _text(value: Any) -> str:
    return value.name if isinstance(value, np.dtype) else repr(value)
