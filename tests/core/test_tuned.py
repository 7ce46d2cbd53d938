"""Measured choices: followed inside the context, nowhere else, and never against the rules."""

from __future__ import annotations

import functools
import json
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jconv
from jconv.core import Implementation, Operation, linear
from jconv.core.machine import facts
from jconv.core.tuned import HEADER, describe
from tests.core.operations import fold, odd_rows, scale

op = scale("tuned_scale")  # "even" times 10, "always" times 1, "named" times 1000
x = np.arange(12, dtype=np.float32).reshape(4, 3)
CALL, SETTINGS = "tuned_scale(float32[4,3])", "by=1"


def entry(implementation, call=CALL, settings=SETTINGS, by_name=False):
    return {
        "call": call, "settings": settings, "implementation": implementation, "by_name": by_name
    }  # fmt: skip


def content(*entries, **other_facts):
    machine = {"facts": facts("cpu") | other_facts, "calls": list(entries)}
    return {HEADER: 1, "machines": [machine]}


@pytest.fixture
def write(tmp_path):
    """A file with these choices, measured here but for `other_facts`."""

    def write(*entries, **other_facts):
        path = tmp_path / "tuned.json"
        path.write_text(json.dumps(content(*entries, **other_facts)))
        return path

    return write


def explained(f, *args, **kwargs):
    (choice,) = jconv.explain_choice(f, *args, **kwargs)
    return choice


scaled = functools.partial(op, by=1)


def loop(x):
    return jax.lax.scan(lambda c, _: (scaled(c), None), x, length=1)[0]


inner = jax.jit(scaled)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: scaled(x),
        jax.jit(lambda x: scaled(x)),
        jax.jit(lambda x: inner(x)),
        lambda x: loop(x),
        jax.jit(lambda x: loop(x)),
        jax.jit(jax.checkpoint(lambda x: scaled(x))),
        lambda x: jax.lax.cond(True, scaled, lambda x: x, x),
        lambda x: jax.vmap(lambda x: scaled(x[None])[0])(x),
    ],
    ids=["eager", "jit", "nested", "scan", "jit_scan", "remat", "cond", "vmap"],
)
def test_followed_inside_and_only_there(f, write):
    """The same function again and again: no compiled program is taken for another's."""
    always, even = write(entry("always")), 10
    for _ in range(2):
        np.testing.assert_array_equal(f(x), x * even)
        with jconv.tuned(always):
            np.testing.assert_array_equal(f(x), x)
    np.testing.assert_array_equal(f(x), x * even)


def test_without_jit(write):
    with jconv.tuned(write(entry("always"))), jax.disable_jit():
        np.testing.assert_array_equal(scaled(x), x)


def test_of_a_gradient(write):
    """The operation on the cotangent is a call of its own."""
    rows = [Implementation("twice", lambda x, *, dtype: x * 2)]
    rows += [Implementation("thrice", lambda x, *, dtype: x * 3)]
    both = Operation("tuned_linear", rows, fold=lambda *a, **k: fold(both, *a, **k))
    linear(both, lambda dy, **static: both(dy, **static))
    call = describe("tuned_linear", [jax.typeof(x)], {"dtype": x.dtype})
    gradient = jax.jit(jax.grad(lambda x: both(x, dtype=x.dtype).sum()))
    np.testing.assert_array_equal(gradient(x), np.full_like(x, 2))
    with jconv.tuned(write(entry("thrice", *call))):
        np.testing.assert_array_equal(gradient(x), np.full_like(x, 3))


def test_the_same_content_is_compiled_once(write):
    traces = []

    @jax.jit
    def f(x):
        traces.append(1)
        return scaled(x)

    for _ in range(3):
        with jconv.tuned(write(entry("always"))):
            f(x)
    assert len(traces) == 1
    with jconv.tuned(write(entry("named", by_name=True))):
        np.testing.assert_array_equal(f(x), x * 1000)


def test_one_inside_another(write):
    always = write(entry("always"))
    with jconv.tuned(always), jconv.tuned(write()):
        np.testing.assert_array_equal(scaled(x), x * 10)


def test_the_thread_that_asks(write):
    found = []
    with jconv.tuned(write(entry("always"))):
        thread = threading.Thread(target=lambda: found.append(np.asarray(scaled(x))))
        thread.start()
        thread.join()
    np.testing.assert_array_equal(found[0], x * 10)


def test_account(write):
    path = write(entry("always"))
    with jconv.tuned(path):
        choice = explained(scaled, x)
    assert (choice.implementation, choice.tuned, choice.rejected) == ("always", str(path), ())
    assert str(choice) == f"tuned_scale(float32[4,3]) on cpu: always (tuned: {path})"


def test_a_name_goes_first(write):
    with jconv.tuned(write(entry("always"))):
        choice = explained(functools.partial(scaled, implementation="even"), x)
        np.testing.assert_array_equal(scaled(x, implementation="even"), x * 10)
    assert (choice.implementation, choice.requested, choice.tuned) == ("even", "even", None)


def test_another_call_is_not_meant(write):
    path = write(entry("always"))
    with jconv.tuned(path):
        for other in (x[:2], x.astype(np.float16)):
            assert explained(scaled, other).rejected[0][0] == "elsewhere"
        assert explained(functools.partial(op, by=2), x).implementation == "even"


@pytest.mark.parametrize(
    ("wrong", "other_facts", "reason"),
    [
        (entry("always"), {"cores": "999"}, "measured with cores 999, here it is "),
        (entry("always"), {"jaxlib": "0.0"}, "measured with jaxlib 0.0, here it is "),
        (entry("always"), {"onednn": "1.0"}, "measured with onednn 1.0, here it is "),
        (entry("always"), {"more": "1"}, "measured with more 1, here it is None"),
        (entry("fastest"), {}, "there is no such implementation"),
        (entry("inline"), {}, "there is no such implementation"),
        (entry("named"), {}, "it is for those who ask for it by name"),
        (entry("elsewhere"), {}, "only on cuda"),
    ],
)
def test_what_does_not_hold_is_not_followed(wrong, other_facts, reason, write):
    path = write(wrong, **other_facts)
    with jconv.tuned(path):
        choice = explained(scaled, x)
        np.testing.assert_array_equal(scaled(x), x * 10)
    (by, why), *_ = choice.rejected
    assert (choice.implementation, choice.tuned, by) == ("even", None, "tuned")
    assert why.startswith(f"{wrong['implementation']} in {path}, but {reason}")
    assert f"not tuned: {wrong['implementation']} in " in str(choice)


def test_what_became_unsupported(write):
    with jconv.tuned(write(entry("even", "tuned_scale(float32[3,3])"))):
        choice = explained(scaled, x[:3])
    assert choice.implementation == "always"
    assert "only an even number of rows, got 3" in choice.rejected[0][1]


def test_by_name_where_it_was_asked_for(write):
    with jconv.tuned(write(entry("named", by_name=True))):
        np.testing.assert_array_equal(scaled(x), x * 1000)


def test_of_several_machines_the_one_that_is_here(tmp_path):
    path = tmp_path / "tuned.json"
    foreign, here = (
        content(entry("named", by_name=True), cores="999"), content(entry("always"))
    )  # fmt: skip
    for machines in (
        foreign["machines"] + here["machines"],
        here["machines"] + foreign["machines"],
    ):
        path.write_text(json.dumps({HEADER: 1, "machines": machines}))
        with jconv.tuned(path):
            assert explained(scaled, x).implementation == "always"


def test_another_platform(write):
    """What a GPU was measured with is not for the CPU; nor, where there is none, for a GPU."""
    with jconv.tuned(write(entry("always"), platform="cuda")):
        assert explained(scaled, x).rejected[0][0] == "elsewhere"
        choice = explained(scaled, x, platform="cuda")
    assert choice.implementation == "elsewhere"
    assert "measured with processor" in choice.rejected[0][1]


def split_only_operation(name):
    rows = [
        Implementation("first", lambda x: x, odd_rows, here_only=True),
        Implementation("split", lambda x: x * 2, split_only=True),
        Implementation("last", lambda x: x * 3),
    ]
    operation = Operation(name, rows, fold=lambda *a, **k: fold(operation, *a, **k))
    return operation


def test_a_row_for_split_programs_stays_there(write):
    operation = split_only_operation("tuned_split_only")
    with jconv.tuned(write(entry("split", "tuned_split_only(float32[4,3])", ""))):
        choice = explained(operation, x)
    assert choice.implementation == "first"
    assert "only where XLA splits" in choice.rejected[0][1]


@pytest.mark.devices
def test_a_program_that_is_split_is_left_alone(write):
    """Its calls' types are those of all devices together; inside shard_map they are one's."""
    operation = split_only_operation("tuned_of_split")
    mesh = jax.make_mesh((2,), ("d",), axis_types=(AxisType.Auto,))
    rows = jax.device_put(np.ones((4, 3), np.float32), NamedSharding(mesh, P("d")))
    both = (
        entry("last", "tuned_of_split(float32[4,3])", ""),
        entry("last", "tuned_of_split(float32[2,3])", ""),
    )
    with jconv.tuned(write(*both)):
        np.testing.assert_array_equal(jax.jit(operation)(rows), rows * 2)
        mapped = jax.shard_map(operation, mesh=mesh, in_specs=P("d"), out_specs=P("d"))
        np.testing.assert_array_equal(jax.jit(mapped)(rows), rows * 3)


def test_an_exported_program_is_left_alone(write):
    with jconv.tuned(write(entry("always"))):
        exported = jax.export.export(jax.jit(scaled))(jax.ShapeDtypeStruct(x.shape, x.dtype))
    np.testing.assert_array_equal(exported.call(x), x * 10)


GOOD = content(entry("always"))
MACHINE = GOOD["machines"][0]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "Expecting value: line 1"),
        (json.dumps(GOOD)[:-5], "Expecting"),
        ("[" * 100_000, "recursion"),
        ("9" * 5000, "digits"),
        ("[]", "no 'jconv tuned choices'"),
        ("{}", "no 'jconv tuned choices'"),
        (json.dumps({**GOOD, HEADER: 2}), "version 2"),
        (json.dumps({**GOOD, HEADER: [1]}), r"version \[1\]"),
        (json.dumps({HEADER: 1}), "another form"),
        *(
            (json.dumps({HEADER: 1, "machines": machines}), "another form")
            for machines in (
                {}, [[]], [{"facts": {}}], [{"facts": [], "calls": []}],
                [{"facts": {"cores": 2}, "calls": []}], [{"facts": {}, "calls": [7]}],
                [{"facts": {}, "calls": [entry("a") | {"by_name": 1}]}],
                [{"facts": {}, "calls": [entry(None)]}],
                [{"facts": {}, "calls": [entry("\x1b[2J")]}],
                [{"facts": {"cores": "\ud800"}, "calls": []}],
            )
        ),
    ],
)  # fmt: skip
def test_a_broken_file(text, what, tmp_path):
    path = tmp_path / "tuned.json"
    path.write_text(text)
    message = rf"^tuned: the file must be one that jconv.tune wrote, of version 1; got .*{what}"
    with pytest.raises(ValueError, match=message), jconv.tuned(path):
        pass
    np.testing.assert_array_equal(scaled(x), x * 10)


def test_a_file_that_is_no_text(tmp_path):
    path = tmp_path / "tuned.json"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"got .*tuned\.json: 'utf-8' codec"), jconv.tuned(path):
        pass


def test_no_file(tmp_path):
    message = r"^tuned: there must be a file that jconv.tune wrote; got .*absent\.json$"
    with pytest.raises(FileNotFoundError, match=message), jconv.tuned(tmp_path / "absent.json"):
        pass
    with pytest.raises(IsADirectoryError), jconv.tuned(tmp_path):
        pass


def test_facts_that_lack_a_platform(tmp_path):
    path = tmp_path / "tuned.json"
    path.write_text(
        json.dumps({HEADER: 1, "machines": [{"facts": {}, "calls": [entry("always")]}]})
    )
    with jconv.tuned(path):
        assert explained(scaled, x).implementation == "even"


def test_a_call_reads_the_same_in_every_process():
    """No address of an object, which differs from run to run, is part of it."""

    def f(x, w):
        y = jconv.max_pool(jconv.conv(x, w, precision="highest"), 2)
        return jconv.resize(jconv.layer_norm(y), (5, 5)).sum()

    image, w = jnp.ones((2, 8, 8, 3)), jnp.ones((3, 3, 3, 4))
    for call in jconv.core.explain.calls(jax.grad(f, (0, 1)), (image, w), {}):
        assert " at 0x" not in describe(call.operation.name, call.avals, call.static)[1]
    assert describe("conv", [jax.typeof(image)], {"dtype": image.dtype, "by": (1, None)}) == (
        "conv(float32[2,8,8,3])",
        "by=(1, None), dtype=float32",
    )
