"""jconv.conv against the definition, against finite differences, and against jax.lax."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.test_util import check_grads

import jconv
from tests import often
from tests.ops.conv_cases import CASES, Case
from tests.oracles import conv as oracle
from tests.tolerance import assert_close

each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def lax_conv(case, **options):
    """The same convolution, spelt in jax.lax."""
    axes = "DHW"[3 - len(case.window) :] if len(case.window) <= 3 else "ABCD"
    d = case.definition
    return functools.partial(
        lax.conv_general_dilated,
        window_strides=d["stride"],
        padding=d["pads"],
        lhs_dilation=d["input_dilation"],
        rhs_dilation=d["dilation"],
        feature_group_count=d["groups"],
        dimension_numbers=(f"N{axes}C", f"{axes}IO", f"N{axes}C"),
        **options,
    )


@each_case
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_matches_definition(case, dtype, key):
    x, w = case.arrays(key, dtype)
    y = jconv.conv(x, w, **case.options)
    assert y.dtype == dtype
    assert_close(y, case.expected(x, w), terms=case.terms)


@pytest.mark.parametrize("name", ["input_dilation_and_stride", "depthwise"])
def test_matches_definition_in_float64_and_float16(name, key, x64):
    case = CASES[name]
    for dtype in ("float64", "float16"):
        x, w = case.arrays(key, dtype)
        y = jconv.conv(x, w, **case.options)
        assert y.dtype == dtype
        assert_close(y, case.expected(x, w), terms=case.terms)


@each_case
def test_gradients_are_the_adjoints(case, key):
    x, w = case.arrays(key, "float32")
    y, vjp = jax.vjp(jax.jit(functools.partial(jconv.conv, **case.options)), x, w)
    dy = jax.random.normal(key, y.shape)
    dx, dw = jax.jit(vjp)(dy)
    size = int(np.prod(y.shape[:-1]))
    dx_expected = oracle.input_grad(dy, w, input=case.x[1:-1], **case.definition)
    dw_expected = oracle.filter_grad(x, dy, window=case.window, **case.definition)
    assert_close(dx, dx_expected, terms=case.terms * case.k)
    assert_close(dw, dw_expected, terms=size)


@pytest.mark.parametrize(
    "case", often.cases(CASES, ("pads_wider_than_window", "groups", "three_axes"))
)
def test_gradient_matches_finite_differences(case, key, x64):
    # Bilinear: central differences with a step of 1 are exact, so only rounding remains.
    x, w = case.arrays(key, "float64")
    f = jax.jit(functools.partial(jconv.conv, **case.options))
    check_grads(f, (x, w), order=1, modes=["fwd", "rev"], eps=1.0, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    "name", ["pads_wider_than_window", "input_dilation_and_stride", "one_axis"]
)
def test_second_derivatives(name, key, x64):
    x, w = CASES[name].arrays(key, "float64")
    f = jax.jit(functools.partial(jconv.conv, **CASES[name].options))
    check_grads(f, (x, w), order=2, modes=["fwd", "rev"], eps=1e-3, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", ["plain", "depthwise", "input_dilation_and_stride"])
def test_low_precision_no_worse_than_twice_xla(name, dtype, key):
    """Output and both gradients, each against float64 and jax.lax's own error."""
    case = CASES[name]
    x, w = case.arrays(key, dtype)
    dy = jax.random.normal(key, case.expected(x, w).shape).astype(dtype)

    def run(f, x, w, dy):
        y, vjp = jax.vjp(f, x, w)
        return y, *vjp(dy)

    ours = jax.jit(functools.partial(run, functools.partial(jconv.conv, **case.options)))(x, w, dy)
    lax_s = jax.jit(functools.partial(run, lax_conv(case)))(x, w, dy)
    right = (
        case.expected(x, w),
        oracle.input_grad(dy, w, input=case.x[1:-1], **case.definition),
        oracle.filter_grad(x, dy, window=case.window, **case.definition),
    )
    for mine, theirs, expected in zip(ours, lax_s, right, strict=True):
        errors = [np.abs(np.asarray(a, np.float64) - expected).max() for a in (mine, theirs)]
        assert errors[0] <= 2 * errors[1]
        assert mine.dtype == dtype


def test_bias_and_its_gradient(key):
    x, w = CASES["stride"].arrays(key, "float32")
    b = jnp.arange(6.0)
    options = CASES["stride"].options
    expected = CASES["stride"].expected(x, w) + np.arange(6.0)
    assert_close(jconv.conv(x, w, b, **options), expected, terms=CASES["stride"].terms)
    db = jax.grad(lambda b: jconv.conv(x, w, b, **options).sum())(b)
    assert_close(db, np.full(6, expected[..., 0].size), terms=1)


@pytest.mark.parametrize(
    ("mode", "numpy_mode"), [("reflect", "reflect"), ("replicate", "edge"), ("circular", "wrap")]
)
def test_padding_modes(mode, numpy_mode, key):
    case = Case(padding=((2, 1), (1, 3)), stride=(1, 2), dilation=(2, 1))
    x, w = case.arrays(key, "float32")
    y = jconv.conv(x, w, padding_mode=mode, **case.options)
    padded = np.pad(x, [(0, 0), *case.padding, (0, 0)], mode=numpy_mode)
    expected = oracle.conv(padded, w, **{**case.definition, "pads": ((0, 0), (0, 0))})
    assert_close(y, expected, terms=case.terms)


def test_flip_is_the_convolution_of_mathematics():
    """Two worked examples: numpy.convolve's, and a matrix with a mirrored filter, zeros outside."""
    a, b = np.float32([0, 1, 2, 3, 2, 1, 0]), np.float32([1, 3, -1])
    y = jconv.conv(a[None, :, None], b[:, None, None], flip=True)
    np.testing.assert_array_equal(y[0, :, 0], [1, 5, 8, 9, 4, 1, -1])

    image = np.float32(
        [
            [5, 8, 3, 4, 6, 2, 3, 7], [3, 2, 1, 1, 9, 5, 1, 0], [0, 9, 5, 3, 0, 4, 8, 3],
            [4, 2, 7, 2, 1, 9, 0, 6], [9, 7, 9, 8, 0, 4, 2, 4], [5, 2, 1, 8, 4, 1, 0, 9],
            [1, 8, 5, 4, 9, 2, 3, 8], [3, 7, 1, 2, 3, 4, 4, 6],
        ]
    )  # fmt: skip
    filter = np.float32([[2, 1, 0], [1, 1, -1], [0, -1, -2]])
    expected = [
        [20, 10, 2, 26, 23, 6, 9, 4], [18, 1, -8, 2, 7, 3, 3, -11], [14, 22, 5, -1, 9, -2, 8, -1],
        [29, 21, 9, -9, 10, 12, -9, -9], [21, 1, 16, -1, -3, -4, 2, 5],
        [15, -9, -3, 7, -6, 1, 17, 9],
        [21, 9, 1, 6, -2, -1, 23, 2], [9, -5, -25, -10, -12, -15, -1, -12],
    ]  # fmt: skip
    y = jconv.conv(image[None, :, :, None], filter[:, :, None, None], flip=True)
    np.testing.assert_array_equal(y[0, :, :, 0], expected)


def test_preferred_element_type(key):
    """Sums and output in float32 from bfloat16 operands, whose gradients are bfloat16 again."""
    case = CASES["groups"]
    x, w = case.arrays(key, "bfloat16")
    f = functools.partial(jconv.conv, preferred_element_type=jnp.float32, **case.options)
    y, vjp = jax.vjp(f, x, w)
    assert_close(y, case.expected(x, w), terms=case.terms)
    assert y.dtype == jnp.float32
    dx, dw = vjp(jnp.ones_like(y))
    assert (dx.dtype, dw.dtype) == (jnp.bfloat16, jnp.bfloat16)
    dy = np.ones(y.shape)
    dx_expected = oracle.input_grad(dy, w, input=case.x[1:-1], **case.definition)
    dw_expected = oracle.filter_grad(x, dy, window=case.window, **case.definition)
    assert_close(dx, dx_expected, terms=case.terms)
    assert_close(dw, dw_expected, terms=y.size)


def test_precision_reaches_xla():
    x, w = CASES["plain"].arrays(jax.random.key(0), "float32")
    f = functools.partial(jconv.conv, precision="highest", implementation="direct")
    text = jax.jit(jax.grad(lambda x: f(x, w).sum())).lower(x).as_text()
    assert "HIGHEST" in text


@pytest.mark.parametrize(
    ("x", "w"),
    [
        ((0, 5, 6, 4), (3, 2, 4, 6)),
        ((2, 5, 6, 0), (3, 2, 0, 6)),
        ((2, 5, 6, 4), (3, 2, 4, 0)),
        ((2, 0, 6, 4), (3, 2, 4, 6)),
    ],
    ids=["no_examples", "no_channels_in", "no_channels_out", "no_rows"],
)
def test_empty(x, w):
    """Nothing goes in or comes out, but shapes hold, and sums of nothing are 0."""
    x, w = jnp.ones(x), jnp.ones(w)
    y, vjp = jax.vjp(functools.partial(jconv.conv, stride=2), x, w)
    assert y.shape == (x.shape[0], -(-x.shape[1] // 2), 3, w.shape[-1])
    np.testing.assert_array_equal(y, np.zeros(y.shape))
    dx, dw = vjp(y)
    np.testing.assert_array_equal(dx, np.zeros(x.shape))
    np.testing.assert_array_equal(dw, np.zeros(w.shape))


@pytest.mark.parametrize("pads", [((3, 5), (0, 0)), ((1, 1), (0, 0))])
def test_compiles_where_xla_alone_ends_the_process(pads, key):
    # A spread-out axis beside one shorter than its filter: jaxlib 0.12.0.1 aborts on it.
    x, w = jax.random.normal(key, (1, 1, 4, 1)), jax.random.normal(key, (3, 2, 1, 1))
    spread = jnp.zeros((1, 1, 7, 1)).at[:, :, ::2].set(x)
    y = jconv.conv(x, w, padding=pads, input_dilation=(1, 2))
    assert_close(y, jconv.conv(spread, w, padding=pads), terms=6)
    jax.grad(lambda x: jconv.conv(x, w, padding=pads, input_dilation=(1, 2)).sum())(x)


def test_the_named_implementation_ran(key):
    """`direct` is jconv's own equation; `lax` leaves jax.lax's in the jaxpr, gradients too."""
    x, w = CASES["plain"].arrays(key, "float32")

    def primitives(implementation):
        def loss(x, w):
            return jconv.conv(x, w, implementation=implementation).sum()

        jaxpr = jax.make_jaxpr(jax.grad(loss, (0, 1)))(x, w)
        return {eqn.primitive.name for eqn in jaxpr.jaxpr.eqns}

    ours = {"conv", "conv_input_grad", "conv_filter_grad"}
    assert ours <= primitives("direct")
    assert "conv_general_dilated" not in primitives("direct")
    assert not ours & primitives("lax")
    assert "conv_general_dilated" in primitives("lax")
    results = [jconv.conv(x, w, implementation=name) for name in ("direct", "lax", None)]
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


def test_explain_choice_names_all_three(key):
    x, w = CASES["plain"].arrays(key, "float32")

    def loss(x, w):
        return jconv.conv(x, w, implementation="direct").sum()

    choices = jconv.explain_choice(jax.grad(loss, (0, 1)), x, w)
    found = sorted((c.op, c.implementation, c.requested) for c in choices)
    ops = ("conv", "conv_filter_grad", "conv_input_grad")
    assert found == [(op, "direct", "direct") for op in ops]
    shapes = next(c.operands for c in choices if c.op == "conv_filter_grad")
    assert shapes == ("float32[2,5,6,4]", "float32[2,5,6,6]")


IMAGE, FILTER = (1, 5, 5, 4), (3, 3, 4, 8)
REFLECT, CIRCULAR = ({"padding_mode": mode} for mode in ("reflect", "circular"))


@pytest.mark.parametrize(
    ("x", "w", "options", "message"),
    [
        (
            (5, 4),
            FILTER,
            {},
            r"x must be \(N, \*spatial, C\) .*got x \(5, 4\) and w \(3, 3, 4, 8\)",
        ),
        ((5,), (3,), {}, r"x must be \(N, \*spatial, C\).*got x \(5,\)"),
        (IMAGE, (3, 4, 8), {}, r"with the same one or more spatial axes"),
        (IMAGE, (3, 3, 3, 8), {}, r"x has C=4 but w takes C/groups=3, groups=1; got x \(N=1, H=5,"),
        (IMAGE, (3, 3, 3, 8), {}, r"C=4\), w \(R=3, S=3, C/groups=3, K=8\)"),
        ((1, 5, 4), (3, 3, 8), {}, r"x \(N=1, W=5, C=4\), w \(S=3, C/groups=3, K=8\)"),
        (IMAGE, (3, 3, 1, 8), {"groups": 3}, r"K=8 does not divide into groups=3"),
        (IMAGE, (3, 3, 1, 9), {"groups": 3}, r"x's C=4 does not divide into groups=3"),
        (IMAGE, FILTER, {"groups": 0}, r"groups must be at least 1; got groups=0"),
        ((1, 2, 2, 4), FILTER, {"padding": "VALID"}, r"does not fit in an input of \(2, 2\)"),
        (IMAGE, FILTER, {"padding": -1}, r"padding must not be negative"),
        (IMAGE, FILTER, {"padding": "FULL"}, r"padding must be one of SAME.*got 'FULL'"),
        (IMAGE, FILTER, {"stride": (1, 2, 3)}, r"stride must be"),
        (IMAGE, FILTER, {"padding_mode": "mirror"}, r"must be one of zeros, .*; got 'mirror'"),
        ((1, 2, 5, 4), FILTER, {**REFLECT, "padding": 2}, r'reflect" can fill at most \(1, 4\)'),
        ((1, 2, 5, 4), FILTER, {**CIRCULAR, "padding": 3}, r'circular" can fill at most \(2, 5\)'),
        (IMAGE, FILTER, {**CIRCULAR, "input_dilation": 2}, r"needs input_dilation=1"),
        (IMAGE, FILTER, {"b": jnp.zeros(4)}, r"b must be \(K,\) = \(8,\) of float32; got b \(4,\)"),
        (IMAGE, FILTER, {"implementation": "fast"}, r"implementation must be .*got 'fast'"),
    ],
)
def test_says_what_is_wrong(x, w, options, message):
    with pytest.raises(ValueError, match=f"^conv: .*{message}"):
        jconv.conv(jnp.zeros(x), jnp.zeros(w), **options)


def test_says_which_dtypes_disagree():
    x, w = jnp.zeros((1, 5, 5, 4)), jnp.zeros((3, 3, 4, 8))
    with pytest.raises(ValueError, match=r"^conv: x is float32 but w is bfloat16; cast one"):
        jconv.conv(x, w.astype(jnp.bfloat16))
    with pytest.raises(
        ValueError, match=r"^conv: b must be .* of float32; got b \(8,\) of float16"
    ):
        jconv.conv(x, w, jnp.zeros(8, jnp.float16))
