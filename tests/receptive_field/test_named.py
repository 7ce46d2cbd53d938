"""Fields of the values that a program names, wherever in it they are."""

from __future__ import annotations

import jax
import pytest
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from jconv.receptive_field import theoretical
from jconv.receptive_field.named import named_fields
from tests.receptive_field.cases import X, conv


def block(x):
    return checkpoint_name(conv(x), "field_block")


def fields(fn, axes=(1, 2), prefix="field_"):
    return named_fields(jax.make_jaxpr(fn)(X), 0, axes, prefix)


def test_as_of_results():
    def fn(x):
        return checkpoint_name(conv(checkpoint_name(conv(x, stride=2), "field_a")), "field_b")

    found = fields(fn)
    assert list(found) == ["field_a", "field_b"]
    assert found["field_b"] == theoretical(fn, X)
    assert found["field_a"] == theoretical(lambda x: conv(x, stride=2), X)


@pytest.mark.parametrize(
    "wrap", [jax.jit, jax.checkpoint, jax.vmap], ids=["jit", "checkpoint", "vmap"]
)
def test_inside_of_other_programs(wrap):
    given = X if wrap is not jax.vmap else jax.ShapeDtypeStruct((1, *X.shape), X.dtype)
    program = jax.make_jaxpr(wrap(lambda x: block(block(x))))(given)
    axis = 1 if wrap is not jax.vmap else 2
    (found,) = named_fields(program, 0, [axis], "field_").values()
    assert found.size == (5,)  # the wider of two of one name


@pytest.mark.parametrize("turns", [1, 4])
def test_in_every_turn_of_a_loop(turns):
    def fn(x):
        return lax.scan(lambda x, _: (block(x), None), x, length=turns)[0]

    (found,) = fields(fn).values()
    assert found.size == (2 * turns + 1,) * 2


def test_one_axis_may_be_the_wider_at_another_place_than_the_other():
    def fn(x):
        tall = checkpoint_name(conv(x, dilation=(4, 1)), "field_both")
        return tall + checkpoint_name(conv(x, dilation=(1, 3)), "field_both")

    assert fields(fn)["field_both"].size == (9, 7)


def test_other_names_and_what_reads_nothing():
    def fn(x):
        seen = checkpoint_name(conv(x), "other")
        return seen + checkpoint_name(lax.iota("float32", 4), "field_iota")

    found = fields(fn)
    assert list(found) == ["field_iota"]
    assert found["field_iota"].size == (0, 0)
    assert set(fields(fn, prefix="")) == {"other", "field_iota"}
