"""The cases as data: their number, their shapes on all sides, and how they are selected."""

from __future__ import annotations

import jax
import pytest

from jconv.bench.cases import CASES, NORMS, POOLS, QUICK, SUITE, pairs, select
from jconv.bench.programs import ours, shapes, stock
from tests.bench.made_up import TINY
from tests.oracles.padding import output_size


def test_the_suite_stays_as_it_is():
    """78 passes: figures of years apart compare only over the same ones."""
    assert len(list(pairs(SUITE))) == 78
    assert sum(SUITE[name].op == "conv" for name in SUITE) == 20
    assert set(QUICK) <= set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_output_is_the_definitions(name):
    case = CASES[name]
    if case.op in NORMS:
        assert case.output == case.x
        return
    image, output = (case.output, case.x) if case.op == "conv_transpose" else (case.x, case.output)
    window = case.w[:-2] or (case.window,) * (len(case.x) - 2)
    pads = (case.padding, case.padding)
    assert output[1:-1] == tuple(
        output_size(n, r, case.stride, case.dilation, pads)
        for n, r in zip(image[1:-1], window, strict=True)
    )


@pytest.mark.parametrize(("name", "pass_"), [(name, pass_) for name, _, pass_ in pairs(CASES)])
def test_both_sides_give_the_same_shapes(name, pass_):
    case = CASES[name]
    args = [jax.ShapeDtypeStruct(shape, case.dtype) for shape in shapes(case, pass_)]
    found = jax.eval_shape(ours(case, pass_), *args)
    assert found == jax.eval_shape(stock(case, pass_), *args)
    first = {"fwd": case.output, "dx": case.x, "dw": case.w, "full": case.output}[pass_]
    assert found[0].shape == first
    assert found[0].dtype == case.dtype


def test_every_kind_of_operation_has_a_family():
    families = {name: case.family for name, case in CASES.items()}
    assert families["c3_56x64"] == families["conv1d"] == "dense"
    assert families["c1s2_56_64_128"] == "pointwise"
    assert families["dw3_56x128"] == "depthwise"
    assert families["g32_28x256"] == "grouped"
    assert families["tc2s2_28_128_64"] == "transposed"
    assert families["c3_28x128_bf16"] == "bfloat16"
    assert {case.op for case in CASES.values()} == {"conv", "conv_transpose", *POOLS, *NORMS}


def test_select():
    assert select([]) == list(CASES)
    assert select([], QUICK) == list(QUICK)
    assert select(["tc4s2_28_128_64", "c3_56x64"]) == ["c3_56x64", "tc4s2_28_128_64"]
    assert select(["depthwise"], SUITE) == [
        "dw3_56x128", "dw3s2_56x128", "dw5_28x240", "dw7_28x192"
    ]  # fmt: skip
    assert select(["lenet_c1", "max_pool"], SUITE) == ["lenet_c1", "maxpool2", "maxpool3s2"]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("depthwyse", "did you mean depthwise.* got 'depthwyse'; families: dense, pointwise"),
        ("", "ops must be names of cases, operations or families; got ''"),
    ],
)
def test_says_which_names_there_are(word, message):
    with pytest.raises(ValueError, match=message):
        select(["pool", word])


def test_tiny_cases_reach_every_branch():
    assert {case.op for case in TINY.values()} == {case.op for case in CASES.values()}
