"""The norms against PyTorch's, values and gradients, and its modules with their state."""

from __future__ import annotations

import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st

from jconv import nn
from jconv.nn.weight_norms import SpectralNorm, WeightNorm
from jconv.ops.layer_norms import group_norm, instance_norm, layer_norm, rms_norm
from jconv.ops.norm import batch_norm
from jconv.ops.response_norms import local_response_norm
from jconv.ops.weight_norms import spectral_norm, weight_norm, weight_standardize
from tests.parity.compare import (
    assert_same,
    channels_first,
    channels_last,
    few,
    filter_from_torch,
    filter_to_torch,
    with_grads,
)
from tests.parity.conftest import DEFAULT

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("x64")]


# Few shapes and epsilons, each of which is compiled; the numbers are drawn.
SHAPES = ((3, 4, 2), (1, 5, 3), (2, 3, 2, 4), (1, 2, 2, 3, 6))


@st.composite
def images(draw):
    shape = draw(st.sampled_from(SHAPES))
    divisors = [g for g in range(1, shape[-1] + 1) if shape[-1] % g == 0]
    return {
        "shape": shape, "groups": draw(st.sampled_from(divisors)),
        "epsilon": draw(st.sampled_from([1e-5, 0.5])), "seed": draw(st.integers(0, 99)),
    }  # fmt: skip


def arrays(case):
    random = np.random.default_rng(case["seed"])
    c = case["shape"][-1]
    x = random.normal(size=case["shape"]) * random.uniform(0.1, 3, c) + random.normal(size=c)
    return x, random.normal(size=c), random.normal(size=c)


def compare(f, x, parameters, found):
    """y and the gradients of x and the parameters, as they are."""
    y, grads = with_grads(f, x, *parameters)
    (theirs, *_), (dx, *others) = found
    assert_same(y, channels_last(theirs))
    assert_same(grads[0], channels_last(dx))
    for ours, their in zip(grads[1:], others, strict=True):
        assert_same(ours, their)


@given(case=images())
@few
def test_group_norm(torch, case):
    x, scale, bias = arrays(case)
    groups, epsilon = case["groups"], case["epsilon"]
    theirs = torch("nn.functional.group_norm", channels_first(x), groups, scale, bias, epsilon)
    compare(lambda *a: group_norm(*a, groups=groups, epsilon=epsilon), x, (scale, bias), theirs)


@given(case=images())
@few
def test_batch_and_instance_norm(torch, case):
    x, scale, bias = arrays(case)
    epsilon, first = case["epsilon"], channels_first(x)
    running = {"training": True, "eps": epsilon}
    theirs = torch("nn.functional.batch_norm", first, None, None, scale, bias, **running)
    compare(lambda *a: batch_norm(*a, epsilon=epsilon)[0], x, (scale, bias), theirs)
    theirs = torch("nn.functional.instance_norm", first, weight=scale, bias=bias, eps=epsilon)
    compare(lambda *a: instance_norm(*a, epsilon=epsilon), x, (scale, bias), theirs)


@given(case=images(), over=st.integers(1, 3))
@few
def test_layer_and_rms_norm(torch, case, over):
    """Over the last one to three axes, which PyTorch has where they are here."""
    x, _, _ = arrays(case)
    axes = tuple(range(-min(over, x.ndim), 0))
    shape = x.shape[axes[0] :]
    scale, bias = np.random.default_rng(1).normal(size=(2, *shape))
    options = {"axes": axes, "epsilon": case["epsilon"]}
    (y,), grads = torch("nn.functional.layer_norm", x, shape, scale, bias, case["epsilon"])
    ours, our_grads = with_grads(lambda *a: layer_norm(*a, **options), x, scale, bias, last=False)
    for a, e in zip((ours, *our_grads), (y, *grads), strict=True):
        assert_same(a, e)
    (y,), grads = torch("nn.functional.rms_norm", x, shape, scale, case["epsilon"])
    ours, our_grads = with_grads(lambda *a: rms_norm(*a, **options), x, scale, last=False)
    for a, e in zip((ours, *our_grads), (y, *grads), strict=True):
        assert_same(a, e)


@given(
    case=images(), size=st.sampled_from([2, 5]), alpha=st.sampled_from([1e-4, 0.5]),
    beta=st.sampled_from([0.5, 0.75]), k=st.sampled_from([1.0, 2.0]),
)  # fmt: skip
@few
def test_local_response_norm(torch, case, size, alpha, beta, k):
    x, _, _ = arrays(case)
    theirs = torch("nn.functional.local_response_norm", channels_first(x), size, alpha, beta, k)
    compare(lambda x: local_response_norm(x, size, alpha=alpha, beta=beta, k=k), x, (), theirs)


@given(case=images())
@few
def test_weights(torch, case):
    """Weight norm; standardisation as timm has it, by batch norm; spectral norm that converged."""
    w, g, _ = arrays(case)
    first = filter_to_torch(w)
    column = g.reshape(-1, *[1] * (w.ndim - 1))
    (y,), (dv, dg) = torch("_weight_norm", first, column, 0)

    def turned(v, g):
        return jnp.moveaxis(weight_norm(v, g, epsilon=0), (-1, -2), (0, 1))

    ours, (our_dv, our_dg) = with_grads(turned, w, g, last=False)
    assert_same(ours, y)
    assert_same(our_dv, filter_from_torch(dv))
    assert_same(our_dg, dg.ravel())
    rows = first.reshape(1, w.shape[-1], -1)
    (y,), _ = torch("nn.functional.batch_norm", rows, None, None, training=True, eps=1e-3)
    assert_same(weight_standardize(w, epsilon=1e-3), filter_from_torch(y.reshape(first.shape)))


@given(seed=st.integers(0, 99))
@few
def test_converged_spectral_norm(torch, seed):
    """sigma and its gradient are those of the matrix norm, where one singular value stands out."""
    random = np.random.default_rng(seed)
    w = random.normal(size=(6, 4)) + 3 * np.outer(random.normal(size=6), random.normal(size=4))
    (sigma,), (dw,) = torch("linalg.matrix_norm", w, 2)
    u = np.linalg.svd(w)[2][0]
    assert_same(spectral_norm(w, u)[2], sigma)
    assert_same(jax.grad(lambda w: spectral_norm(w, u)[2])(jnp.asarray(w)), dw)


MODULES = """
import sys, numpy as np, torch
from torch import nn
torch.set_default_dtype(torch.float64)
given = dict(np.load(sys.argv[1]))
x = torch.tensor(given["x"])
found = {}
norm = nn.BatchNorm2d(3, momentum=0.1)
for _ in range(3):
    found["trained_norm"] = norm(x)
found["mean"], found["var"] = norm.running_mean, norm.running_var
norm.eval()
found["evaluated_norm"] = norm(x)
def conv():
    layer = nn.Conv2d(3, 5, (2, 3), bias=False)
    layer.weight.data = torch.tensor(given["weight"])
    return layer
layer = nn.utils.parametrizations.weight_norm(conv())
found["weight_normed"] = layer(x)
layer = nn.utils.spectral_norm(conv())
layer.weight_u = torch.tensor(given["u"])
for step in range(3):
    found[f"spectral{step}"] = layer(x)
found["u"] = layer.weight_u
layer = nn.utils.parametrizations.spectral_norm(conv()).eval()
state = layer.parametrizations.weight[0]
state._u = found["u"].clone()
state._v = nn.functional.normalize(torch.tensor(given["weight"]).flatten(1).T @ state._u, dim=0)
found["evaluated"] = layer(x)
np.savez(sys.argv[2], **{name: value.detach().numpy() for name, value in found.items()})
"""


def test_modules(request, tmp_path):
    """PyTorch's layers, called three times: what they keep, and what they return."""
    python = request.config.getoption("--torch-python") or DEFAULT
    if not python.is_file():
        pytest.skip(f"no PyTorch: {python} is absent; see docs/contributing.md")
    random = np.random.default_rng(0)
    x, kernel, u = (random.normal(size=s) for s in ((2, 5, 4, 3), (2, 3, 3, 5), 5))
    u /= np.linalg.norm(u)
    np.savez(tmp_path / "given.npz", x=channels_first(x), weight=filter_to_torch(kernel), u=u)
    paths = [str(tmp_path / name) for name in ("given.npz", "found.npz")]
    subprocess.run([python, "-W", "ignore", "-c", MODULES, *paths], check=True)
    found = dict(np.load(paths[1]))

    options = {"param_dtype": jnp.float64, "rngs": nnx.Rngs(0)}
    norm = nn.BatchNorm(3, momentum=0.9, correction=1, **options)
    norm.mean.set_value(jnp.zeros(3))  # float64 in this test
    norm.var.set_value(jnp.ones(3))
    for _ in range(3):
        assert_same(norm(x), channels_last(found["trained_norm"]))
    assert_same(norm.mean[...], found["mean"])
    assert_same(norm.var[...], found["var"])
    assert_same(norm(x, use_running_average=True), channels_last(found["evaluated_norm"]))

    def conv():
        layer = nn.Conv(3, 5, (2, 3), padding="VALID", use_bias=False, **options)
        layer.kernel[...] = jnp.asarray(kernel)
        return layer

    layer = WeightNorm(conv(), scale_init=None, epsilon=0, **options)
    assert_same(layer(x), channels_last(found["weight_normed"]))
    layer = SpectralNorm(conv(), **options)
    layer.batch_stats["kernel", "u"][...] = jnp.asarray(u)[None]
    for step in range(3):
        assert_same(layer(x), channels_last(found[f"spectral{step}"]))
    assert_same(layer.batch_stats["kernel", "u"][0], found["u"])
    w = spectral_norm(kernel, found["u"], n_steps=0)[0]
    plain = conv()
    plain.kernel[...] = w
    assert_same(plain(x), channels_last(found["evaluated"]))
