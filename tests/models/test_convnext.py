"""ConvNeXt against the paper's and torchvision's numbers."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jconv.convert import from_pytorch
from jconv.models import convnext
from jconv.models.convnext import ConvNeXt
from tests.models import checks

SIZES = {  # (parameters that torchvision counts, billions of multiply-adds of the paper's table 1)
    "tiny": (28_589_128, 4.5),
    "small": (50_223_688, 8.7),
    "base": (88_591_464, 15.4),
    "large": (197_767_336, 34.4),
}


@pytest.mark.parametrize("size", SIZES)
def test_size(size):
    model = checks.abstract(getattr(convnext, f"convnext_{size}"))
    count = checks.multiply_adds(model, 224, 224, 3)
    assert (checks.parameters(model), round(count / 1e9, 1)) == SIZES[size]


def test_endpoints():
    found = checks.endpoints(checks.abstract(convnext.convnext_tiny, classes=7), 224, 224, 3)
    assert list(found.items()) == [
        ("stem", (56, 56, 96)),
        ("stage1", (56, 56, 96)),
        ("stage2", (28, 28, 192)),
        ("stage3", (14, 14, 384)),
        ("stage4", (7, 7, 768)),
        ("pooled", (768,)),
        ("logits", (7,)),
    ]


@pytest.fixture(scope="module")
def tiny():
    return checks.drawn(
        ConvNeXt, (1, 2), (4, 8), stochastic_depth=0.3, classes=3, input_shape=(16, 16, 2)
    )


@pytest.mark.slow
def test_trains(tiny):
    checks.assert_trains(tiny, checks.image(4, 16, 16, 2), jnp.array([0, 1, 2, 0]))


def test_evaluates(tiny):
    checks.assert_evaluates(tiny, checks.image(4, 16, 16, 2), 16.313307)


def test_stochastic_depth_rises_evenly():
    model = checks.abstract(ConvNeXt, (1, 2, 2), (4, 4, 4), stochastic_depth=0.4)
    rates = [block.drop_path.rate for stage in model.stages for block in stage.layers]
    np.testing.assert_allclose(rates, [0, 0.1, 0.2, 0.3, 0.4])
    single = checks.abstract(ConvNeXt, (1,), (4,), stochastic_depth=0.4)
    assert single.stages[0].layers[0].drop_path.rate == 0


def test_skipped_block_is_its_input():
    block = checks.drawn(convnext.Block, 4, 0.5, 1.0, dtype=None)
    block.train()
    x = checks.image(64, 5, 5, 4)
    graph, state = nnx.split(block)
    y = jax.jit(lambda state, x: nnx.merge(graph, state)(x))(state, x)
    skipped = (y == x).all(axis=(1, 2, 3))
    assert 16 < skipped.sum() < 48


def test_initial_weights():
    model = nnx.jit(lambda: ConvNeXt((1,), (64,), rngs=nnx.Rngs(0)))()
    for path, value in nnx.to_flat_state(nnx.state(model, nnx.Param)):
        numbers = np.asarray(value[...])
        if path[-1] == "kernel":
            assert numbers.std() == pytest.approx(0.02, rel=0.1), path
        else:
            assert (numbers == {"bias": 0, "scale": 1, "gamma": np.float32(1e-6)}[path[-1]]).all()


def test_dtype():
    model = checks.abstract(ConvNeXt, (1, 1), (4, 4), dtype=jnp.bfloat16)
    x = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    assert nnx.eval_shape(lambda model, x: model(x), model, x).dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (((1, 2), (4,)), r"one entry per stage; got depths=\(1, 2\), widths=\(4,\)"),
        (((), ()), r"one entry per stage; got depths=\(\), widths=\(\)"),
        (((1, 1), (4, 4)), r"2 stages need images of at least 8 pixels .*\(H=9, W=7, C=3\)"),
    ],
)
def test_says_what_is_wrong(args, message):
    with pytest.raises(ValueError, match=message):
        ConvNeXt(*args, input_shape=(9, 7, 3), rngs=nnx.Rngs(0))


def authors_names(arrays):
    """torchvision's weights under the names, and with the vectors, of the authors' code."""
    layers = {"0": "dwconv", "2": "norm", "3": "pwconv1", "5": "pwconv2"}
    found = {}
    for name, array in arrays.items():
        name = re.sub(r"^classifier\.0", "norm", re.sub(r"^classifier\.2", "head", name))
        name = re.sub(r"\.block\.(\d)", lambda m: f".{layers[m[1]]}", name)
        if match := re.match(r"features\.(\d)\.(.*)", name):
            folder = "stages" if int(match[1]) % 2 else "downsample_layers"
            name = f"{folder}.{int(match[1]) // 2}.{match[2]}"
        scale = name.endswith(".layer_scale")
        found[name.replace("layer_scale", "gamma")] = array.reshape(-1) if scale else array
    return found


@pytest.mark.slow
def test_logits_of_torchvision(pytestconfig, tmp_path):
    arrays, weights = checks.published(pytestconfig, tmp_path, "convnext_tiny", 2, 64, 96, 3)
    model = checks.drawn(convnext.convnext_tiny)
    from_pytorch(model, authors_names(weights))
    checks.assert_same_logits(model, arrays)
