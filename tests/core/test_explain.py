"""explain_choice: every operation, in order, wherever it hides, and nothing is computed."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

import jconv
from tests.core.operations import scale

first, second = scale("explain_first"), scale("explain_second")
EVEN = jax.ShapeDtypeStruct((4, 3), jnp.float32)


def explained(f, *args, **kwargs):
    return [(c.op, c.implementation) for c in jconv.explain_choice(f, *args, **kwargs)]


def test_in_order_with_reasons():
    choices = jconv.explain_choice(lambda x: second(first(x, by=2)[:3], by=1), EVEN)
    assert [(c.op, c.implementation, c.operands) for c in choices] == [
        ("explain_first", "even", ("float32[4,3]",)),
        ("explain_second", "always", ("float32[3,3]",)),
    ]
    assert ("even", "only an even number of rows, got 3") in choices[1].rejected


def test_for_another_platform():
    found = explained(lambda x: first(x, by=1), EVEN, platform="cuda")
    assert found == [("explain_first", "elsewhere")]


@pytest.mark.parametrize(
    "wrapped",
    [
        jax.jit(lambda x: first(x, by=1)),
        jax.checkpoint(lambda x: first(x, by=1)),
        lambda x: jax.lax.scan(lambda c, _: (first(c, by=1), None), x, length=2)[0],
        lambda x: jax.lax.cond(x[0, 0] > 0, lambda x: first(x, by=1), lambda x: x, x),
        lambda x: jax.lax.while_loop(lambda x: x[0, 0] < 1, lambda x: first(x, by=1), x),
        lambda x: jax.vmap(lambda x: first(x, by=1))(x[None]),
    ],
    ids=["jit", "remat", "scan", "cond", "while", "vmap"],
)
def test_inside_transformations(wrapped):
    assert explained(wrapped, EVEN) == [("explain_first", "even")]


def test_keyword_arguments_and_names():
    def f(x, *, y):
        return first(y, by=1, implementation="named")

    (choice,) = jconv.explain_choice(f, 1, y=EVEN)
    assert (choice.implementation, choice.requested) == ("named", "named")


def test_unknown_platform():
    with pytest.raises(ValueError, match="platform must be one of cpu, cuda, rocm, tpu; got 'gpu'"):
        jconv.explain_choice(lambda x: first(x, by=1), EVEN, platform="gpu")


def test_a_named_row_that_cannot_run_raises():
    with pytest.raises(
        NotImplementedError, match="'elsewhere' can't compute this call: only on cuda"
    ):
        jconv.explain_choice(lambda x: first(x, by=1, implementation="elsewhere"), EVEN)


def test_settings_are_left_as_they_are():
    x, w = jnp.ones((1, 8, 8, 2)), jnp.ones((3, 3, 2, 4))
    (choice,) = jconv.explain_choice(jconv.conv, x, w, stride=2, padding="VALID")
    assert choice.op == "conv"
    (choice,) = jconv.explain_choice(jconv.conv, x, w=w, stride=(1, 2))
    assert "float32[3,3,2,4]" in choice.operands
