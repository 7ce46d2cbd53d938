"""Each formulation of convolution for XLA alone, with its gradients, against the definition."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from jax.test_util import check_grads

import jconv
from jconv.algorithms import chunks, depthwise
from jconv.bench.cases import CASES as CASES_OF_SPEED
from jconv.bench.programs import chosen as chosen_for
from jconv.core.primitive import OPERATIONS
from tests.ops.conv_cases import Case
from tests.oracles import conv as oracle
from tests.tolerance import assert_close

DEPTHWISE = {"x": (2, 7, 6, 3), "groups": 3, "k": 3}
CASES = {
    "depthwise": Case(**DEPTHWISE),
    "depthwise stride": Case(**DEPTHWISE, window=(5, 3), stride=(2, 3), padding=((2, 1), (0, 4))),
    "depthwise dilation": Case(**DEPTHWISE, window=(3, 4), dilation=(2, 1), stride=(3, 1)),
    "depthwise input_dilation": Case(**DEPTHWISE, input_dilation=(2, 3), padding=((0, 3), (2, 1))),
    "depthwise many_rows": Case(x=(2, 19, 2), window=(3,), groups=2, k=2),
    "pointwise": Case(window=(1, 1)),
    "pointwise stride": Case(window=(1, 1), stride=(2, 3), padding=((2, 1), (0, 3))),
    "pointwise padding": Case(window=(1, 1), padding=((1, 2), (3, 0)), dilation=2),
    "pointwise input_dilation": Case(
        window=(1, 1), k=3, input_dilation=(2, 3), padding=((1, 0), (0, 2))
    ),
    "pointwise one_axis": Case(x=(3, 5, 2), window=(1,), k=7, stride=2, padding="VALID"),
    "rows": Case(),
    "rows stride": Case(x=(2, 7, 6, 3), window=(3, 5), stride=(2, 3), padding=((4, 3), (1, 5))),
    "rows groups": Case(x=(2, 5, 7, 6), groups=3, k=6, stride=(1, 2), dilation=(2, 1)),
    "rows input_dilation": Case(input_dilation=(2, 3), groups=2, padding=((1, 0), (2, 3))),
    "rows pointwise": Case(window=(1, 1), stride=(3, 2), padding="VALID"),
    "rows narrow": Case(x=(2, 4, 5, 1), k=8, padding=2),
    "rows wide": Case(x=(2, 4, 5, 100), k=2),
    "rows one_axis": Case(x=(2, 9, 4), window=(3,), k=4, stride=2, groups=2, padding=((1, 2),)),
    "rows three_axes": Case(x=(1, 4, 5, 3, 2), window=(2, 2, 3), k=3, stride=(1, 2, 1)),
    "phases": Case(window=(5, 4), input_dilation=2, padding=((3, 1), (0, 2))),
    "phases common_factor": Case(window=(3, 4), input_dilation=(4, 3), dilation=(2, 3), padding=3),
    "phases without_taps": Case(window=(2, 1), input_dilation=(3, 2), padding=1),
    "phases stride": Case(window=(4, 3), stride=(2, 3), groups=2),
    "planes": Case(x=(2, 4, 5, 3, 2), window=(3, 2, 3), k=3, dilation=(1, 2, 1)),
    "planes stride": Case(
        x=(1, 5, 4, 6, 2), window=(3, 3, 1), k=3, stride=2, padding=((2, 0), 1, 0)
    ),
}  # fmt: skip
ON_DEMAND = (
    "depthwise", "depthwise many_rows", "rows", "rows input_dilation", "rows pointwise",
    "rows one_axis", "rows three_axes", "phases", "phases stride", "planes stride",
    "pointwise",
)  # fmt: skip
each_case = pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n in ON_DEMAND else n for n in CASES]
)


def step(name, **options):
    """y, dx and dw, all by the formulation if it has the pass."""

    def run(x, w, dy):
        f = functools.partial(jconv.conv, implementation=name.split()[0], **options)
        y, vjp = jax.vjp(f, x, w)
        return y, *vjp(dy)

    return run


def operands(case, key, dtype):
    x, w = case.arrays(key, dtype)
    shape = case.expected(x, w).shape
    return x, w, jax.random.normal(key, shape, jnp.float32).astype(dtype)


def check(name, key, dtype):
    case = CASES[name]
    x, w, dy = operands(case, key, dtype)
    y, dx, dw = jax.jit(step(name, **case.options))(x, w, dy)
    assert (y.dtype, dx.dtype, dw.dtype) == (x.dtype,) * 3
    assert_close(y, case.expected(x, w), terms=case.terms)
    dx_expected = oracle.input_grad(dy, w, input=case.x[1:-1], **case.definition)
    assert_close(dx, dx_expected, terms=case.terms * case.k)
    dw_expected = oracle.filter_grad(x, dy, window=case.window, **case.definition)
    assert_close(dw, dw_expected, terms=dy[..., 0].size)


@each_case
def test_matches_definition(name, key):
    check(name, key, "float32")


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
@pytest.mark.parametrize(
    "name", ["depthwise stride", "pointwise stride", "rows groups", "phases", "planes"]
)
def test_matches_definition_in_other_dtypes(name, dtype, key, x64):
    check(name, key, dtype)


@pytest.mark.parametrize("name", ["rows narrow", "pointwise padding"])
def test_sums_of_bfloat16_are_float32(name, key):
    check(name, key, "bfloat16")


@pytest.mark.parametrize(
    "name", ["depthwise stride", "rows narrow", pytest.param("phases", marks=pytest.mark.slow)]
)
def test_in_chunks_of_one_example(name, key, monkeypatch):
    monkeypatch.setattr(depthwise, "WHOLE", 0)
    monkeypatch.setattr(chunks, "length", lambda *args: 1)
    check(name, key, "float32")
    x, w, dy = operands(CASES[name], key, "float32")
    assert "while" in str(jax.jit(step(name, **CASES[name].options)).lower(x, w, dy).as_text())


@pytest.mark.parametrize(("pixels", "loops"), [((16, 6, 6, 384), False), ((32, 7, 7, 768), True)])
def test_a_depthwise_convolution_loops_over_examples_where_they_are_many(pixels, loops):
    """Of the second the result has 5 MiB, and the image 16 when it is padded for 7x7 taps."""
    types = [jax.ShapeDtypeStruct(s, jnp.float32) for s in (pixels, (7, 7, 1, pixels[-1]))]
    f = functools.partial(jconv.conv, groups=pixels[-1], implementation="depthwise")
    assert ("stablehlo.while" in jax.jit(f).lower(*types).as_text()) == loops


@pytest.mark.slow
@pytest.mark.parametrize("name", ["depthwise input_dilation", "pointwise stride", "rows groups"])
def test_second_derivatives(name, key, x64):
    case = CASES[name]
    x, w, _ = operands(case, key, "float64")
    f = functools.partial(jconv.conv, implementation=name.split()[0], **case.options)
    check_grads(jax.jit(f), (x, w), 2, eps=1e-3, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("examples", "bytes", "expected"), [(32, 100, 8), (31, 100, 1), (6, 100, 6), (8, 5000, 1)]
)
def test_chunks_divide_the_examples(examples, bytes, expected):
    assert chunks.length(examples, bytes, 1000) == expected


def test_negative_padding_crops(key):
    """The input gradient of a convolution whose padding is wider than its filter."""
    case = Case(x=(1, 6, 5, 2), window=(2, 2), k=2, groups=2, padding=((4, 3), (5, 2)))
    x, w, dy = operands(case, key, "float32")
    expected = oracle.input_grad(dy, w, input=case.x[1:-1], **case.definition)
    for name in ("depthwise", "rows"):
        dx = jax.jit(step(name, **case.options))(x, w, dy)[1]
        assert_close(dx, expected, terms=8)


@pytest.mark.devices
@pytest.mark.parametrize("name", ["depthwise", "rows"])
def test_within_shard_map(name, key, monkeypatch):
    """The loops' sums vary over the mesh as their terms do."""
    monkeypatch.setattr(depthwise, "WHOLE", 0)
    monkeypatch.setattr(chunks, "length", lambda *args: 1)
    x, w = Case(x=(4, 5, 4, 4), groups=4, k=4).arrays(key, "float32")
    run = step(name, groups=4)
    mesh = jax.make_mesh((2,), ("d",), axis_types=(AxisType.Auto,))
    specs = P("d"), P(), P("d")
    over = jax.shard_map(
        lambda *a: (*run(*a)[:2], run(*a)[2][None]), mesh=mesh, in_specs=specs,
        out_specs=P("d"), check_vma=True,
    )  # fmt: skip
    y, dx, dw = jax.jit(over)(x, w, x)
    for actual, expected in zip((y, dx, dw[0]), jax.jit(run)(x, w, x), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


def test_a_pointwise_convolution_is_one_product():
    """Of the operands as they are: neither a loop nor a copy of either."""
    x, w = jax.ShapeDtypeStruct((4, 8, 8, 32), jnp.float32), jnp.zeros((1, 1, 32, 64))
    f = functools.partial(jconv.conv, implementation="pointwise")
    compiled = jax.jit(f).lower(x, w).compile()
    assert " convolution(" not in compiled.as_text()
    assert compiled.memory_analysis().temp_size_in_bytes == 0


LARGE = {"x": (8, 28, 28, 256), "w": (3, 3, 8, 256)}


def chosen(platform="cpu", groups=32, shapes=LARGE):
    types = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes.values())
    f = functools.partial(jconv.conv, groups=groups)
    (choice,) = jconv.explain_choice(f, *types, platform=platform)
    return choice


@pytest.fixture
def on_xla_alone(monkeypatch):
    """As where the extension is not built."""
    for op in OPERATIONS.values():
        table = tuple(row for row in op.table if not row.name.startswith("onednn"))
        monkeypatch.setattr(op, "table", table)


@pytest.mark.usefixtures("on_xla_alone")
def test_chosen_on_a_cpu_alone():
    assert chosen().implementation == "rows"
    assert chosen("cuda").implementation == "direct"
    assert ("rows", "only on cpu") in chosen("cuda").rejected


@pytest.mark.parametrize(
    ("case", "rows"),
    [
        ("c3_56x64", "winograd winograd winograd"),
        ("c3_7x512", "rows rows rows"),
        ("c3s2_56x64", "direct rows rows"),
        ("stem7s2", "direct phases im2col"),
        ("patch4s4", "direct direct rows"),
        ("c1_56_64_256", "pointwise pointwise pointwise"),
        ("c1_14_1024_256", "pointwise pointwise pointwise"),
        ("c1s2_56_64_128", "direct pointwise pointwise"),
        ("c1_24_32_192", "pointwise pointwise pointwise"),
        ("c1_24_192_32", "pointwise pointwise pointwise"),
        ("c1_14_1024_256_bf16", "direct direct rows"),
        ("dw3s2_56x128", "depthwise depthwise depthwise"),
        ("g32_28x256", "rows rows rows"),
        ("conv3d", "planes planes planes"),
        ("tc4s2_28_128_64", "rows direct rows"),
        ("c5_28_1_32", "direct direct im2col"),
        ("r_8x64", "winograd winograd winograd"),
        ("c3_128x64", "winograd winograd winograd"),
        ("lenet_c3", "direct direct direct"),
    ],
)
@pytest.mark.usefixtures("on_xla_alone")
def test_what_was_measured_to_win_is_chosen(case, rows):
    found = [chosen_for(CASES_OF_SPEED[case], pass_) for pass_ in ("fwd", "dx", "dw")]
    assert [name.partition(": ")[2] for (name,) in found] == rows.split()


@pytest.mark.parametrize(
    ("pixels", "row"), [((16, 3, 3, 960), "depthwise"), ((17, 5, 4, 8), "depthwise"),
                        ((1, 5, 4, 8), "direct")],
)  # fmt: skip
@pytest.mark.usefixtures("on_xla_alone")
def test_small_depthwise_convolutions_are_no_grouped_ones(pixels, row):
    """XLA's take up to 300 times as long; only tiny ones are not worth compiling."""
    channels = pixels[-1]
    choice = chosen(groups=channels, shapes={"x": pixels, "w": (3, 3, 1, channels)})
    assert choice.implementation == row


@pytest.mark.devices
@pytest.mark.usefixtures("on_xla_alone")
def test_not_chosen_where_xla_splits_the_program_or_it_is_exported():
    f = jax.jit(functools.partial(jconv.conv, groups=32))
    types = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in LARGE.values()]
    assert "stablehlo.while" in f.lower(*types).as_text()
    mesh = jax.make_mesh((8,), ("d",), axis_types=(AxisType.Auto,))
    shardings = (NamedSharding(mesh, spec) for spec in (P("d"), P()))
    split = [t.update(sharding=s) for t, s in zip(types, shardings, strict=True)]
    assert "stablehlo.while" not in f.lower(*split).as_text()
    assert "stablehlo.while" not in str(export.export(f)(*types).mlir_module())


@pytest.mark.parametrize(
    ("name", "case", "dtype", "message"),
    [
        ("depthwise", Case(groups=2), "float32", "only for one channel into and one out of each"),
        ("rows", Case(stride=2, input_dilation=2), "float32", "not for stride and input_dilation"),
        ("pointwise", Case(), "float32", "only for filters of one tap"),
        ("pointwise", Case(window=(1, 1), groups=2), "float32", "only one group"),
        ("rows", Case(x=(1, 12, 12, 1), window=(12, 11)), "float32", "of at most 128 taps"),
        ("rows", Case(x=(0, 5, 6, 4)), "float32", "nothing to compute"),
        ("rows", Case(), "int32", "only for real floating-point numbers"),
        ("planes", Case(), "float32", "only for three spatial axes and one group"),
    ],
)  # fmt: skip
def test_says_what_it_does_not_compute(name, case, dtype, message):
    x, w = jnp.zeros(case.x, dtype), jnp.zeros(case.w, dtype)
    with pytest.raises(NotImplementedError, match=f"implementation '{name}' .*{message}"):
        jconv.conv(x, w, implementation=name, **case.options)


@pytest.mark.devices
def test_says_that_it_computes_no_operands_that_explicit_axes_split():
    mesh = jax.make_mesh((2,), ("d",), axis_types=(AxisType.Explicit,))
    x, w = jnp.zeros((2, 5, 6, 4)), jnp.zeros((3, 3, 4, 4))
    with jax.set_mesh(mesh):
        x, w = jax.device_put(x, NamedSharding(mesh, P("d"))), jax.device_put(w, P())
        with pytest.raises(NotImplementedError, match="that explicit axes split"):
            jconv.conv(x, w, implementation="rows")


def test_symbolic_sizes_are_computed_by_xla():
    f = jax.jit(functools.partial(jconv.conv, groups=32))
    n, h = export.symbolic_shape("n, h")
    x = jax.ShapeDtypeStruct((n, h, 28, 256), jnp.float32)
    (choice,) = jconv.explain_choice(f, x, jnp.zeros(LARGE["w"]))
    assert choice.implementation == "direct"
    assert ("rows", "only for sizes that are known when it is compiled") in choice.rejected
