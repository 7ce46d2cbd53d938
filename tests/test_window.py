"""jconv.window: sizes and paddings against places counted one by one, on any small integers."""

from __future__ import annotations

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from jconv.window import Window, hashable
from tests.oracles import padding as oracle
from tests.oracles.pool import windows

small = st.integers(0, 5)
positive = st.integers(1, 4)


@dataclasses.dataclass(frozen=True)
class Axis:
    """One axis of a window; windows of several axes are several of these."""

    input: int
    size: int
    stride: int
    dilation: int
    pad: tuple[int, int]
    input_dilation: int

    def window(self) -> Window:
        fields = ((value,) for value in dataclasses.astuple(self))
        return Window(*fields)

    def output(self) -> int:
        dilated = oracle.dilated(self.input, self.input_dilation)
        return oracle.output_size(dilated, self.size, self.stride, self.dilation, self.pad)


axes = st.builds(
    Axis,
    input=st.integers(0, 9),
    size=positive,
    stride=positive,
    dilation=positive,
    pad=st.tuples(st.integers(-2, 5), st.integers(-2, 5)),
    input_dilation=st.integers(1, 3),
)
any_axis = given(axis=axes)


@any_axis
def test_output_counts_the_places_of_the_window(axis):
    assert axis.window().output == (axis.output(),)


@any_axis
def test_extents(axis):
    assert axis.window().extent == (oracle.extent(axis.size, axis.dilation),)
    assert axis.window().dilated_input == (oracle.dilated(axis.input, axis.input_dilation),)


def reads(p, i, pad, axis):
    """Triples (p, r, i) in which window p of a convolution reads pixel i by tap r."""
    every = itertools.product(range(p), range(axis.size), range(i))
    return {
        (p, r, i)
        for p, r, i in every
        if p * axis.stride + r * axis.dilation - pad[0] == i * axis.input_dilation
    }


@any_axis
def test_input_grad_pads_make_the_adjoint(axis):
    """dy, dilated by the stride, under the flipped filter: x's size and the same products."""
    assume(axis.input and axis.output())
    (pads,), output = axis.window().input_grad_pads, axis.output()
    size = oracle.output_size(
        oracle.dilated(output, axis.stride), axis.size, axis.input_dilation, axis.dilation, pads
    )
    assert size == axis.input
    backward = dataclasses.replace(axis, stride=axis.input_dilation, input_dilation=axis.stride)
    triples = reads(axis.input, output, pads, backward)
    flipped = {(p, axis.size - 1 - r, i) for i, r, p in triples}
    assert flipped == reads(output, axis.input, axis.pad, axis)


@any_axis
def test_filter_grad_pads_make_the_adjoint(axis):
    """x under dy, dilated by the stride: as many taps as the filter, and the same products."""
    assume(axis.input and axis.output())
    (pads,), output = axis.window().filter_grad_pads, axis.output()
    dilated = oracle.dilated(axis.input, axis.input_dilation)
    assert oracle.output_size(dilated, output, axis.dilation, axis.stride, pads) == axis.size
    backward = dataclasses.replace(axis, size=output, stride=axis.dilation, dilation=axis.stride)
    triples = reads(axis.size, axis.input, pads, backward)
    assert {(p, r, i) for r, p, i in triples} == reads(output, axis.input, axis.pad, axis)


@given(n=st.integers(1, 12), size=positive, stride=positive, dilation=positive)
def test_padding_words(n, size, stride, dilation):
    def pads(padding):
        return Window.of((n,), size, stride=stride, dilation=dilation, padding=padding).pads

    same = Window.of((n,), size, stride=stride, dilation=dilation, padding="SAME")
    assert same.pads == (oracle.same(n, size, stride, dilation),)
    assert same.output == (len(range(0, n, stride)),)
    assert pads("SAME_LOWER") == (oracle.same_lower(n, size, stride, dilation),)
    assert pads("CAUSAL") == (oracle.causal(size, dilation),)
    if oracle.extent(size, dilation) <= n:
        assert pads("VALID") == ((0, 0),)


def test_same_of_a_dilated_input_pads_what_is_there():
    # 4 pixels with a zero between each two are 7; 4 windows with a stride of 2 span 9.
    window = Window.of((4,), 3, stride=2, input_dilation=2, padding="SAME")
    assert (window.pads, window.output) == ((oracle.same(7, 3, 2),), (4,))
    assert window.pads == ((1, 1),)


@pytest.mark.parametrize(
    ("padding", "pads"),
    [
        (2, ((2, 2), (2, 2))),
        ((1, 2), ((1, 1), (2, 2))),
        ([1, (2, 3)], ((1, 1), (2, 3))),
        (((0, 1), (2, 3)), ((0, 1), (2, 3))),
        ((np.int64(1), 2), ((1, 1), (2, 2))),
    ],
    ids=["one_int", "int_per_axis", "mixed", "pair_per_axis", "numpy_int"],
)
def test_padding_by_numbers(padding, pads):
    window = Window.of((5, 6), (3, 3), padding=padding)
    assert window.pads == pads
    assert all(type(side) is int for pair in window.pads for side in pair)
    assert hash(window) == hash(dataclasses.replace(window))


def test_arrays_are_sequences():
    ints, pairs = np.array([2, 1]), np.array([[1, 0], [2, 2]])
    window = Window.of((5, 6), ints, stride=ints, dilation=np.int64(2), padding=pairs)
    assert window == Window.of((5, 6), (2, 1), stride=(2, 1), dilation=2, padding=[(1, 0), (2, 2)])
    window = Window.transposed((5, 6), 3, stride=ints, padding=ints, output_padding=ints - 1)
    assert window == Window.transposed(
        (5, 6), 3, stride=(2, 1), padding=(2, 1), output_padding=(1, 0)
    )
    assert hash(window)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("SAME", "SAME"),
        (None, None),
        ([1, [2, 3]], (1, (2, 3))),
        (np.array([[1, 0], [2, 2]]), ((1, 0), (2, 2))),
        ((np.int64(1), (np.int32(2), 3)), (1, (2, 3))),
        ([np.array([1, 2]), None], ((1, 2), None)),
        (jnp.array([1, 2]), (1, 2)),
        (np.array(3), 3),
        (np.array([0.5, 2.0]), (0.5, 2.0)),
        (np.float32(0.5), 0.5),
    ],
)
def test_hashable_leaves_tuples_and_pythons_numbers(value, expected):
    found = hashable(value)
    assert repr(found) == repr(expected)  # 1, np.int64(1) and 1.0 are equal, and have one hash
    assert hash(found) == hash(expected)


def test_hashable_leaves_a_traced_number_to_its_reader():
    with pytest.raises(ValueError, match=r"^window: each entry of padding must be an int or a"):
        jax.jit(lambda padding: Window.of((5,), 3, padding=padding).size)(jnp.array([1]))


@any_axis
def test_ceil_mode_adds_the_window_that_pytorch_adds(axis):
    lo, hi = (max(side, 0) for side in axis.pad)
    places = windows(axis.input, axis.size, axis.stride, axis.dilation, (lo, hi), True)
    assume(places and axis.input)
    options = {"stride": axis.stride, "dilation": axis.dilation, "padding": ((lo, hi),)}
    window = Window.of((axis.input,), axis.size, **options, ceil_mode=True)
    assert window.output == (len(places),)
    assert window.pads[0][0] == lo
    assert window.pads[0][1] >= hi


@given(axis=axes, extra=small)
def test_transposed_is_the_convolution_that_gives_the_output_back(axis, extra):
    lo, hi = (max(side, 0) for side in axis.pad)
    span = axis.dilation * (axis.size - 1) + 1
    pytorch = (axis.input - 1) * axis.stride - lo - hi + span + extra
    assume(axis.input and pytorch > 0 and extra < max(axis.stride, axis.dilation))
    options = {"stride": axis.stride, "dilation": axis.dilation, "padding": ((lo, hi),)}
    window = Window.transposed((axis.input,), axis.size, **options, output_padding=extra)
    assert window.input == (pytorch,)
    assert window.output == (axis.input,)
    assert window.pads[0][0] == lo


@given(n=positive, size=positive, stride=positive, dilation=positive)
def test_transposed_same_multiplies_by_the_stride(n, size, stride, dilation):
    window = Window.transposed((n,), size, stride=stride, dilation=dilation, padding="SAME")
    assert (window.input, window.output) == ((n * stride,), (n,))
    assert window.pads == (oracle.same(n * stride, size, stride, dilation),)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": (3,)}, r"window must be an int or one int for each of 2 .*; got \(3,\)"),
        ({"stride": (1, 2, 3)}, r"stride must be an int or one int for each of 2 spatial axes"),
        ({"stride": 0}, r"stride must be at least 1; got stride=0"),
        ({"dilation": (1, -1)}, r"dilation must be at least 1; got dilation=\(1, -1\)"),
        ({"input_dilation": 0}, r"input_dilation must be at least 1"),
        ({"stride": 1.5}, r"stride must be an int or 2 ints; got 1.5"),
        ({"stride": True}, r"stride must be an int or 2 ints; got True"),
        ({"stride": "12"}, r"stride must be an int or"),
        ({"padding": "CIRCULAR"}, r"that is padding_mode, of jconv.conv and jconv.pad"),
        ({"stride": np.ones(2)}, r"stride must be an int or 2 ints; got array\(\[1., 1.\]\)"),
        ({"stride": np.ones(3, int)}, r"stride must be .* each of 2 spatial axes; got array"),
        ({"padding": "SMAE"}, r"must be one of SAME, SAME_LOWER, VALID, CAUSAL, .*got 'SMAE'"),
        ({"padding": (1,)}, r"padding must have one entry, .*for each of 2 .*; got \(1,\)"),
        ({"padding": (1, (2, 3, 4))}, r"each entry of padding must be an int or a \(lo, hi\) pair"),
        ({"padding": (1, "ab")}, r"each entry of padding must be an int or a \(lo, hi\) pair"),
        ({"padding": 1.0}, r"entry of padding must be an int or a \(lo, hi\) pair; got 1.0"),
        ({"padding": -1}, r"padding must not be negative .*got -1"),
        ({"padding": ((0, 0), (0, -2))}, r"padding must not be negative .*\(0, -2\)"),
        ({"size": 6}, r"\(6, 6\) taps .* does not fit in an input of \(5, 6\)"),
        ({"size": 9, "stride": 2, "ceil_mode": True}, r"input of \(5, 6\), \(5, 6\) with its"),
        ({"size": 3, "dilation": 3}, r"spanning \(7, 7\) pixels does not fit in"),
    ],
)  # fmt: skip
def test_says_what_is_wrong(arguments, message):
    with pytest.raises(ValueError, match=f"^pool: .*{message}"):
        Window.of((5, 6), **{"size": 2, "op": "pool", **arguments})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"output_padding": 2}, r"output_padding must be smaller than stride or .*=2, "),
        ({"output_padding": -1}, r"output_padding must be at least 0; got output_padding=-1"),
        ({"output_padding": 1, "padding": "SAME"}, r'output_padding must be 0 with padding="SAME"'),
        ({"padding": 4}, r"padding \(\(4, 4\), \(4, 4\)\) leaves no pixel of the output"),
        ({"padding": "SAMEE"}, r"padding must be one of"),
        ({"stride": 0}, r"stride must be at least 1"),
    ],
)  # fmt: skip
def test_transposed_says_what_is_wrong(arguments, message):
    with pytest.raises(ValueError, match=f"^conv_transpose: {message}"):
        Window.transposed((3, 3), 2, **{"stride": 2, "padding": 0, **arguments})
