"""Winograd's tiles with oneDNN's products against the definition, in float64."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from jconv_kernels import onednn
from jconv_kernels.onednn.library import ask

import jconv
from tests.kernels.onednn.calls import calls, each_of, needs_onednn, static_of
from tests.ops.conv_cases import Case
from tests.tolerance import assert_close

pytestmark = needs_onednn
PLAIN = Case(x=(2, 6, 8, 16), window=(3, 3), k=24, padding=((1, 1), (1, 1)))
CASES = {
    "plain": PLAIN,
    "odd_sizes": Case(x=(3, 7, 5, 17), window=(3, 3), k=33, padding=((1, 1), (1, 1))),
    "no_padding": Case(x=(2, 5, 4, 3), window=(3, 3), k=1),
    "one_pixel": Case(x=(1, 3, 3, 8), window=(3, 3), k=8),
    "much_padding": Case(x=(1, 2, 3, 5), window=(3, 3), k=4, padding=((4, 0), (1, 5))),
    "several_spans": Case(x=(2, 6, 6, 512), window=(3, 3), k=32),
    "several_spans_back": Case(x=(2, 6, 6, 32), window=(3, 3), k=512),
    "several_products": Case(x=(3, 15, 17, 16), window=(3, 3), k=16, padding=((1, 1), (1, 1))),
}


def scaled_error(actual, expected):
    return np.max(np.abs(actual - expected)) / np.max(np.abs(expected))


@each_of(CASES, *CASES)
def test_matches_definition(case, key):
    for name, call in calls(case, key, "float32", "winograd").items():
        assert call.refused is None, name
        run = jax.jit(call.run)
        result = run(*call.operands)
        assert_close(result, call.expected, terms=call.terms)
        # Nothing is left over from what was in the scratch memory before.
        run(*(jnp.full_like(operand, jnp.nan) for operand in call.operands))
        np.testing.assert_array_equal(run(*call.operands), result)


@pytest.mark.parametrize("channels", [128, pytest.param(512, marks=pytest.mark.slow)])
def test_rounding_is_that_of_the_direct_form(channels, key):
    """Of as many channels as the tables give to it."""
    case = dataclasses.replace(PLAIN, x=(2, 12, 12, channels), k=channels)
    x, w = case.arrays(key, "float32")
    tiles = calls(case, key, "float32", "winograd")
    dy = tiles["filter_grad"].operands[1]

    @jax.jit
    def direct(x, w, dy):
        y, vjp = jax.vjp(lambda *a: jconv.conv(*a, padding=1, implementation="direct"), x, w)
        return y, *vjp(dy)

    for (name, call), other in zip(tiles.items(), direct(x, w, dy), strict=True):
        error = scaled_error(jax.jit(call.run)(*call.operands), call.expected)
        assert error <= 2 * scaled_error(other, call.expected), name


@pytest.mark.parametrize("axis", [0, 1])
def test_vmap(axis, key):
    for name, call in calls(PLAIN, key, "float32", "winograd").items():
        first, second = call.operands
        both = jnp.stack([first, 2 * first], axis)
        mapped = jax.jit(jax.vmap(call.run, (axis, None)))(both, second)
        one = jax.jit(call.run)(first, second)
        np.testing.assert_array_equal(mapped[0], one, name)
        np.testing.assert_allclose(mapped[1], 2 * one, rtol=1e-5, atol=1e-5)


def test_inside_scan(key):
    call = calls(CASES["several_products"], key, "float32", "winograd")["filter_grad"]
    x, dy = call.operands
    step = lambda total, dy: (total + call.run(x, dy), None)  # noqa: E731
    total, _ = jax.jit(functools.partial(jax.lax.scan, step))(
        jnp.zeros(call.expected.shape), jnp.stack([dy, -dy, dy])
    )
    assert_close(total, call.expected, terms=3 * call.terms)


def test_the_table_gives_it_large_calls(key):
    """And differentiates through it, twice."""
    x, w = jnp.ones((4, 32, 32, 64)), jnp.ones((3, 3, 64, 64))
    loss = lambda x, w: jnp.sum(jconv.conv(x, w, padding="SAME") ** 2)  # noqa: E731
    chosen = {c.implementation for c in jconv.explain_choice(jax.grad(loss, (0, 1)), x, w)}
    assert chosen == {"onednn_winograd"}
    few = {c.implementation for c in jconv.explain_choice(loss, x[:1, :8, :8], w)}
    assert few == {"onednn"}
    by_name = functools.partial(jconv.conv, padding="SAME", implementation="onednn_winograd")
    small, v = jax.random.normal(key, (1, 5, 4, 6)), jax.random.normal(key, (3, 3, 6, 5))
    check_grads(by_name, (small, v), 2, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize(("side", "name"), [(1, "onednn"), (3, "onednn"), (5, "onednn_winograd")])
def test_the_table_wants_tiles_that_are_filled(side, name):
    x, w = jnp.ones((512, side, side, 64)), jnp.ones((3, 3, 64, 64))
    (chosen,) = jconv.explain_choice(lambda x, w: jconv.conv(x, w, padding="SAME"), x, w)
    assert chosen.implementation == name


def test_the_table_wants_spans_of_equal_length():
    w = jnp.ones((3, 3, 257, 64))
    (chosen,) = jconv.explain_choice(
        lambda x, w: jconv.conv(x, w, padding="SAME"), jnp.ones((8, 16, 16, 257)), w
    )
    reason = dict(chosen.rejected)["onednn_winograd"]
    assert reason == "less exact for channels not in equal parts of at most 256"


def test_sizes_beyond_int32():
    """Refused before anything multiplies them in 64 bits."""
    x, w = jax.ShapeDtypeStruct((1, 1, 1, 64), "float32"), jnp.ones((3, 3, 64, 64))
    conv = functools.partial(jconv.conv, padding=((0, 2**33), (0, 2**33)))
    (chosen,) = jconv.explain_choice(conv, x, w)
    reason = dict(chosen.rejected)["onednn_winograd"]
    assert reason == "only arrays of fewer than 2**31 elements"
    wide, shapes = 2**33, (1, 1, 1, 64, 3, 3, 64, 64)
    with pytest.raises(NotImplementedError, match="arrays must have fewer than"):
        ask("winograd", 0, 0, 0, *shapes, 1, wide, wide, 64, 0, 0)
    with pytest.raises(NotImplementedError, match="lo must be within int32"):
        ask("winograd", 0, 0, 0, *shapes, 1, 1, 1, 64, -(2**63), 0)


REFUSED = {
    "only filters of 3x3": {"window": (3, 5)},
    "only stride": {"stride": (2, 1)},
    "not with input_dilation": {"input_dilation": (1, 2)},
    "groups of 1": {"groups": 2},
}


@pytest.mark.parametrize(("reason", "change"), REFUSED.items())
def test_refuses(reason, change, key):
    for call in calls(dataclasses.replace(PLAIN, **change), key, "float32", "winograd").values():
        assert reason in call.refused


def test_refuses_other_dtypes_and_sums(key):
    for call in calls(PLAIN, key, "bfloat16", "winograd").values():
        assert call.refused == "only float32, got bfloat16"
    x, w = PLAIN.arrays(key, "float32")
    static = {**static_of(PLAIN, "float32"), "precision": jax.lax.DotAlgorithmPreset.F32_F32_F32}
    assert "can't be chosen" in onednn.winograd_forward_unsupported(x, w, **static)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((2, 6, 8, 16), (3, 3, 15, 24), (2, 6, 8, 24)), "w must have the channels of x and y"),
        (((2, 6, 8, 16), (3, 5, 16, 24), (2, 6, 8, 24)), "w must have 3x3 taps"),
        (((3, 6, 8, 16), (3, 3, 16, 24), (2, 6, 8, 24)), "the same examples"),
        (((2, 6, 8), (3, 3, 16, 24), (2, 6, 8, 24)), "must have two spatial axes"),
    ],
)
def test_the_handler_refuses_what_does_not_fit(shapes, message):
    x, w, y = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes)
    scratch = jax.ShapeDtypeStruct((64,), np.uint8)
    call = jax.ffi.ffi_call("jconv_onednn_winograd", (y, scratch))
    run = jax.jit(lambda x, w: call(x, w, lo=np.zeros(2, np.int64), transposed=np.bool(False))[0])
    with pytest.raises(jax.errors.JaxRuntimeError, match=f"winograd: .*{message}"):
        jax.block_until_ready(run(jnp.zeros(x.shape), jnp.zeros(w.shape)))
