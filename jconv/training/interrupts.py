"""Ctrl-C, made orderly: the first finishes the step in progress, the second kills."""

from __future__ import annotations

import os
import signal
import threading
from typing import Self


class Interrupted(KeyboardInterrupt):
    """The run was stopped by Ctrl-C, after a complete step. The message says how to resume.

    Attributes:
      step: the steps that were done.
      saved: whether a checkpoint of that step is on disk.
    """

    def __init__(self, message: str, *, step: int, saved: bool) -> None:
        super().__init__(message)
        self.step, self.saved = step, saved


class Interrupts:
    """While it is entered, the first Ctrl-C sets `requested`, and a second kills the process.

    The handler that was there before comes back on leaving. Outside the main thread, where Python
    lets nobody set handlers, Ctrl-C stays what it was.
    """

    def __init__(self) -> None:
        self.requested = False

    def __enter__(self) -> Self:
        self._active = threading.current_thread() is threading.main_thread()
        if self._active:
            self._old = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        if self._active:
            signal.signal(signal.SIGINT, self._old)

    def _handle(self, *_: object) -> None:
        self.requested = True
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        # Not print: a handler may run in the middle of another print.
        os.write(2, b"\nfinishing this step; Ctrl-C again kills without saving\n")
