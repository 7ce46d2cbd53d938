"""Convolutions as products of matrices, in Triton's interpreter: the oracle and the definitions."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jconv
from tests.kernels.triton.calls import interpreted
from tests.ops.conv_cases import Case
from tests.tolerance import assert_close

pytestmark = interpreted

CASES = {
    "plain": Case(),
    "several_tiles": Case(x=(3, 8, 7, 70), k=130, window=(1, 2)),
    "strided": Case(x=(2, 9, 7, 5), k=6, stride=(2, 3), padding="VALID"),
    "stride_beyond_the_window": Case(x=(1, 8, 9, 4), window=(2, 1), stride=3),
    "dilated_and_strided": Case(
        x=(1, 11, 9, 4), window=(3, 2), dilation=(2, 3), stride=(4, 2), padding=((3, 1), 2)
    ),
    "pads_wider_than_window": Case(padding=((4, 3), (5, 2)), stride=(2, 1)),
    "groups": Case(x=(2, 6, 5, 6), k=9, groups=3, stride=(1, 2)),
    "depthwise_with_a_multiplier": Case(groups=4, k=8),
    "one_axis": Case(x=(2, 9, 4), window=(3,), k=4, stride=2, padding=((1, 2),)),
    "three_axes": Case(x=(1, 4, 5, 3, 2), window=(2, 2, 3), k=3, stride=(1, 2, 1)),
}
each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def passes(case, name, precision=None):
    """y, dx and dw for one dy, all by one implementation."""
    conv = functools.partial(jconv.conv, **case.options, implementation=name, precision=precision)

    def run(x, w):
        y, back = jax.vjp(conv, x, w)
        dy = jnp.cos(jnp.arange(y.size, dtype="float32")).reshape(y.shape)
        return y, *back(dy.astype(y.dtype))

    return run


@each_case
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_all_three_directions(case, dtype, key):
    x, w = case.arrays(key, dtype)
    y, dx, dw = jax.jit(passes(case, "triton"))(x, w)
    wide = x.astype("float32"), w.astype("float32")
    expected = jax.jit(passes(case, "direct", "highest"))(*wide)
    taps, sums = int(np.prod(case.window)), int(np.prod(y.shape[:-1]))
    counts = case.terms, taps * case.k // case.groups, sums
    # dy is rounded in bfloat16, and the products of these roundings add up as others do.
    for a, e, terms in zip((y, dx, dw), expected, counts, strict=True):
        assert a.dtype == dtype
        error = np.abs(np.asarray(a, np.float64) - np.asarray(e, np.float64))
        rounding = 2**-8 if dtype == "bfloat16" else 2**-22
        assert error.max() <= rounding * 4 * np.sqrt(terms) * np.abs(e).max()


def test_matches_the_oracle(key):
    case = CASES["dilated_and_strided"]
    x, w = case.arrays(key, "float32")
    y = jconv.conv(x, w, **case.options, implementation="triton")
    assert_close(y, case.expected(x, w), terms=case.terms)


def total(f):
    return lambda *args: jnp.sum(f(*args))


TRANSFORMED = {
    "grad": lambda f: jax.grad(total(f)),
    "jvp": lambda f: lambda x, w: jax.jvp(f, (x, w), (jnp.cos(x), jnp.sin(w))),
    "hessian_product": lambda f: (
        lambda x, w: jax.jvp(jax.grad(total(f), 1), (x, w), (jnp.cos(x), w))
    ),
    "vmap_of_both": lambda f: (
        lambda x, w: jax.vmap(jax.grad(total(f)))(jnp.stack([x, -x]), jnp.stack([w, 2 * w]))
    ),
    "vmap_of_filters": lambda f: (
        lambda x, w: jax.vmap(jax.grad(total(f), (0, 1)), (None, 0))(x, jnp.stack([w, 2 * w]))
    ),
    "remat": lambda f: jax.grad(jax.checkpoint(total(f))),
}


@pytest.mark.parametrize("transform", TRANSFORMED.values(), ids=TRANSFORMED)
def test_under_transformations(transform, key):
    case = CASES["strided"]
    x, w = case.arrays(key, "float32")

    def wave(x, w, name):
        return jnp.sin(jconv.conv(x, w, **case.options, implementation=name))

    found, expected = (
        jax.jit(transform(functools.partial(wave, name=name)))(x, w)
        for name in ("triton", "direct")
    )
    jax.tree.map(functools.partial(assert_close, terms=1000), found, expected)


def test_a_wider_result(key):
    case = CASES["plain"]
    x, w = case.arrays(key, "bfloat16")
    run = functools.partial(jconv.conv, **case.options, preferred_element_type="float32")
    y = run(x, w, implementation="triton")
    assert y.dtype == "float32"
    assert_close(y, run(x, w, implementation="direct"), terms=case.terms)


@pytest.mark.devices
@pytest.mark.parametrize(
    ("image", "filter"),
    [(P("d"), P()), (P(), P(None, None, None, "d"))],
    ids=["examples", "features"],
)
def test_split_over_devices(image, filter, key):
    """Explicit axes: under automatic ones a callback, the interpreter's, is freed too early."""
    case = CASES["plain"]
    mesh = jax.make_mesh((2,), ("d",), axis_types=(AxisType.Explicit,))
    arrays = case.arrays(key, "float32")

    def both(x, w, name):
        conv = functools.partial(jconv.conv, **case.options, implementation=name)
        return conv(x, w), jax.grad(total(lambda x, w: jnp.sin(conv(x, w))), (0, 1))(x, w)

    expected = jax.jit(functools.partial(both, name="direct"))(*arrays)
    with jax.set_mesh(mesh):
        x, w = (
            jax.device_put(a, NamedSharding(mesh, spec))
            for a, spec in zip(arrays, (image, filter), strict=True)
        )
        compiled = jax.jit(functools.partial(both, name="triton")).lower(x, w).compile()
        found = compiled(x, w)
    jax.tree.map(functools.partial(assert_close, terms=200), found, expected)
    assert "all-gather" not in compiled.as_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"input_dilation": 2}, r"only input_dilation 1, got \(2, 2\)"),
        ({"precision": "BF16_BF16_F32"}, "only precisions of jax.lax.Precision, got"),
    ],
)
def test_says_why_not(options, message):
    case = Case()
    with pytest.raises(NotImplementedError, match=f"'triton' can't compute this call: {message}"):
        jconv.conv(jnp.zeros(case.x), jnp.zeros(case.w), **options, implementation="triton")
