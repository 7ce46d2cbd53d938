"""jconv.conv_transpose: PyTorch's definition, and the adjoint of jconv.conv."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import jconv
from tests import often
from tests.oracles import conv as conv_oracle
from tests.oracles.conv_transpose import conv_transpose as oracle
from tests.oracles.padding import same, same_lower
from tests.tolerance import assert_close


@dataclasses.dataclass(frozen=True)
class Case:
    """Arguments of one transposed convolution with explicit padding."""

    y: tuple[int, ...] = (2, 3, 4, 6)  # N, *spatial, K
    window: tuple[int, ...] = (3, 2)
    c: int = 4
    stride: tuple[int, ...] = (1, 1)
    padding: tuple[tuple[int, int], ...] = ((0, 0), (0, 0))
    output_padding: tuple[int, ...] = (0, 0)
    dilation: tuple[int, ...] = (1, 1)
    groups: int = 1

    @property
    def options(self) -> dict:
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)[3:]}

    @property
    def terms(self) -> int:
        return int(np.prod(self.window)) * self.y[-1] // self.groups

    def arrays(self, key, dtype):
        """y and w, normally distributed."""
        w = (*self.window, self.c // self.groups, self.y[-1])
        keys = jax.random.split(key)
        draw = functools.partial(jax.random.normal, dtype=jnp.float32)
        return draw(keys[0], self.y).astype(dtype), draw(keys[1], w).astype(dtype)

    def expected(self, y, w):
        options = self.options
        return oracle(y, w, pads=options.pop("padding"), **options)


CASES = {
    "plain": Case(),
    "stride": Case(stride=(2, 3)),
    "stride_wider_than_window": Case(window=(1, 2), stride=(3, 4)),
    "padding": Case(stride=(2, 2), padding=((1, 0), (0, 1))),
    "output_padding": Case(stride=(2, 3), padding=((1, 1), (0, 1)), output_padding=(1, 2)),
    "output_padding_below_dilation": Case(dilation=(3, 2), output_padding=(2, 1)),
    "groups": Case(groups=2, stride=(2, 1)),
    "depthwise": Case(groups=4, y=(1, 3, 4, 8), stride=(2, 2), padding=((1, 1), (0, 0))),
    "dilation": Case(dilation=(2, 3), stride=(1, 2)),
    "one_pixel": Case(y=(1, 1, 1, 1), c=1, window=(1, 1)),
    "one_axis": Case(
        y=(2, 5, 4), window=(3,), stride=(2,), padding=((1, 1),), output_padding=(1,), dilation=(1,)
    ),
    "three_axes": Case(
        y=(1, 2, 3, 2, 3),
        window=(2, 1, 3),
        c=2,
        stride=(2, 1, 1),
        padding=((0, 1), (0, 0), (1, 1)),
        output_padding=(0, 0, 0),
        dilation=(1, 1, 1),
    ),
}
each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@each_case
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_matches_definition(case, dtype, key):
    y, w = case.arrays(key, dtype)
    x = jconv.conv_transpose(y, w, **case.options)
    assert x.dtype == dtype
    assert_close(x, case.expected(y, w), terms=case.terms)


@pytest.mark.parametrize("padding", ["SAME", "SAME_LOWER"])
@pytest.mark.parametrize(
    ("window", "stride", "dilation"), [((3, 2), (2, 3), (1, 1)), ((2, 4), (3, 1), (2, 1))]
)
def test_same_multiplies_the_size_by_the_stride(padding, window, stride, dilation, key):
    """What overhangs is cut; where the stride is wider than the window, the gap is zero."""
    case = Case(window=window, stride=stride, dilation=dilation)
    y, w = case.arrays(key, "float32")
    x = jconv.conv_transpose(y, w, stride=stride, dilation=dilation, padding=padding)
    size = tuple(n * s for n, s in zip(y.shape[1:-1], stride, strict=True))
    assert x.shape == (2, *size, case.c)
    word = {"SAME": same, "SAME_LOWER": same_lower}[padding]
    pads = tuple(map(word, size, window, stride, dilation))
    expected = conv_oracle.input_grad(y, w, input=size, stride=stride, pads=pads, dilation=dilation)
    assert_close(x, expected, terms=case.terms)


@pytest.mark.parametrize(
    "case",
    often.cases(CASES, ("output_padding", "depthwise", "dilation", "one_pixel", "three_axes")),
)
def test_is_the_adjoint_of_conv(case, key, x64):
    """<conv(x, w), y> = <x, conv_transpose(y, w)>, in float64, with the same arguments."""
    y, w = case.arrays(key, "float64")
    options = case.options
    options.pop("output_padding")
    x = jconv.conv_transpose(y, w, **case.options)
    other = jax.random.normal(jax.random.key(1), x.shape, x.dtype)
    forward = jconv.conv(other, w, **options)
    crop = tuple(slice(n) for n in y.shape[:-1])
    np.testing.assert_allclose(jnp.vdot(forward[crop], y), jnp.vdot(other, x), rtol=1e-10)


MODES = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}  # NumPy's words
PADDED = {
    "strided": Case(stride=(2, 2), padding=((1, 2), (2, 0)), output_padding=(1, 0), groups=2),
    "dilated": Case(dilation=(1, 3), padding=((0, 1), (2, 3)), output_padding=(0, 2)),
    "one_axis": Case(
        y=(2, 5, 4), window=(3,), stride=(2,), padding=((2, 1),), output_padding=(1,), dilation=(1,)
    ),
}
each_padded = pytest.mark.parametrize("case", PADDED.values(), ids=PADDED)
each_mode = pytest.mark.parametrize("mode", MODES)


def gathered(padded, spatial, pads, mode):
    """Each pixel of a padded image added to the pixel of the image that it is a copy of."""
    source = np.pad(np.arange(np.prod(spatial)).reshape(spatial), pads, MODES[mode]).ravel()
    flat = padded.reshape(len(padded), source.size, -1)
    x = np.zeros((len(padded), int(np.prod(spatial)), flat.shape[-1]))
    for pixel, target in enumerate(source):
        x[:, target] += flat[:, pixel]
    return x.reshape(len(padded), *spatial, -1)


@each_mode
@each_padded
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_padding_modes(case, mode, dtype, key):
    """Stamped on an image that has its padding, which is then folded in."""
    y, w = case.arrays(key, dtype)
    x = jconv.conv_transpose(y, w, padding_mode=mode, **case.options)
    pads = case.options["padding"]
    none = {**case.options, "pads": ((0, 0),) * len(pads)}
    none.pop("padding")
    padded = oracle(y, w, **none)
    expected = gathered(padded, x.shape[1:-1], pads, mode)
    assert x.dtype == dtype
    assert x.shape == jconv.conv_transpose(y, w, **case.options).shape
    assert_close(x, expected, terms=4 * case.terms)


@each_mode
@pytest.mark.parametrize("padding", ["SAME", "CAUSAL", (1, 0)])
def test_is_the_transpose_of_a_padded_conv(mode, padding, key, x64):
    case = Case(stride=(2, 1))
    y, w = case.arrays(key, "float64")
    options = {"stride": case.stride, "padding": padding, "padding_mode": mode}
    x = jconv.conv_transpose(y, w, **options)
    image = jax.ShapeDtypeStruct(x.shape, x.dtype)
    (expected,) = jax.linear_transpose(lambda x: jconv.conv(x, w, **options), image)(y)
    np.testing.assert_allclose(x, expected, rtol=1e-10, atol=1e-10)
    other = jax.random.normal(jax.random.key(1), x.shape, x.dtype)
    forward = jnp.vdot(jconv.conv(other, w, **options), y)
    np.testing.assert_allclose(forward, jnp.vdot(other, x), rtol=1e-10)


def test_padding_modes_of_integers():
    y, w = jnp.ones((1, 4, 1), jnp.int32), jnp.ones((3, 1, 1), jnp.int32)
    x = jconv.conv_transpose(y, w, padding_mode="replicate")
    np.testing.assert_array_equal(x[0, :, 0], [3, 3, 3, 3])


def test_second_derivatives_in_a_padding_mode(key, x64):
    case = PADDED["strided"]
    y, w = case.arrays(key, "float64")
    f = jax.jit(functools.partial(jconv.conv_transpose, padding_mode="reflect", **case.options))
    check_grads(f, (y, w), order=2, modes=["fwd", "rev"], eps=1e-3, rtol=1e-5, atol=1e-7)


@each_case
def test_gradient_matches_finite_differences(case, key, x64):
    # Bilinear: central differences with a step of 1 are exact, so only rounding remains.
    y, w = case.arrays(key, "float64")
    f = jax.jit(functools.partial(jconv.conv_transpose, **case.options))
    check_grads(f, (y, w), order=1, modes=["fwd", "rev"], eps=1.0, rtol=1e-10, atol=1e-10)


def test_second_derivatives(key, x64):
    case = CASES["output_padding"]
    y, w = case.arrays(key, "float64")
    f = jax.jit(functools.partial(jconv.conv_transpose, **case.options))
    check_grads(f, (y, w), order=2, modes=["fwd", "rev"], eps=1e-3, rtol=1e-5, atol=1e-7)


def test_bias_has_one_entry_per_output_channel(key):
    case = CASES["groups"]
    y, w = case.arrays(key, "float32")
    b = jnp.arange(4.0)
    expected = case.expected(y, w) + np.arange(4.0)
    assert_close(jconv.conv_transpose(y, w, b, **case.options), expected, terms=case.terms)


def test_worked_example():
    """[[1, 0], [2, 3]] with [[0, 1], [1, 0]] and stride 2: four stamps side by side."""
    y, w = jnp.asarray([[1.0, 0], [2, 3]]), jnp.asarray([[0.0, 1], [1, 0]])
    x = jconv.conv_transpose(y[None, :, :, None], w[:, :, None, None], stride=2, padding="VALID")
    expected = [[0, 1, 0, 0], [1, 0, 0, 0], [0, 2, 0, 3], [2, 0, 3, 0]]
    np.testing.assert_array_equal(x[0, :, :, 0], expected)


def test_empty():
    y, w = jnp.ones((0, 3, 4, 6)), jnp.ones((3, 2, 4, 6))
    x, vjp = jax.vjp(functools.partial(jconv.conv_transpose, stride=2), y, w)
    assert x.shape == (0, 6, 8, 4)
    assert [g.shape for g in vjp(x)] == [y.shape, w.shape]
    np.testing.assert_array_equal(vjp(x)[1], np.zeros(w.shape))


def test_the_named_implementation_ran(key):
    y, w = CASES["plain"].arrays(key, "float32")

    def explain(implementation):
        def f(y, w):
            return jconv.conv_transpose(y, w, implementation=implementation).sum()

        choices = jconv.explain_choice(jax.grad(f, (0, 1)), y, w)
        return sorted((c.op, c.implementation) for c in choices)

    ops = ("conv", "conv_filter_grad", "conv_input_grad")
    assert explain("direct") == [(op, "direct") for op in ops]
    assert explain("lax") == []


IMAGE, FILTER = (1, 3, 3, 6), (3, 3, 4, 6)


@pytest.mark.parametrize(
    ("y", "w", "options", "message"),
    [
        ((6,), FILTER, {}, r"y must be \(N, \*spatial, K\) .*got y \(6,\)"),
        ((1, 3, 3, 5), FILTER, {}, r"y has K=5 but w has K=6; got y \(N=1, H=3, W=3, K=5\)"),
        (IMAGE, FILTER, {"groups": 4}, r"w's K=6 does not divide into groups=4"),
        (IMAGE, FILTER, {"output_padding": 1}, r'output_padding must be 0 with padding="SAME"'),
        (IMAGE, FILTER, {"output_padding": 1, "padding": 0}, r"must be smaller than stride or"),
        (IMAGE, FILTER, {"padding": 5}, r"leaves no pixel of the output"),
        (IMAGE, FILTER, {"padding": -1}, r"padding must not be negative"),
        (IMAGE, FILTER, {"padding_mode": "mirror"}, r"padding_mode must be one of .*'mirror'"),
        (
            IMAGE, FILTER, {"padding_mode": "reflect", "padding": 2},
            r'"reflect" can fill at most \(0, 0\) pixels on each side of an image of \(1, 1\)',
        ),
        (IMAGE, FILTER, {"b": jnp.zeros(6)}, r"b must be \(C,\) = \(4,\) of float32; got b \(6,\)"),
        (IMAGE, FILTER, {"implementation": "fast"}, r"implementation must be .*got 'fast'"),
    ],
)  # fmt: skip
def test_says_what_is_wrong(y, w, options, message):
    with pytest.raises(ValueError, match=r"^conv(_transpose|_input_grad): .*" + message):
        jconv.conv_transpose(jnp.zeros(y), jnp.zeros(w), **options)
