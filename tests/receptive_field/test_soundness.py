"""Programs that hide what they read: no result may move with a pixel outside its field."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jconv.receptive_field import exact, theoretical
from jconv.receptive_field.interpreter import Interpreter

X = jax.ShapeDtypeStruct((1, 12, 2), "float32")
LONG = jax.ShapeDtypeStruct((1, 128, 2), "float32")  # as long as bounds need to part
CHANNELS = jax.ShapeDtypeStruct((12, 1, 2), "float32")


def written(x):
    """Through a reference that starts without it."""
    reference = jax.new_ref(jnp.zeros_like(x))
    reference[...] = x[:, ::-1]
    return reference[...]


def written_in_a_loop(x):
    reference = jax.new_ref(jnp.zeros_like(x))

    def turn(i, carry):
        reference[:, i] = x[:, 11 - i]
        return carry

    lax.fori_loop(0, 12, turn, 0)
    return reference[...]


def added_up(halves, reads=np.tril):
    """Sums from each position to the last of its half, or from the first, by a known matrix."""
    return jnp.einsum("nhac,ab->nhbc", halves, reads(np.ones((64, 64), "float32")))


def halves(x):
    return x.reshape(1, 2, 64, 2)


def backwards(x):
    return added_up(halves(x)[:, :, ::-1], np.triu)


def window_of_three(x):
    def turn(carry, row):
        carry = jnp.concatenate([carry[:, 1:], row[:, None]], 1)
        return carry, carry.sum(1)

    _, y = lax.scan(turn, jnp.zeros((1, 3, 2)), jnp.moveaxis(x, 1, 0))
    return jnp.moveaxis(y, 0, 1)


def conv(x, w, **options):
    return lax.conv_general_dilated(
        x, w, (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC"), **options
    )


CASES = {
    "a reference": (written, X),
    "a reference in a loop": (written_in_a_loop, X),
    "a function applied in place": (lambda x: x.at[:, 2:5].apply(jnp.sin), X),
    "a constant put in place": (lambda x: x.at[:, 2:5].apply(lambda v: 1.0), X),
    "sums over halves": (backwards, LONG),
    "the halves turned": (lambda x: jnp.moveaxis(backwards(x), 1, 2), LONG),
    "the halves as one": (lambda x: backwards(x[:, ::-1])[:, ::-1].reshape(x.shape), LONG),
    "halves and their sums": (lambda x: halves(x) + added_up(halves(x)), LONG),
    "the same, moved": (lambda x: jnp.moveaxis(halves(x) + added_up(halves(x)), 1, 2), LONG),
    "a window on what is turned": (lambda x: conv(x[:, ::-1], jnp.ones((4, 2, 2))), X),
    "places picked, in one line": (lambda x: x[:, np.array([4, 0, 11, 2])].reshape(8), X),
    "a window that is carried": (window_of_three, X),
    "a start that the input decides": (
        lambda x: lax.dynamic_slice(
            jnp.ones((1, 9, 2)).cumsum(1), (0, (x[0, 5, 0] > 0).astype(int), 0), (1, 4, 2)
        ),
        X,
    ),
    "a place that the input decides": (
        lambda x: jnp.zeros((12,)).at[(x[0, 5, 0] > 0).astype(int)].set(1.0), X,
    ),
    "put at known places": (
        lambda x: jnp.zeros((1, 20, 2)).at[:, np.arange(12) + 5].set(x), X,
    ),
    "a scan from the end": (
        lambda x: lax.scan(
            lambda c, v: (v, c), jnp.zeros((1, 2)), jnp.moveaxis(x, 1, 0), reverse=True
        )[1],
        X,
    ),
    "a scan of known numbers": (
        lambda x: lax.scan(lambda c, i: (c, jnp.take(x, i, 1)), 0, np.arange(12)[::-1])[1], X,
    ),
    "turns that the input decides": (
        lambda x: lax.while_loop(lambda c: c < x[0, 4, 0], lambda c: c + 1.0, -1.0), X,
    ),
    "a branch that the input decides": (
        lambda x: lax.cond(x[0, 3, 0] > 0, lambda v: v[:, :4], lambda v: v[:, 4:8], x), X,
    ),
    "padding that takes away": (
        lambda x: lax.pad(x, x[0, 0, 0], [(0, 0, 0), (3, -4, 1), (0, 0, 0)]), X,
    ),
    "axes mixed by a reshape": (lambda x: x.reshape(8, 3).T.reshape(6, 4), X),
    "starts that do not fit": (
        lambda x: x.at[:, np.array([-1, 30, 4])].get(mode="clip") + x[:, 9:], X,
    ),
    "starts that are left out": (
        lambda x: x.at[:, np.array([30, 3])].set(x[:, 5:7], mode="drop"), X,
    ),
    "slices of each channel": (
        lambda x: jax.vmap(lambda i, v: lax.dynamic_slice(v, (i,), (3,)))(
            jnp.array([4, 2]), x[0].T
        ),
        X,
    ),
    "groups of examples": (
        lambda x: conv(x, jnp.ones((1, 2, 4)), batch_group_count=4), CHANNELS,
    ),
    "a filter made of the input": (
        lambda x: conv(jnp.ones((1, 7, 4)), x.reshape(3, 2, 4), feature_group_count=2), X,
    ),
    "a maximum over holes": (
        lambda x: lax.reduce_window(
            x, -jnp.inf, lax.max, (1, 3, 1), (1, 2, 1), ((0, 0), (2, 3), (0, 0)), (1, 2, 1),
            (1, 2, 1),
        ),
        X,
    ),
}  # fmt: skip


def moves(fn, x, axis, trials=3):
    """bool (*output, extent of axis): which numbers change with which position, as seen."""
    draw = np.random.default_rng(0)
    fn, seen = jax.jit(fn), None
    for _ in range(trials):
        base, other = draw.standard_normal((2, *x.shape)).astype(x.dtype)
        before = np.asarray(fn(base))
        changed = []
        for j in range(x.shape[axis]):
            at = np.arange(x.shape[axis]).reshape([-1 if d == axis else 1 for d in range(x.ndim)])
            changed.append(np.asarray(fn(np.where(at == j, other, base))) != before)
        seen = np.stack(changed, -1) | (seen if seen is not None else False)
    return seen


@pytest.mark.parametrize("name", CASES)
def test_nothing_that_moves_a_result_is_missed(name):
    fn, x = CASES[name]
    axis = 0 if x is CHANNELS else 1
    seen = moves(fn, x, axis)
    assert seen.any()
    assert not (seen & ~exact(fn, x, axes=axis)[...]).any()
    field = theoretical(fn, x, axes=axis)
    along = field.along[0]
    rows = seen[None] if along is None else np.moveaxis(seen, along, 0)
    for i, row in enumerate(rows):
        at = np.flatnonzero(row.reshape(-1, x.shape[axis]).any(0))
        if len(at):
            (span,) = field.span(i)
            assert span is not None
            assert span[0] <= at[0] <= at[-1] <= span[1]


def test_references_are_named():
    assert set(theoretical(written, X, axes=1).unknown) == {"get", "swap"}
    still = theoretical(lambda x: (x, jax.new_ref(jnp.ones(3))[...]), X, axes=1)
    assert (still[0].size, still[1].size, still[1].unknown) == ((1,), (0,), ())


def test_keys_that_are_closed_over():
    key = jax.random.key(0)
    field = theoretical(
        lambda x: jnp.where(jax.random.bernoulli(key, 0.5, x.shape), x, 0), X, axes=1
    )
    assert (field.size, field.unknown) == ((1,), ())


def test_inside_another_trace():
    """What is closed over may be traced: it is no known constant."""

    @jax.jit
    def outer(scale):
        field = theoretical(lambda x: x[:, jnp.argmax(scale)] * scale[0], X, axes=1)
        return scale * field.size[0]

    assert float(outer(jnp.ones(3))[0]) == 12


def test_loops_in_loops_are_counted(monkeypatch):
    """300 turns of 300 are too many, though neither loop is: a few are followed."""
    applied, apply = [], Interpreter.apply
    monkeypatch.setattr(
        Interpreter, "apply", lambda self, *args: applied.append(args[0]) or apply(self, *args)
    )

    def fn(x):
        def turn(i, carry):
            return lax.fori_loop(0, 300, lambda j, c: c * 2 + i, carry)

        return lax.fori_loop(0, 300, turn, x)

    field = theoretical(fn, X, axes=1)
    assert (field.size, field.unknown) == ((1,), ())
    assert 300 < len(applied) < 10_000


def test_positions_are_picked_as_in_numpy():
    rows = exact(lambda x: x, X, axes=1)[0, np.array([1, 2]), 0]
    assert np.array_equal(rows, np.eye(12, dtype=bool)[1:3])


def test_axes_may_be_numpys_and_examples_none():
    field = theoretical(lambda x: x[:, 1:], X, axes=np.int64(1))
    assert field.offset == (1,)
    none = jax.ShapeDtypeStruct((0, 2, 3), "float32")
    for fields in (theoretical, exact):
        out = fields(lambda x: x.reshape(0, 6).T.sum(1) + x.sum(), none, axes=1)
        assert out.unknown == ()
