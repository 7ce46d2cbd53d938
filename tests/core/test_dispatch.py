"""Which row of a table runs, and what is said about it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from jconv.core.dispatch import Choice, candidates, choose
from tests.core.operations import scale

TABLE = scale("dispatch_scale").table
EVEN, ODD = (jax.ShapeDtypeStruct((rows, 3), jnp.float32) for rows in (4, 5))


def chosen(shape, platform="cpu", name=None):
    avals = [jax.core.ShapedArray(shape.shape, shape.dtype)]
    return choose("scale", TABLE, avals, {"by": 1}, platform=platform, name=name)


@pytest.mark.parametrize(
    ("shape", "platform", "name", "row"),
    [
        (EVEN, "cpu", None, "even"),
        (ODD, "cpu", None, "always"),
        (EVEN, "cuda", None, "elsewhere"),
        (EVEN, "cpu", "named", "named"),
        (EVEN, "cpu", "always", "always"),
        (EVEN, "any", None, "even"),
    ],
)
def test_first_supported_row(shape, platform, name, row):
    implementation, choice = chosen(shape, platform, name)
    assert implementation.name == choice.implementation == row
    assert choice.requested == name


def test_account_of_what_was_passed_over():
    _, choice = chosen(ODD)
    assert choice == Choice(
        op="scale",
        operands=("float32[5,3]",),
        platform="cpu",
        implementation="always",
        requested=None,
        rejected=(("elsewhere", "only on cuda"), ("even", "only an even number of rows, got 5")),
    )
    assert str(choice) == (
        "scale(float32[5,3]) on cpu: always (first supported row of the table; not elsewhere: "
        "only on cuda; not even: only an even number of rows, got 5)"
    )
    assert (
        str(chosen(ODD, name="named")[1]) == "scale(float32[5,3]) on cpu: named (asked for by name)"
    )


def test_unknown_name():
    message = (
        r"^scale: implementation must be None or one of 'named', 'elsewhere', 'even', 'inline', "
        r"'always'; got 'evne'$"
    )
    with pytest.raises(ValueError, match=message):
        candidates("scale", TABLE, "evne")


@pytest.mark.parametrize(
    ("shape", "name", "reason"),
    [(ODD, "even", "only an even number of rows, got 5"), (EVEN, "elsewhere", "only on cuda")],
)
def test_a_named_row_never_falls_back(shape, name, reason):
    message = rf"^scale: implementation '{name}' can't compute this call: {reason}; got float32\["
    with pytest.raises(NotImplementedError, match=message):
        chosen(shape, name=name)
