"""Who is faster, by how much and how surely: contenders take turns, and ratios are taken per round.

A machine's speed drifts (other work, temperature), so times of different minutes don't compare.
Within a round the contenders run one after the other, the next round begins with another of them,
and what counts is the median of the rounds' ratios, with the 20th and the 80th percentile. Where
that median is not known well, more rounds follow.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, Self

import jax
import numpy as np

ROUNDS = 7
ROUND_SECONDS = 0.02
# Threads of OpenMP, PyTorch's and those of oneDNN, spin for up to 10 ms after a call: on two cores
# whoever came next paid for it, 1.2 ms of 2.6 a call in the worst case.
REST_SECONDS = 0.03
# Calls that take less than this are preceded by one that is not timed: it wakes the threads, and
# finds the memory as who came before left it, which took up to three times as long, while PyTorch
# has a process to itself.
WARM_SECONDS = 0.2
# More rounds, where a median is not known: five times as many, and for a minute, at most.
MORE_ROUNDS, MORE_SECONDS = 5, 60.0
CONFIDENCE = 1.645  # deviations of the normal distribution on either side: 90 %


class Timed(Protocol):
    """What can be timed."""

    def seconds(self, calls: int) -> float:
        """How long so many calls take, until the last result is there."""
        ...


@dataclasses.dataclass(frozen=True)
class Spread:
    """The median of some numbers, and where the middle three fifths of them lie."""

    median: float
    p20: float
    p80: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Self:
        """The spread of one number or more.

        Raises:
          ValueError: no numbers.
        """
        values = list(values)
        if not values:
            raise ValueError("timing: a spread is that of one number or more; got none")
        p20, median, p80 = np.percentile(values, (20, 50, 80))
        return cls(float(median), float(p20), float(p80))


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


def compete(
    contenders: Mapping[str, Timed],
    *,
    rounds: int = ROUNDS,
    round_seconds: float = ROUND_SECONDS,
    rest_seconds: float = REST_SECONDS,
    sure: float = math.inf,
) -> dict[str, list[float]]:
    """Seconds per call of each contender in each round.

    Short calls are preceded by one that is not timed (`WARM_SECONDS`).

    Args:
      rounds: how often each runs, at least.
      round_seconds: a contender repeats its call in a round until it has run for so long.
      rest_seconds: between one contender and the next.
      sure: more rounds follow, up to `MORE_ROUNDS` times as many and for no more than
        `MORE_SECONDS`, until the medians of the first contender's ratios to the others are known
        (`doubt`) to this fraction of themselves.

    Raises:
      ValueError: less than one round.
    """
    if rounds < 1:
        raise ValueError(f"timing: rounds must be at least 1; got rounds={rounds}")
    plans = {name: _plan(timed, round_seconds) for name, timed in contenders.items()}
    found: dict[str, list[float]] = {name: [] for name in contenders}
    order = list(contenders)
    end = math.inf
    for number in range(rounds * MORE_ROUNDS):
        if number == rounds:
            end = time.perf_counter() + MORE_SECONDS
        if number >= rounds and (time.perf_counter() >= end or _known(found, sure)):
            break
        first = number % max(len(order), 1)
        for name in order[first:] + order[:first]:
            timed, (calls, each) = contenders[name], plans[name]
            time.sleep(rest_seconds)
            if each < WARM_SECONDS:
                timed.seconds(1)
            found[name].append(timed.seconds(calls) / calls)
    return found


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """The spread of ours / theirs, round by round."""
    return Spread.of(a / b for a, b in zip(ours, theirs, strict=True))


def doubt(values: Sequence[float]) -> float:
    """How far the median may lie from that of many more values like these, as a fraction of it.

    Half the distance between the values whose ranks hold the median in nine cases of ten (by the
    binomial distribution, as the normal one approximates it); of fewer than five values it is not
    known: infinite.
    """
    n = len(values)
    rank = math.floor((n - CONFIDENCE * math.sqrt(n)) / 2)
    if rank < 0 or n < 5:
        return math.inf
    ordered = sorted(values)
    return (ordered[n - 1 - rank] - ordered[rank]) / 2 / float(np.median(ordered))


def geometric_mean(values: Iterable[float]) -> float:
    """exp(mean(log)): the mean of ratios, which that of the inverse ratios agrees with.

    Raises:
      ValueError: no values.
    """
    values = list(values)
    if not values:
        raise ValueError("timing: a geometric mean is that of one number or more; got none")
    return math.exp(math.fsum(map(math.log, values)) / len(values))


def _known(found, sure):
    """Whether the first contender's ratios to all others are."""
    if sure == math.inf or not found:
        return True
    ours, *others = found.values()
    return all(doubt([a / b for a, b in zip(ours, o, strict=True)]) <= sure for o in others)


def _plan(timed: Timed, least: float) -> tuple[int, float]:
    """How many calls take at least `least` seconds, and how long one takes, from two tries that
    also warm up.
    """
    calls, each = 1, math.inf
    for _ in range(2):
        taken = max(timed.seconds(calls), 1e-9)
        each = taken / calls
        if taken >= least:
            break
        calls = math.ceil(calls * least / taken)
    return calls, each
