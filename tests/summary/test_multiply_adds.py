"""jconv.multiply_adds against counts by hand and against XLA's own."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.experimental import pallas as pl

from jconv.ops import conv, conv_transpose
from jconv.summary.multiply_adds import multiply_adds


def count(fn, *shapes):
    shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    return multiply_adds(jax.make_jaxpr(fn)(*shapes).jaxpr)


def lax_conv(x, w, **kwargs):
    layout = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, w, dimension_numbers=layout, **kwargs)


FULL = 2 * 4 * 4 * 3 * 3 * 6 * 8  # N P Q R S C K

CASES = {
    "dot": (lambda a, b: a @ b, [(2, 3), (3, 4)], 24),
    "batched_dot": (lambda a, b: jnp.einsum("bmk,bkn->bmn", a, b), [(5, 2, 3), (5, 3, 4)], 120),
    "outer": (jnp.outer, [(3,), (4,)], 0),  # a product without a sum is no dot_general
    "conv": (lambda x, w: conv(x, w, stride=2), [(2, 8, 8, 6), (3, 3, 6, 8)], FULL),
    "conv_groups": (
        lambda x, w: conv(x, w, stride=2, groups=2),
        [(2, 8, 8, 6), (3, 3, 3, 8)],
        FULL // 2,
    ),
    "conv_1d": (conv, [(2, 8, 6), (3, 6, 8)], 2 * 8 * 3 * 6 * 8),
    "lax_conv": (
        lambda x, w: lax_conv(x, w, window_strides=(2, 2), padding="SAME"),
        [(2, 8, 8, 6), (3, 3, 6, 8)],
        FULL,
    ),
    "lax_depthwise": (
        lambda x, w: lax_conv(x, w, window_strides=(1, 1), padding="SAME", feature_group_count=6),
        [(1, 5, 5, 6), (3, 3, 1, 6)],
        25 * 9 * 6,
    ),
    "lax_batch_groups": (
        lambda x, w: lax_conv(x, w, window_strides=(1, 1), padding="VALID", batch_group_count=2),
        [(4, 5, 5, 3), (3, 3, 3, 8)],
        2 * 3 * 3 * 9 * 3 * 8,
    ),
    "transposed": (
        lambda y, w: conv_transpose(y, w, stride=2),
        [(2, 4, 4, 8), (3, 3, 6, 8)],
        FULL,
    ),
    "lax_transposed": (
        lambda y, w: lax.conv_transpose(y, w, (2, 2), "SAME"),
        [(2, 4, 4, 8), (3, 3, 8, 6)],
        FULL,
    ),
    "input_dilation": (
        lambda x, w: conv(x, w, input_dilation=2, groups=2),
        [(2, 4, 4, 6), (3, 3, 3, 8)],
        2 * 4 * 4 * 9 * 6 * 4,
    ),
    "jit": (jax.jit(lambda a: a @ a), [(3, 3)], 27),
    "same_jit_twice": (lambda a: SQUARE(SQUARE(a)), [(3, 3)], 54),
    "remat": (jax.checkpoint(lambda a: jnp.sin(a @ a)), [(3, 3)], 27),
    "scan": (
        lambda a: lax.scan(lambda c, _: (c @ a, None), a, None, length=5)[0],
        [(3, 3)],
        5 * 27,
    ),
    "scan_in_scan": (
        lambda a: lax.fori_loop(0, 2, lambda _, b: lax.fori_loop(0, 3, lambda _, c: c @ a, b), a),
        [(3, 3)],
        6 * 27,
    ),
    "while_counts_once": (
        lambda a: lax.while_loop(lambda c: c[0, 0] < 9.0, lambda c: c @ a, a),
        [(3, 3)],
        27,
    ),
    "cond_takes_the_dearest": (
        lambda a: lax.cond(a[0, 0] > 0, lambda a: a @ a @ a, lambda a: a @ a, a),
        [(3, 3)],
        54,
    ),
    "custom_jvp": (lambda a: CUSTOM_JVP(a), [(3, 3)], 27),
    "custom_vjp": (lambda a: CUSTOM_VJP(a), [(3, 3)], 27),
    "gradient": (jax.grad(lambda a: (a @ a).sum()), [(3, 3)], 3 * 27),
    "vmap": (
        jax.vmap(conv, in_axes=(0, None)),
        [(4, 1, 5, 5, 2), (3, 3, 2, 3)],
        4 * 25 * 9 * 2 * 3,
    ),
    "elementwise": (lambda a: jnp.tanh(a) * a + a, [(3, 3)], 0),
}

SQUARE = jax.jit(lambda a: a @ a)
CUSTOM_JVP = jax.custom_jvp(lambda a: a @ a)
CUSTOM_JVP.defjvp(lambda primals, tangents: (primals[0], tangents[0]))
CUSTOM_VJP = jax.custom_vjp(lambda a: a @ a)
CUSTOM_VJP.defvjp(lambda a: (a, None), lambda _, da: (da,))


@pytest.mark.parametrize(("fn", "shapes", "expected"), CASES.values(), ids=CASES)
def test_counts_by_hand(fn, shapes, expected):
    assert count(fn, *shapes) == expected


@pytest.mark.parametrize("kwargs", [{"stride": 2}, {"groups": 2}, {"input_dilation": 2}], ids=str)
def test_gradients_of_a_convolution_cost_what_it_costs(kwargs):
    shapes = [(2, 8, 8, 6), (3, 3, 6 // kwargs.get("groups", 1), 8)]
    forward = count(lambda x, w: conv(x, w, **kwargs), *shapes)
    for argument in (0, 1):
        gradient = jax.grad(lambda x, w: conv(x, w, **kwargs).sum(), argument)
        assert count(gradient, *shapes) == 2 * forward  # the forward pass and one gradient


@pytest.mark.devices
def test_shard_map_counts_every_shard():
    spec = jax.P("data")
    mesh = jax.make_mesh((4,), ("data",), (jax.sharding.AxisType.Auto,))
    square = jax.shard_map(lambda a: a @ a.T, mesh=mesh, in_specs=spec, out_specs=spec)
    assert count(square, (8, 3)) == 4 * (2 * 2 * 3)


def test_pallas_counts_the_grid():
    def kernel(x_ref, y_ref):
        y_ref[...] = x_ref[...] @ x_ref[...]

    block = pl.BlockSpec((4, 4), lambda i: (i, 0))
    call = pl.pallas_call(
        kernel,
        grid=(3,),
        in_specs=[block],
        out_specs=block,
        out_shape=jax.ShapeDtypeStruct((12, 4), jnp.float32),
    )
    assert count(call, (12, 4)) == 3 * 64


@pytest.mark.parametrize(("window", "stride"), [(3, 1), (3, 2), (5, 2)])
def test_xla_counts_twice_as_many_flops(window, stride):
    # VALID, since XLA leaves out the taps that fall into padding.
    shapes = [(2, 16, 16, 8), (window, window, 8, 16)]
    fn = functools.partial(conv, stride=stride, padding="VALID", implementation="direct")
    avals = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    flops = jax.jit(fn).lower(*avals).compile().cost_analysis()["flops"]
    assert flops == pytest.approx(2 * count(fn, *shapes), rel=0.02)
