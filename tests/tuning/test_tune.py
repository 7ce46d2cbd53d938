"""jconv.tune: what takes part, what wins, what is written. Times are made up but where said."""

from __future__ import annotations

import concurrent.futures
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jconv
from jconv.core import Implementation, Operation
from jconv.core.machine import facts
from jconv.core.tuned import read
from jconv.tuning import measure as measuring
from jconv.tuning.file import save
from tests.core.operations import fold, odd_rows


def double(x):
    return x + x


def wrong(x):
    return x * 2.001


def breaks(x):
    raise RuntimeError("no\n memory")


def operation(name, **options):
    rows = (
        Implementation("inline", double, by_name_only=True, inline=True),
        Implementation("named", double, by_name_only=True),
        Implementation("elsewhere", double, platforms=("cuda",)),
        Implementation("even", double, odd_rows),
        Implementation("split", double, split_only=True),
        Implementation("outside", double, here_only=True),
        Implementation("wrong", wrong),
        Implementation("breaks", breaks),
        Implementation("direct", double),
    )
    made = Operation(name, rows, fold=lambda *a, **k: fold(made, *a, **k), **options)
    return made


op, other = operation("tune_double"), operation("tune_other")
x = np.ones((4, 3), np.float32)


class Clock:
    """Compiled programs whose times are made up: seconds per call by implementation, a number or
    one for each round."""

    def __init__(self, times):
        self.times, self.compiled = times, []

    def __call__(self, program, args):
        name = program.keywords["implementation"]
        self.compiled.append((name, args))
        return Ticking(measuring_compiled(program, args), self.times.get(name, 1.0))


class Ticking:
    def __init__(self, compiled, times):
        self.results, self.times, self.asked = compiled.results, times, 0

    def seconds(self, calls):
        self.asked += 1
        if isinstance(self.times, float):
            return calls * self.times
        # The first is the try that warms up.
        return calls * self.times[(self.asked - 2) % len(self.times)]


measuring_compiled = measuring.Compiled


@pytest.fixture
def clock(monkeypatch):
    """Sets the times of implementations."""

    def set_times(**times):
        made = Clock(times)
        monkeypatch.setattr(measuring, "Compiled", made)
        return made

    return set_times


@pytest.fixture
def file(tmp_path):
    return tmp_path / "folder" / "tuned.json"


def tuned(f, *args, **kwargs):
    """The only measurement."""
    ((measurement, _),) = jconv.tune(f, *args, **kwargs).measurements
    return measurement


@pytest.mark.parametrize(
    ("times", "chosen"),
    [
        ({"even": 1.0, "direct": 0.5}, "direct"),
        ({"even": 1.0, "outside": 0.9, "direct": 0.8}, "direct"),
        ({"even": 1.0, "outside": 0.7, "direct": 0.8}, "outside"),
        ({"even": 1.0, "direct": 0.96}, "even"),
        ({"even": 1.0, "direct": 2.0}, "even"),
        ({"even": 1.0, "direct": (0.1, 0.1, 0.1, 1.1, 1.1)}, "even"),
        ({"even": 1.0, "direct": (0.1, 0.1, 0.1, 0.1, 1.1)}, "direct"),
        ({"even": 1.0, "wrong": 0.1, "breaks": 0.1, "split": 0.1, "named": 0.1}, "even"),
    ],
)
def test_the_fastest_if_it_is_clearly_faster(times, chosen, clock, file):
    clock(**({"outside": 1.0, "direct": 1.0} | times))
    found = tuned(op, x, file=file, rounds=5)
    assert (found.call, found.default, found.chosen) == (
        "tune_double(float32[4,3])", "even", chosen
    )  # fmt: skip
    with jconv.tuned(file):
        (choice,) = jconv.explain_choice(op, x)
    assert (choice.implementation, choice.tuned) == (chosen, str(file))


def test_who_takes_part(clock, file):
    made = clock()
    found = tuned(op, x, file=file)
    failures = {c.implementation: c.failure for c in found.contenders}
    assert failures == {
        "even": None, "outside": None, "direct": None, "wrong": "wrong: not what direct gives",
        "breaks": "RuntimeError: no memory",
    }  # fmt: skip
    assert all((c.seconds is None) == (c.failure is not None) for c in found.contenders)
    assert {name for name, _ in made.compiled} == set(failures)


def test_by_name_only_where_it_is_asked_for(clock, file):
    clock(named=0.1)
    assert tuned(op, x, file=file, by_name=True).chosen == "named"
    with jconv.tuned(file):
        (choice,) = jconv.explain_choice(op, x)
    assert choice.implementation == "named"
    assert tuned(op, x, file=file).chosen == "even"
    with jconv.tuned(file):
        (choice,) = jconv.explain_choice(op, x)
    assert choice.implementation == "even"


def test_an_active_file_is_not_the_default(clock, file):
    clock(direct=0.1)
    assert tuned(op, x, file=file).chosen == "direct"
    with jconv.tuned(file):
        assert tuned(op, x, file=file).default == "even"


def test_where_the_definition_fails_nothing_is_chosen(clock, file):
    rows = (Implementation("first", double), Implementation("second", double))
    rows = (*rows, Implementation("direct", lambda x: jnp.zeros_like(x) + breaks_when_run(x)))
    broken = Operation("tune_undefined", rows, fold=lambda *a: None)
    clock(first=1.0, second=0.1)
    found = tuned(broken, x, file=file)
    assert found.chosen == "first"
    assert found.contenders[1].failure == "unchecked: direct failed"


def breaks_when_run(x):
    def fail(x):
        raise RuntimeError("no memory")

    return jax.pure_callback(fail, jax.ShapeDtypeStruct(x.shape, x.dtype), x)


def test_where_the_default_fails_the_fastest_other(clock, file):
    rows = (Implementation("breaks", breaks), Implementation("b", double))
    rows = (*rows, Implementation("direct", double))
    broken = Operation("tune_default_fails", rows, fold=lambda *a: None)
    clock(b=2.0, direct=1.0)
    assert tuned(broken, x, file=file).chosen == "direct"


def test_calls_are_found_wherever_they_are_and_measured_once(clock, file):
    made = clock()

    def f(x):
        y = jax.jit(op)(op(x))
        y, _ = jax.lax.scan(lambda c, _: (other(c), None), y, length=3)
        return other(op(y)[:2]) + other(y, implementation="direct")[:2]

    report = jconv.tune(f, jax.ShapeDtypeStruct((4, 3), jnp.float32), file=file)
    found = [(m.call, count) for m, count in report.measurements]
    assert found == [
        ("tune_double(float32[4,3])", 3),
        ("tune_other(float32[4,3])", 1),
        ("tune_other(float32[2,3])", 1),
    ]
    assert sum(name == "direct" for name, _ in made.compiled) == 3


def test_nothing_to_choose(clock, file):
    clock()
    only = Operation("tune_only", (Implementation("direct", double),), fold=lambda *a: None)
    report = jconv.tune(only, x, file=file)
    ((found, _),) = report.measurements
    assert (found.chosen, found.contenders) == ("direct", ())
    row = str(report).splitlines()[2]
    assert " ".join(row.split()) == "tune_only(float32[4,3]) 1x direct direct nothing to choose"
    assert json.loads(file.read_text())["machines"][0]["calls"] == []
    report = jconv.tune(jnp.sin, x, file=file)
    assert "no call of jconv's operations" in str(report)


@pytest.mark.devices
def test_on_the_device_of_the_arguments(clock, file):
    made = clock()
    device = jax.devices()[3]
    jconv.tune(lambda a, b: op(b), 1, jax.device_put(x, device), file=file)
    assert {d for _, args in made.compiled for arg in args for d in arg.devices()} == {device}


@pytest.mark.devices
def test_inside_shard_map_the_types_of_one_device(clock, file):
    clock(direct=0.1)
    mesh = jax.make_mesh((2,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec("d")
    f = jax.shard_map(op, mesh=mesh, in_specs=spec, out_specs=spec)
    assert tuned(f, x, file=file).call == "tune_double(float32[2,3])"


@pytest.mark.devices
def test_what_is_split_by_its_types_is_left_alone(clock, file):
    clock(direct=0.1)
    mesh = jax.make_mesh((2,), ("d",), axis_types=(jax.sharding.AxisType.Explicit,))
    rows = jax.device_put(x, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("d")))
    assert tuned(op, rows, file=file).contenders == ()


def test_operands_of_the_operations_own(clock, file):
    made = clock()
    given = operation("tune_operands", operands=lambda random, x: [np.full(x.shape, 7, x.dtype)])
    jconv.tune(given, x, file=file)
    for _, (arg,) in made.compiled:
        np.testing.assert_array_equal(arg, np.full_like(x, 7))


def test_keyword_arguments_and_settings(clock, file):
    clock()
    found = tuned(lambda x, *, twice: op(op(x)) if twice else x, x=x, twice=True, file=file)
    assert found.call == "tune_double(float32[4,3])"


# What is written


def calls_of(file):
    machines = json.loads(file.read_text())["machines"]
    return [
        (m["facts"].get("cores"), c["call"], c["implementation"])
        for m in machines
        for c in m["calls"]
    ]


def test_what_is_there_stays(clock, file):
    clock(direct=0.1)
    elsewhere = {"call": "c", "settings": "", "implementation": "i", "by_name": False, "more": [1]}
    save(file, {"cores": "999"}, [elsewhere])
    jconv.tune(op, x, file=file)
    clock(even=0.1)
    jconv.tune(lambda x: other(op(x)), x, file=file)
    cores = facts("cpu")["cores"]
    assert calls_of(file) == [
        ("999", "c", "i"),
        (cores, "tune_double(float32[4,3])", "even"),
        (cores, "tune_other(float32[4,3])", "even"),
    ]
    assert json.loads(file.read_text())["machines"][0]["calls"] == [elsewhere]
    assert [path.name for path in file.parent.iterdir()] == ["tuned.json"]


def test_what_was_measured(clock, file):
    clock(even=0.002, direct=0.001, outside=0.004)
    jconv.tune(op, x, file=file)
    (call,) = json.loads(file.read_text())["machines"][0]["calls"]
    assert call == {
        "call": "tune_double(float32[4,3])", "settings": "", "implementation": "direct",
        "by_name": False,
        "measured": {
            "default": "even", "milliseconds": {"even": 2.0, "outside": 4.0, "direct": 1.0}
        },
    }  # fmt: skip


def test_every_call_is_written_when_it_is_done(clock, file):
    """So that Ctrl-C keeps what was measured."""
    clock()

    def stop(line):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        jconv.tune(lambda x: other(op(x)), x, file=file, log=stop)
    assert [call for _, call, _ in calls_of(file)] == ["tune_double(float32[4,3])"]


def test_a_file_of_others_is_left_as_it_is(clock, file):
    made = clock()
    file.parent.mkdir()
    file.write_text("my notes")
    with pytest.raises(ValueError, match="must be one that"):
        jconv.tune(op, x, file=file)
    assert file.read_text() == "my notes"
    assert not made.compiled


def test_what_cannot_be_written_is_said_first(clock, tmp_path):
    made = clock()
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        jconv.tune(op, x, file=tmp_path / "file" / "tuned.json")
    assert not made.compiled


def test_many_writers_and_readers(tmp_path):
    """Who reads sees a whole file, and all that its last writer measured is in it."""
    file = tmp_path / "tuned.json"

    def write(number):
        mine = []
        for k in range(8):
            call = {"call": f"{number} {k}", "settings": "", "implementation": "i"}
            mine.append(call | {"by_name": False})
            save(file, {"cores": str(number)}, mine)
            read(file)

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    per_writer = [[c for cores, c, _ in calls_of(file) if cores == str(n)] for n in range(4)]
    assert max(map(len, per_writer)) == 8
    assert [path.name for path in tmp_path.iterdir()] == ["tuned.json"]


def test_a_link_is_followed(clock, tmp_path):
    clock()
    target, link = tmp_path / "target.json", tmp_path / "link.json"
    save(target, {}, [])
    link.symlink_to(target)
    jconv.tune(op, x, file=link)
    assert link.is_symlink()
    assert len(calls_of(target)) == 1


def test_the_default_place(clock, tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    clock(direct=0.1)
    report = jconv.tune(op, x)
    assert (report.file.name, report.file.parent.name) in (
        ("tuned.json", "jconv"), ("tuned.json", "Cache")
    )  # fmt: skip
    assert tmp_path in report.file.parents
    with jconv.tuned():
        (choice,) = jconv.explain_choice(op, x)
    assert choice.tuned == str(report.file)


# What is said


def test_report(clock, file):
    clock(even=0.002, direct=0.001, outside=0.004)
    lines = []
    report = jconv.tune(lambda x: op(op(x)), x, file=file, log=lines.append)
    machine, header, row, *failures, last = str(report).splitlines()
    assert f"cores {facts('cpu')['cores']}" in machine
    assert " ".join(header.split()) == "call calls default chosen chosen/default others/default"
    assert " ".join(row.split()) == (
        "tune_double(float32[4,3]) 2x even direct 0.5 (0.5-0.5) outside 2 (2-2), wrong, breaks"
    )
    assert failures == [
        "tune_double(float32[4,3]), wrong: wrong: not what direct gives",
        "tune_double(float32[4,3]), breaks: RuntimeError: no memory",
    ]
    assert last == f"written to {file}"
    (line,) = lines
    assert line.startswith("1/1  tune_double(float32[4,3])  2x  even  direct  0.5 (0.5-0.5)")


def test_rounds(file):
    with pytest.raises(ValueError, match=r"^tune: rounds must be at least 1; got rounds=0$"):
        jconv.tune(op, x, file=file, rounds=0)
    assert not file.exists()
