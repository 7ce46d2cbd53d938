"""What a run shows while it runs: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Self


class Progress:
    """Shows steps done, images per second, time left, loss and accuracy. A context manager.

    Args:
      steps: steps of the whole run.
      done: steps done before.
      log: takes the plain lines, where standard output is no terminal.
      show: False shows nothing at all.
    """

    def __init__(self, steps: int, done: int, *, log: Callable[[str], None], show: bool) -> None:
        self._steps, self._log, self._show = steps, log, show
        self._bar = _bar() if show else None
        if self._bar is not None:
            self._task = self._bar.add_task("train", total=steps, completed=done, values="")

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def step(self, step: int, values: dict[str, Any]) -> None:
        """Moves the bar; lines are for `row`."""
        if self._bar is not None:
            self._bar.update(self._task, completed=step, values=_words(values))

    def row(self, kind: str, step: int, values: dict[str, Any]) -> None:
        """One row of the metrics file, as a line: above the bar only those of evaluations."""
        line = f"{kind:<5} {step:>6}/{self._steps}  {_words(values)}"
        if self._bar is None:
            if self._show:
                self._log(line)
        elif kind == "eval":
            self._bar.console.print(line, highlight=False)


def _bar() -> Any:
    """The bar, or None where standard output is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    console = Console()
    if not console.is_terminal:
        return None
    return Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[values]}"),
        console=console,
    )


def _words(values: dict[str, Any]) -> str:
    shown = {"loss": "loss {:.4f}", "accuracy": "accuracy {:.2%}"}
    shown |= {"images_per_second": "{:,.0f} images/s"}
    return "  ".join(
        form.format(values[name]) for name, form in shown.items() if values.get(name) is not None
    )
