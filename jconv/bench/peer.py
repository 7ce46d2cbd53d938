"""PyTorch in a process of its own, of its own environment: the other end of `serve.py`."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from jconv.bench import serve

TORCH_PYTHON = Path(".torch/bin/python")  # where docs/contributing.md puts it


class Peer:
    """A process that prepares functions and times them; ends with the `with` block.

    Args:
      python: the interpreter, with whatever `file` imports and NumPy.
      file: the module whose functions are asked for; serve.py says what it must hold.
      threads: how many the functions may use.

    Attributes:
      versions: what `file` says it runs on.

    Raises:
      FileNotFoundError: no such interpreter.
      RuntimeError: `file` can't be loaded, for want of PyTorch for one.
      ConnectionError: the process has ended.
    """

    def __init__(self, python: Path, file: Path, *, threads: int):
        if not python.is_file():
            raise FileNotFoundError(f"bench: no interpreter for PyTorch at {python}")
        self._process = subprocess.Popen(
            [python, serve.__file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        try:
            loaded = self._ask(do="load", file=str(file.resolve()), threads=threads)
        except BaseException:
            self._process.kill()
            self._process.communicate()
            raise
        self.versions: dict[str, str] = loaded["versions"]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self._process.kill()
        self._process.communicate()

    def prepare(
        self, name: str, arguments: Mapping[str, Any], operands: Sequence[np.ndarray] = ()
    ) -> dict[str, np.ndarray]:
        """The results, by name, of one call of the function that `name(operands, **arguments)`
        makes, which `seconds` then times.

        Raises:
          RuntimeError: what the function raised, in words.
          ConnectionError: the process has ended.
        """
        with tempfile.TemporaryDirectory(prefix="jconv-bench-") as folder:
            for number, array in enumerate(operands):
                np.save(Path(folder) / f"operand{number}.npy", array, allow_pickle=False)
            answer = self._ask(do="prepare", name=name, arguments=dict(arguments), folder=folder)
            return {
                result: np.load(Path(folder) / f"result{number}.npy", allow_pickle=False)
                for number, result in enumerate(answer["results"])
            }

    def seconds(self, calls: int) -> float:
        """How long so many calls of the prepared function take.

        Raises:
          RuntimeError, ConnectionError: as `prepare`.
        """
        return float(self._ask(do="time", calls=calls)["seconds"])

    def _ask(self, **request: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # the empty answer says it
        line = self._process.stdout.readline()
        if not line:
            raise ConnectionError(
                f"bench: PyTorch's process ended with exit code {self._process.wait()}"
            )
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer
