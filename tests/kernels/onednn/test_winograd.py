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


def test_rounding_is_that_of_the_direct_form(key):
    """Of 128 channels, which the tables give to it."""
    case = dataclasses.replace(PLAIN, x=(4, 12, 12, 128), k=128)
    tiles, direct = (calls(case, key, "float32", body) for body in ("winograd", "conv"))
    for name, call in tiles.items():
        error = scaled_error(jax.jit(call.run)(*call.operands), call.expected)
        other = direct[name]
        assert error <= 2 * scaled_error(jax.jit(other.run)(*other.operands), other.expected), name


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
