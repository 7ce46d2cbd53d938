"""Spreads, ratios and turns on made-up times: no clock is read."""

from __future__ import annotations

import math

import pytest

from jconv import timing
from jconv.timing import Spread, compete, doubt, geometric_mean, ratio


class Fake:
    """Takes `each` seconds per call, and a second more in rounds that something disturbs."""

    def __init__(self, name, each, log, disturbed=()):
        self.name, self.each, self.log, self.disturbed = name, each, log, disturbed

    def seconds(self, calls):
        number = len(self.log)
        self.log.append((self.name, calls))
        return calls * self.each * (100 if number in self.disturbed else 1)


def test_spread():
    assert Spread.of([5.0, 1.0, 2.0, 4.0, 3.0, 6.0]) == Spread(3.5, 2.0, 5.0)
    assert Spread.of([2.0]) == Spread(2.0, 2.0, 2.0)


def test_ratio_is_taken_round_by_round():
    """A machine that is ten times slower in one round changes times, not ratios."""
    assert ratio([1.0, 10.0, 1.0], [2.0, 20.0, 2.0]) == Spread(0.5, 0.5, 0.5)


def test_ratio_of_unequal_rounds():
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        ratio([1.0, 2.0], [1.0])


def test_geometric_mean():
    assert geometric_mean([0.5, 2.0]) == pytest.approx(1.0)
    assert geometric_mean([1.0, 10.0, 100.0]) == pytest.approx(10.0)
    many = [1e-200, 1e-200, 1e200]  # their product is 0
    assert geometric_mean(many) == pytest.approx(10 ** (-200 / 3))


def test_contenders_take_turns():
    log = []
    contenders = {name: Fake(name, 1.0, log) for name in "abc"}
    times = compete(contenders, rounds=4, round_seconds=0.5)
    assert [name for name, _ in log[3:]] == list("abcbcacababc")
    assert times == {name: [1.0] * 4 for name in "abc"}


def test_a_rest_before_every_turn(monkeypatch):
    """The threads of who came before may still spin."""
    log = []
    monkeypatch.setattr(timing.time, "sleep", lambda seconds: log.append(("rest", seconds)))
    compete({name: Fake(name, 1.0, log) for name in "ab"}, rounds=2, rest_seconds=0.5)
    assert [name for name, _ in log[2:]] == ["rest", "a", "rest", "b", "rest", "b", "rest", "a"]
    assert log[2] == ("rest", 0.5)


def test_short_calls_are_repeated():
    log = []
    times = compete({"a": Fake("a", 0.003, log)}, rounds=2, round_seconds=0.02)
    assert log[-4:] == [("a", 1), ("a", 7)] * 2
    assert times["a"] == pytest.approx([0.003] * 2)


def test_slow_first_call_does_not_settle_the_number():
    """The second try, after the warm-up, does: 0.001 s a call, though the first took 0.1."""
    log = []
    compete({"a": Fake("a", 0.001, log, disturbed={0})}, rounds=1, round_seconds=0.2)
    assert log[-1] == ("a", 200)


def test_times_are_per_call():
    log = []
    times = compete({"a": Fake("a", 0.25, log, disturbed={2})}, rounds=3, round_seconds=0.5)
    assert times["a"] == pytest.approx([25.0, 0.25, 0.25])
    assert math.isclose(Spread.of(times["a"]).median, 0.25)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        # Ranks by the binomial distribution: the 2nd and the 6th of 7 hold the median in 112 cases
        # of 128, the 10th and the 19th of 28 in 91 of 100.
        ([1, 2, 3, 4, 5, 6, 7], (6 - 2) / 2 / 4),
        (range(1, 29), (19 - 10) / 2 / 14.5),
        ([4.0] * 9, 0.0),
        ([1, 2, 3, 4], math.inf),
    ],
)
def test_doubt(values, expected):
    assert doubt(list(values)[::-1]) == pytest.approx(expected)


class Noisy:
    """Takes one of `each` seconds after the other."""

    def __init__(self, *each):
        self.each, self.turns = each, 0

    def seconds(self, calls):
        self.turns += 1
        return calls * self.each[self.turns % len(self.each)]


@pytest.mark.parametrize(
    ("sure", "least", "most"), [(math.inf, 7, 7), (0.5, 7, 7), (0.06, 8, 34), (0.0, 35, 35)]
)
def test_more_rounds_until_the_ratios_are_known(sure, least, most):
    """Of ratios of 1 in five rounds of seven the median is soon known, of two in turn never."""
    other = Noisy(1.0, 2.0) if sure == 0 else Noisy(1.0, 1.4, 1.0, 1.0, 1.3, 1.0, 1.0)
    times = compete({"a": Noisy(1.0), "b": other}, sure=sure, rest_seconds=0)
    assert len(times["a"]) == len(times["b"])
    assert least <= len(times["a"]) <= most


def test_what_is_steady_takes_no_more_rounds():
    times = compete({"a": Noisy(1.0), "b": Noisy(2.0)}, sure=0.0, rest_seconds=0)
    assert len(times["a"]) == 7


def test_more_rounds_end_with_their_time(monkeypatch):
    monkeypatch.setattr(timing, "MORE_SECONDS", 0.0)
    assert len(compete({"a": Noisy(1.0), "b": Noisy(1.0, 2.0)}, sure=0.0)["a"]) == 7


def test_no_contenders():
    assert compete({}, sure=0.05) == {}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Spread.of([]), "spread is that of one number or more"),
        (lambda: geometric_mean([]), "geometric mean is that of one number or more"),
        (lambda: compete({}, rounds=0), "rounds must be at least 1; got rounds=0"),
    ],
)
def test_says_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call()
