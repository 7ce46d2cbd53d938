"""PyTorch's side of the benchmarks: prepares a function, and times it when it is told to.

    python serve.py         runs with PyTorch's interpreter, and imports none of jconv

Every request and every answer is one line of JSON:

    {"do": "load", "file": F, "threads": n}
        -> {"versions": ...}, what `describe(n)` of the module in the file F returns, which also
           sets the number of threads
    {"do": "prepare", "name": N, "arguments": {...}, "folder": D}
        -> {"results": [names]}; calls the module's function N with D/operand0.npy, ... as a list
           of arrays and with the arguments, keeps the function that it returns, calls it once and
           writes what the module's `arrays` makes of its results, arrays by name, to
           D/result0.npy, ...
    {"do": "time", "calls": n}
        -> {"seconds": s}, the time of n calls, and of the module's `wait()` after the last of them
           if it has one, as it must where calls return before they are done

or {"error": text}.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np


def load(file: str):
    """The module in a file."""
    spec = importlib.util.spec_from_file_location("served", file)
    if spec is None or spec.loader is None:
        raise ValueError(f"no module of Python's: {file}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def prepare(module, request: dict):
    """(the function to time, the answer)."""
    folder, operands = Path(request["folder"]), []
    while (path := folder / f"operand{len(operands)}.npy").exists():
        operands.append(np.load(path, allow_pickle=False))
    function = getattr(module, request["name"])(operands, **request["arguments"])
    results = module.arrays(function())
    for number, result in enumerate(results.values()):
        np.save(folder / f"result{number}.npy", result, allow_pickle=False)
    return function, {"results": list(results)}


def seconds(function, calls: int, wait=None) -> float:
    """How long so many calls take, until `wait()` returns."""
    started = time.perf_counter()
    for _ in range(calls):
        function()
    if wait is not None:
        wait()
    return time.perf_counter() - started


def main() -> None:
    """Answers requests until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks
    # Whatever a library prints goes to standard error: standard output is the answers' alone.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    module = function = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if request["do"] == "load":
                module = load(request["file"])
                answer = {"versions": module.describe(request["threads"])}
            elif request["do"] == "prepare":
                function = None  # frees the memory of the one before
                function, answer = prepare(module, request)
            else:
                wait = getattr(module, "wait", None)
                answer = {"seconds": seconds(function, request["calls"], wait)}
        except Exception as error:  # whatever goes wrong here is for the other side to judge
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
