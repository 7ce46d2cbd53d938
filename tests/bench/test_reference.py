"""The reference that results are judged by: against the oracles, and how it judges."""

from __future__ import annotations

import dataclasses
import math

import jax
import numpy as np
import pytest

from jconv.bench.cases import CONVOLUTIONS, NORMS
from jconv.bench.programs import operands, ours
from jconv.bench.reference import EPSILON, expected
from tests.bench.made_up import TINY
from tests.oracles import conv as oracle
from tests.oracles import norm, pool

EVERY = [(name, pass_) for name, case in TINY.items() for pass_ in case.passes]
each_pass = pytest.mark.parametrize(("name", "pass_"), EVERY)


def by_the_oracle(case, pass_, arrays):
    """The whole result of a convolution's pass, or of a forward pass."""
    if case.op in NORMS:
        x, scale, bias = arrays
        if case.op == "batch_norm":
            return norm.batch_norm(x, scale, bias, epsilon=EPSILON)[0]
        unit = (
            norm.layer_norm(x, [x.ndim - 1], epsilon=EPSILON)
            if case.op == "layer_norm"
            else norm.group_norm(x, case.groups, epsilon=EPSILON)
        )
        return unit * scale + bias
    axes = len(case.x) - 2
    options = {"stride": [case.stride] * axes, "pads": [(case.padding,) * 2] * axes}
    if case.op not in CONVOLUTIONS:
        window = [case.window] * axes
        if case.op == "max_pool":
            return pool.max_pool(arrays[0], window=window, dilation=[1] * axes, **options)[0]
        return pool.avg_pool(arrays[0], window=window, **options)
    options |= {"dilation": [case.dilation] * axes, "groups": case.groups}
    transposed = case.op == "conv_transpose"
    if pass_ == "dw":
        x, dy = arrays[::-1] if transposed else arrays
        return oracle.filter_grad(x, dy, window=case.w[:-2], **options)
    if (pass_ == "dx") == transposed:
        return oracle.conv(*arrays, **options)
    image = case.output if transposed else case.x
    return oracle.input_grad(*arrays, input=image[1:-1], **options)


@pytest.mark.parametrize(("name", "pass_"), [each for each in EVERY if each[1] != "full"])
def test_is_a_sample_of_the_oracles_result(name, pass_):
    case = TINY[name]
    arrays = operands(case, pass_)
    right, whole = expected(case, pass_, arrays), by_the_oracle(case, pass_, arrays)
    np.testing.assert_allclose(right.values[0], whole[right.at[0]], rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("x64")
@each_pass
def test_agrees_with_jconv_in_float64(name, pass_):
    case = dataclasses.replace(TINY[name], dtype="float64")
    arrays = [array.astype(np.float64) for array in operands(TINY[name], pass_)]
    results = jax.jit(ours(case, pass_))(*arrays)
    assert expected(case, pass_, arrays).error(results) < 1e-13


@each_pass
def test_finds_what_is_wrong(name, pass_):
    """One entry in a thousandth of the largest: far less than a missing tap would do."""
    case, arrays = TINY[name], operands(TINY[name], pass_)
    right = expected(case, pass_, arrays)
    results = [np.asarray(result) for result in ours(case, pass_)(*arrays)]
    assert right.error(results) <= right.tolerance
    for number in range(len(results)):
        wrong = [result.copy() for result in results]
        wrong[number].flat[0] += 1e-3 * np.abs(wrong[number]).max()
        assert right.error(wrong) > right.tolerance


def test_another_shape_and_nan_are_infinitely_wrong():
    arrays = operands(TINY["plain"], "fwd")
    right = expected(TINY["plain"], "fwd", arrays)
    (y,) = (np.asarray(result) for result in ours(TINY["plain"], "fwd")(*arrays))
    assert right.error([y[:, :-1]]) == math.inf
    y = y.copy()
    y[0, 0, 0, 0] = np.nan
    assert right.error([y]) == math.inf


def test_inputs_are_the_same_at_every_call():
    first, second = operands(TINY["plain"], "dx"), operands(TINY["plain"], "dx")
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first[1], operands(TINY["plain"], "fwd")[1])


def test_bfloat16_operands_are_bfloat16_numbers():
    case = dataclasses.replace(TINY["plain"], dtype="bfloat16")
    for array in operands(case, "fwd"):
        assert array.dtype == np.float32
        assert not (array.view(np.uint32) & 0xFFFF).any()
