"""A body that XLA can't see into, computed part by part on eight devices."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jconv.core import Implementation, Operation, Parts

pytestmark = pytest.mark.devices
SEEN: list[tuple[int, ...]] = []


def body(x, y, *, across=()):
    """sum over n of x[n, p, c] y[n, c], as an (R=1, C) array, and x doubled."""
    SEEN.append(x.shape)
    total = jnp.sum(x * y[:, None], (0, 1))[None]
    return jax.lax.psum(total, across) if across else total, 2 * x


def unseen(x, y):
    return body(x, y)


def parts(x, y):
    image = ("n", None, "c")
    return Parts((image, ("n", "c")), ((None, "c"), image))


def fold(size, args, mapped):
    raise NotImplementedError


operation = Operation(
    "in_parts",
    (
        Implementation("kernel", body, by_name_only=True, parts=parts),
        Implementation("direct", unseen),
    ),
    fold=fold,
    multiple_results=True,
)
run = jax.jit(lambda x, y: operation(x, y, implementation="kernel"))
X = np.arange(8 * 3 * 4, dtype=np.float32).reshape(8, 3, 4)
Y = np.cos(np.arange(32, dtype=np.float32)).reshape(8, 4)


def devices(kind):
    return jax.make_mesh((4, 2), ("d", "m"), axis_types=(kind,) * 2)


def laid(mesh, *specs):
    return [jax.device_put(a, NamedSharding(mesh, s)) for a, s in zip((X, Y), specs, strict=True)]


LAYOUTS = {
    "examples": (P("d"), P("d"), (2, 3, 4)),
    "channels": (P(None, None, "m"), P(None, "m"), (8, 3, 2)),
    "both": (P("d", None, "m"), P("d", "m"), (2, 3, 2)),
    "over_both_axes": (P(("d", "m")), P(("d", "m")), (1, 3, 4)),
    "one_operand_whole": (P("d"), P(), (2, 3, 4)),
    "what_can_not_be_split": (P(None, None, "m"), P(), (8, 3, 2)),
}


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_each_device_computes_its_part(layout, kind):
    *specs, part = layout
    mesh = devices(kind)
    SEEN.clear()
    with jax.set_mesh(mesh):
        args = laid(mesh, *specs)
        compiled = run.lower(*args).compile()
        results = compiled(*args)
    assert part in SEEN
    for result, expected in zip(results, body(X, Y), strict=True):
        np.testing.assert_allclose(result, expected, rtol=1e-5)
    text = compiled.as_text()
    assert "all-gather" not in text
    split_examples = specs[0][0] is not None if len(specs[0]) else False
    assert len(re.findall(r" all-reduce(?:-start)?\(", text)) == int(split_examples)


def test_inside_shard_map_every_array_is_a_part():
    mesh = devices(AxisType.Auto)
    split = jax.shard_map(
        lambda x, y: run(x, y)[1], mesh=mesh, in_specs=(P("d"), P("d")), out_specs=P("d")
    )
    SEEN.clear()
    np.testing.assert_allclose(jax.jit(split)(X, Y), 2 * X)
    assert (2, 3, 4) in SEEN


def test_on_one_device_the_whole():
    SEEN.clear()
    total, double = run(X, Y)
    np.testing.assert_allclose(double, 2 * X)
    assert set(SEEN) == {X.shape}
    assert total.shape == (1, 4)


def test_axes_are_laid_as_in_the_first_operand_and_no_axis_twice():
    found = Parts((("n", "c"), ("n", "k")), (("c", "k"),))
    where = found.where([P("d", "m"), P("m", "m")])
    assert where == {"n": "d", "c": "m"}
    assert found.across(where) == ("d",)
    assert found.across(found.where([P(("d", "m")), P()])) == ("d", "m")
    assert found.where([P(None, "m"), P("d")]) == {"n": None, "c": "m", "k": None}
