"""A program of JAX's, compiled and measured from outside."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import jax


class Compiled:
    """`program(*args)`, compiled when it is made, and run on the same arguments at every call.

    Attributes:
      compile_seconds: tracing, lowering and compiling.
      temporary_bytes: the most that the program needs beside arguments and results, as XLA plans
        it; None where the platform doesn't say.
    """

    def __init__(self, program: Callable[..., Any], args: Sequence[Any]):
        started = time.perf_counter()
        self._run = jax.jit(program).lower(*args).compile()
        self.compile_seconds = time.perf_counter() - started
        self._args = tuple(args)
        memory = self._run.memory_analysis()
        self.temporary_bytes = None if memory is None else int(memory.temp_size_in_bytes)

    def results(self) -> tuple[jax.Array, ...]:
        """What one call returns."""
        return jax.block_until_ready(self._run(*self._args))

    def seconds(self, calls: int) -> float:
        """How long so many calls take, each waited for; results are dropped at once, so that all
        contenders leave the same memory to the allocator."""
        started = time.perf_counter()
        for _ in range(calls):
            jax.block_until_ready(self._run(*self._args))
        return time.perf_counter() - started
