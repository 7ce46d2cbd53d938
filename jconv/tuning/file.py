"""The file of measured choices: where it lies, how it is written, and how it is followed."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from jconv.core.tuned import HEADER, VERSION, following, parse, read
from jconv.folders import cache_dir


def default_file() -> Path:
    """`tuned.json` in jconv's folder for caches."""
    return cache_dir() / "tuned.json"


@contextlib.contextmanager
def tuned(file: str | os.PathLike[str] | None = None) -> Iterator[None]:
    """Follows the choices that `jconv.tune` measured, in what this thread compiles inside.

        with jconv.tuned():
            state = train_step(state, batch)

    Where the file says nothing of a call on this machine, with these versions, or names what can't
    compute it, the table's choice runs; `jconv.explain_choice` tells why. A choice is made where a
    function is compiled: JAX compiles anew what it knows from outside, and for a gradient that is
    taken outside the table's choice holds. Implementations that are asked for by name, programs
    that XLA splits over several devices, and exported ones are left as they are. The file is read
    once, at the beginning.

    Args:
      file: the path that `jconv.tune` was given.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is none that `jconv.tune` wrote, or one of another version.
    """
    path = default_file() if file is None else Path(file)
    try:
        found = read(path)
    except FileNotFoundError:
        raise FileNotFoundError(
            f"tuned: there must be a file that jconv.tune wrote; got {path}"
        ) from None
    with following(found):
        yield


def save(path: Path, facts: Mapping[str, str], entries: Iterable[Mapping[str, Any]]) -> None:
    """Writes what was measured on a machine into the file, beside what is there.

    The file is replaced as a whole: who reads it meanwhile sees the old or the new one.

    Raises:
      ValueError: there is a file that `jconv.tune` didn't write; it is left as it is.
      OSError: the file can't be written.
    """
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    machines = parse(read(path).text, str(path)) if path.exists() else []
    here = next((machine for machine in machines if machine["facts"] == facts), None)
    if here is None:
        machines.append(here := {"facts": dict(facts), "calls": []})
    calls = {(entry["call"], entry["settings"]): entry for entry in [*here["calls"], *entries]}
    here["calls"] = [calls[key] for key in sorted(calls)]
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with beside.open("x", encoding="utf-8") as out:
            json.dump({HEADER: VERSION, "machines": machines}, out, indent=1, ensure_ascii=False)
            out.write("\n")
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
