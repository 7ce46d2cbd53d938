"""The filter gradient of depthwise convolutions, a loop of our own, in every part that it has."""

from __future__ import annotations

import functools
import hashlib
import os
import random
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jconv_kernels import onednn
from jconv_kernels.onednn import depthwise

import jconv
from jconv.window import Window
from tests.kernels.onednn.calls import needs_onednn, static_of, window_of
from tests.ops.conv_cases import Case
from tests.oracles import conv as oracle
from tests.tolerance import assert_close

pytestmark = needs_onednn


def depthwise_case(x, window, **options):
    return Case(x=x, window=window, k=x[-1], groups=x[-1], **options)


CASES = {
    "one_channel": depthwise_case((2, 6, 5, 1), (3, 3)),
    "three_channels": depthwise_case((2, 6, 5, 3), (3, 2)),
    "one_strip": depthwise_case((2, 7, 6, 16), (5, 5)),
    "strips_overlap": depthwise_case((2, 7, 6, 17), (5, 5)),
    "strips_overlap_in_the_second_block": depthwise_case((1, 7, 6, 49), (4, 2)),
    "blocks_and_a_strip": depthwise_case((3, 8, 9, 240), (5, 5)),
    "a_block": depthwise_case((2, 9, 8, 32), (7, 7)),
    "one_pixel_of_the_window": depthwise_case((2, 5, 6, 40), (1, 1), stride=(1, 2)),
    "one_row_of_the_window": depthwise_case((2, 5, 6, 40), (1, 6), padding=2),
    "one_column_of_the_window": depthwise_case((2, 9, 6, 40), (5, 1), stride=(2, 3)),
    "taps_in_two_loops": depthwise_case((1, 14, 13, 20), (11, 11)),
    "taps_in_three_loops": depthwise_case((1, 3, 13, 20), (3, 15)),
    "strides": depthwise_case((2, 13, 12, 33), (5, 4), stride=(3, 2)),
    "stride_over_pixels": depthwise_case((1, 11, 13, 32), (2, 2), stride=(4, 5)),
    "dilations": depthwise_case((2, 12, 13, 32), (3, 3), dilation=(2, 3), stride=(1, 2)),
    "pads_differ": depthwise_case((2, 5, 6, 32), (5, 3), padding=((3, 1), (0, 2))),
    "pads_beyond_the_window": depthwise_case((2, 4, 3, 32), (2, 3), padding=((5, 4), (4, 6))),
    "window_beyond_the_image": depthwise_case((2, 3, 3, 32), (7, 7)),
    "columns_in_chunks": depthwise_case((2, 2, 301, 18), (2, 5), stride=(1, 2)),
    "taps_far_apart": depthwise_case((1, 2, 300, 16), (1, 3), dilation=(1, 70)),
    "taps_beyond_a_chunk": depthwise_case((1, 1, 300, 16), (1, 2), dilation=(1, 200)),
    "one_axis": depthwise_case((3, 150, 48), (9,), padding=((8, 0),)),
    "many_images": depthwise_case((70, 4, 4, 16), (3, 3)),
    "stride_beyond_the_image": depthwise_case((1, 5, 6, 16), (3, 3), stride=1000, padding=1),
    "pads_beyond_the_image": depthwise_case((2, 5, 6, 16), (3, 3), padding=100, stride=11),
    "dilation_of_millions": depthwise_case((1, 5, 4), (2,), dilation=10**6, padding=((10**6, 0),)),
}
each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def arrays(case, dtype="float32"):
    """x and dy, normally distributed; NumPy's, which compiles nothing."""
    draw, shape = np.random.default_rng(0), (case.x[0], *window_of(case).output, case.k)
    return tuple(jnp.asarray(draw.normal(size=s).astype(dtype)) for s in (case.x, shape))


def expected(case, x, dy):
    """The definition, in float64."""
    d, (x, dy) = case.definition, (np.asarray(a, np.float64) for a in (x, dy))
    padded = np.pad(x, ((0, 0), *d["pads"], (0, 0)))
    dw = np.empty((*case.window, 1, case.k))
    for tap in np.ndindex(*case.window):
        axes = zip(tap, d["dilation"], d["stride"], dy.shape[1:-1], strict=True)
        pixels = tuple(slice(t * e, t * e + (n - 1) * s + 1, s) for t, e, s, n in axes)
        dw[(*tap, 0)] = (padded[:, *pixels] * dy).sum(tuple(range(dy.ndim - 1)))
    return dw


def check(case, x, dy, right, dtype):
    static = static_of(case, dtype)
    refused = onednn.depthwise_filter_grad_unsupported(jax.typeof(x), jax.typeof(dy), **static)
    assert refused is None
    run = jax.jit(functools.partial(onednn.depthwise_filter_grad, **static))
    dw = np.asarray(run(x, dy))
    assert dw.dtype == dtype
    assert_close(dw, right, terms=max(1, dy.size // case.k))
    np.testing.assert_array_equal(run(x, dy), dw)
    return dw


@each_case
def test_matches_definition(case):
    """And the same in a second run."""
    x, dy = arrays(case)
    check(case, x, dy, expected(case, x, dy), "float32")


@pytest.mark.parametrize("name", ["three_channels", "strips_overlap", "strides", "a_block"])
def test_bfloat16_is_summed_in_float32(name):
    case = CASES[name]
    x, dy = arrays(case, "bfloat16")
    right = expected(case, x, dy)
    wide = check(case, x, dy, right, "float32")
    low = check(case, x, dy, right, "bfloat16")
    np.testing.assert_array_equal(low, wide.astype("bfloat16"))
    mixed = check(case, x.astype("float32"), dy, right, "float32")
    np.testing.assert_array_equal(mixed, wide)


@pytest.mark.parametrize("seed", range(12))
def test_drawn_shapes(seed):
    draw = random.Random(seed)
    c, axes = draw.choice([1, 2, 15, 16, 18, 31, 33]), draw.choice([1, 2, 2])

    def each(most, least=1):
        return tuple(draw.randint(least, most) for _ in range(axes))

    window, dilation = each(9), each(3)
    extent = [(r - 1) * e + 1 for r, e in zip(window, dilation, strict=True)]
    pads = tuple((draw.randint(0, n), draw.randint(0, n)) for n in extent)
    input = tuple(max(draw.randint(1, 12), n) for n in extent)
    case = depthwise_case(
        (draw.randint(1, 3), *input, c), window, stride=each(4), padding=pads, dilation=dilation
    )
    x, dy = arrays(case)
    right = expected(case, x, dy)
    check(case, x, dy, right, "float32")
    if c <= 2:
        by_loops = oracle.filter_grad(x, dy, window=case.window, **case.definition)
        np.testing.assert_allclose(right, by_loops, rtol=1e-9, atol=1e-9)


def test_a_long_sum_is_not_one_sum():
    """401,408 terms: one after the other they would be wrong by some 1e-4 of their size."""
    case = depthwise_case((8, 224, 224, 16), (1, 1))
    x = jnp.full(case.x, 0.1, "float32")
    dw = onednn.depthwise_filter_grad(x, x, **static_of(case, "float32"))
    right = 8 * 224 * 224 * float(x[0, 0, 0, 0]) ** 2
    np.testing.assert_allclose(dw, right, rtol=2e-6)


SPREAD = [CASES[name] for name in ("blocks_and_a_strip", "columns_in_chunks", "many_images")]


def digest():
    results = (
        onednn.depthwise_filter_grad(*arrays(case), **static_of(case, "float32")) for case in SPREAD
    )
    return hashlib.sha256(b"".join(np.asarray(dw).tobytes() for dw in results)).hexdigest()


def test_one_thread_gets_what_several_get():
    program = f"from {__name__} import digest; print(digest())"
    process = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert process.stdout.split() == [digest()], process.stderr[-2000:]


def test_is_the_tables_choice():
    """Where oneDNN has no code of its own, and nowhere else."""

    def chosen(window, c=32, k=32, dtype="float32"):
        x = jax.ShapeDtypeStruct((4, 12, 12, c), dtype)
        w = jax.ShapeDtypeStruct((*window, 1, k), dtype)

        def loss(x, w):
            return jconv.conv(x, w, groups=c).sum()

        choices = jconv.explain_choice(jax.grad(loss, (0, 1)), x, w)
        return next(choice for choice in choices if choice.op == "conv_filter_grad")

    assert chosen((5, 5)).implementation == "onednn_depthwise"
    assert chosen((2, 7), dtype="bfloat16").implementation == "onednn_depthwise"
    narrow = chosen((5, 3))
    assert narrow.implementation == "onednn"
    assert ("onednn_depthwise", "slower for windows of 3 columns or fewer") in narrow.rejected
    assert chosen((5, 5), k=64).implementation == "onednn"


def test_transformations(key):
    """vmap folds examples into channels, and the second derivative is a convolution."""
    x, w = jax.random.normal(key, (3, 2, 7, 6, 4)), jax.random.normal(key, (4, 5, 1, 4))

    def step(implementation):
        def loss(x, w):
            return (jconv.conv(x, w, groups=4, implementation=implementation) ** 3).mean()

        grad = jax.grad(loss, 1)
        mapped = jax.vmap(grad, (0, None))
        second = jax.grad(lambda x, w: (grad(x[0], w) ** 2).sum(), (0, 1))
        scanned = functools.partial(lax.scan, lambda w, x: (w - grad(x, w), None))
        return lambda x, w: (mapped(x, w), second(x, w), scanned(w, x)[0])

    ours, theirs = step(None), step("direct")
    choices = jconv.explain_choice(ours, x, w)
    ran = {choice.implementation for choice in choices if choice.op == "conv_filter_grad"}
    assert ran == {"onednn_depthwise"}
    for a, e in zip(
        *map(jax.tree.leaves, (jax.jit(ours)(x, w), jax.jit(theirs)(x, w))), strict=True
    ):
        np.testing.assert_allclose(a, e, rtol=1e-4, atol=1e-5 * np.abs(e).max())


CASE = depthwise_case((2, 5, 6, 4), (3, 2))


@pytest.mark.parametrize(
    ("x", "k", "window", "options", "reason"),
    [
        ((2, 5, 6, 4), 4, {}, {"dtype": "float16"}, "only float32, bfloat16, got float16"),
        ((0, 5, 6, 4), 4, {}, {}, "nothing to compute"),
        ((2, 5, 6, 4), 4, {"input_dilation": 2}, {}, "not with input_dilation, got (2, 2)"),
        ((2, 5, 5, 6, 4), 4, {}, {}, "only one or two spatial axes, got 3"),
        ((2, 5, 6, 4), 8, {}, {}, "only for one channel into and one out of each group"),
        ((2, 5, 6, 4), 4, {"groups": 2}, {}, "only for one channel into and one out of each group"),
        (
            (2, 5, 6, 4),
            4,
            {},
            {"precision": lax.DotAlgorithmPreset.F32_F32_F32},
            "the sums' algorithm can't be chosen, got precision=F32_F32_F32",
        ),
        (
            (2, 5, 6, 4),
            4,
            {"padding": 2**14, "stride": 2**14},
            {},
            "only images of fewer than 2**31 elements, padding included",
        ),
        ((2, 5, 6, 4), 4, {}, {}, None),
    ],
)
def test_says_why_not(x, k, window, options, reason):
    axes = len(x) - 2
    window = Window.of(x[1:-1], (3,) * axes, **{"groups": 4, "padding": 1, **window}, op="test")
    dtype = options.get("dtype", "float32")
    x, dy = (jax.ShapeDtypeStruct(s, dtype) for s in (x, (x[0], *window.output, k)))
    static = {"window": window, "dtype": None, **options}
    assert onednn.depthwise_filter_grad_unsupported(x, dy, **static) == reason


def test_the_table_goes_on_where_padding_is_too_wide():
    x, w = jnp.ones((2, 4, 4, 4)), jnp.ones((4, 4, 1, 4))
    conv = functools.partial(jconv.conv, x, groups=4, padding=2**14, stride=2**14)
    dw = jax.jit(jax.grad(lambda w: conv(w).sum()))(w)
    np.testing.assert_array_equal(dw, np.full(w.shape, 2))


@pytest.mark.parametrize(("channels", "found"), [(1, False), (2, True)])
def test_the_table_gives_it_more_than_one_channel(channels, found):
    x, w = jnp.ones((2, 28, 28, channels)), jnp.ones((5, 5, 1, channels))
    loss = lambda w: jconv.conv(x, w, groups=channels).sum()  # noqa: E731
    choices = jconv.explain_choice(jax.grad(loss), w)
    (chosen,) = (c.implementation for c in choices if c.op == "conv_filter_grad")
    assert (chosen == "onednn_depthwise") == found


def test_refuses_negative_padding():
    window = Window((5, 6), (3, 3), (1, 1), (1, 1), ((-1, 1), (0, 0)), (1, 1), 4)
    x, dy = (jax.ShapeDtypeStruct((2, *n, 4), "float32") for n in ((5, 6), window.output))
    reason = depthwise.depthwise_filter_grad_unsupported(x, dy, window=window)
    assert reason == "not with negative padding, got ((-1, 1), (0, 0))"


def call(shapes=None, dtypes=("float32",) * 3, **attributes):
    shapes = shapes or [CASE.x, (2, 5, 6, 4), CASE.w]
    given = {"stride": (1, 1), "pads": (1, 1, 0, 1), "dilation": (1, 1), "groups": 4, **attributes}
    static = {name: np.array(value, np.int64) for name, value in given.items()}
    static["groups"] = np.int64(given["groups"])
    x, dy = (jnp.ones(shape, dtype) for shape, dtype in zip(shapes[:2], dtypes[:2], strict=True))
    dw = jax.ShapeDtypeStruct(shapes[2], dtypes[2])
    run = jax.ffi.ffi_call("jconv_onednn_depthwise_filter_grad", dw)
    return jax.block_until_ready(run(x, dy, **static))


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"stride": (1,)}, "stride, dilation and pads must have entries for each spatial axis"),
        ({"stride": (0, 1)}, "stride must be at least 1"),
        ({"pads": (1, 1, -1, 1)}, "pads must be at least 0"),
        ({"pads": (2**62, 2**62, 0, 1)}, r"x with its padding must have fewer than 2\*\*31"),
        ({"dilation": (2**62, 1)}, "y's spatial axes must be those of the window"),
        ({"shapes": [CASE.x, (2, 5, 7, 4), CASE.w]}, "y's spatial axes must be those"),
        ({"shapes": [CASE.x, (3, 5, 6, 4), CASE.w]}, r"y must be \(N, \*output, K\)"),
        ({"shapes": [(2, 0, 6, 4), (2, 5, 6, 4), CASE.w]}, "every axis must be at least 1"),
        ({"groups": 2}, "x must have C = groups times w's channels"),
        ({"shapes": [CASE.x, (2, 5, 6, 8), (3, 2, 1, 8)]}, "groups must be C and K"),
        (
            {"shapes": [CASE.x, (2, 5, 6, 4), (3, 2, 2, 4)], "groups": 2},
            "groups must be C and K",
        ),
        (
            {
                "shapes": [(2, 1, 5, 6, 4), (2, 1, 5, 6, 4), (1, 3, 2, 1, 4)],
                "stride": (1,) * 3, "dilation": (1,) * 3, "pads": (0, 0, 1, 1, 0, 1),
            },
            "x must have one or two spatial axes",
        ),
        ({"dtypes": ("float32", "bfloat16", "float32")}, "x and dy must have the same dtype"),
        ({"dtypes": ("float16",) * 3}, "x must be float32 or bfloat16"),
        ({"dtypes": ("float32", "float32", "float16")}, "dw must be float32 or bfloat16"),
    ],
)  # fmt: skip
def test_the_call_itself_says_what_is_wrong(wrong, reason):
    got = r".*; got x \(.*\) \w+, w \(.*\) \w+, y \(.*\) \w+, stride .*, groups \d"
    with pytest.raises(jax.errors.JaxRuntimeError, match=f"depthwise_filter_grad: {reason}{got}"):
        call(**wrong)
