"""ResNet against the paper's and torchvision's numbers."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jconv import nn
from jconv.convert import from_pytorch
from jconv.models import resnet
from jconv.models.resnet import ResNet
from tests.models import checks

SIZES = {  # depth: (parameters, billions of multiply-adds), as torchvision publishes them
    18: (11_689_512, 1.814),
    34: (21_797_672, 3.664),
    50: (25_557_032, 4.089),
    101: (44_549_160, 7.801),
    152: (60_192_808, 11.514),
}


@pytest.mark.parametrize(
    "depth", [18, 34, 50, *(pytest.param(depth, marks=pytest.mark.slow) for depth in (101, 152))]
)
def test_size(depth):
    model = checks.abstract(ResNet, depth)
    count = checks.multiply_adds(model, 224, 224, 3)
    assert (checks.parameters(model), round(count / 1e9, 3)) == SIZES[depth]


def test_bottleneck_stride_of_the_paper():
    """Table 1: 3.8 billion multiply-adds, as many parameters, the same maps."""
    model = checks.abstract(ResNet, 50, bottleneck_stride="1x1")
    assert checks.multiply_adds(model, 224, 224, 3) == pytest.approx(3.8e9, rel=0.02)
    assert checks.parameters(model) == SIZES[50][0]
    ours = checks.abstract(ResNet, 50)
    assert checks.endpoints(model, 224, 224, 3) == checks.endpoints(ours, 224, 224, 3)


@pytest.mark.parametrize(("depth", "expansion"), [(18, 1), (50, 4)])
def test_endpoints(depth, expansion):
    expected = {"conv1": (112, 112, 64)}
    for i in range(4):
        expected[f"layer{i + 1}"] = (56 >> i, 56 >> i, (64 << i) * expansion)
    expected |= {"pooled": (512 * expansion,), "logits": (7,)}
    found = checks.endpoints(checks.abstract(ResNet, depth, classes=7), 224, 224, 3)
    assert list(found.items()) == list(expected.items())


def test_stem_for_small_images():
    """11,173,962 parameters is the count of ResNet-18 in the literature on CIFAR-10."""
    model = checks.abstract(ResNet, 18, stem="small", classes=10, input_shape=(32, 32, 3))
    found = checks.endpoints(model, 32, 32, 3)
    assert (found["conv1"], found["layer1"], found["layer4"]) == (
        (32, 32, 64), (32, 32, 64), (4, 4, 512),
    )  # fmt: skip
    assert checks.parameters(model) == 11_173_962


@pytest.fixture(scope="module", params=[18, pytest.param(50, marks=pytest.mark.slow)])
def tiny(request):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(resnet.DEPTHS, request.param, (2, 1, 1, 1))  # every kind of block
        return checks.drawn(
            ResNet, request.param, 4, stem="small", classes=3, input_shape=(16, 16, 2)
        )


def test_trains(tiny):
    checks.assert_trains(tiny, checks.image(4, 16, 16, 2), jnp.array([0, 1, 2, 0]))


def test_evaluates(tiny):
    basic = len(tiny.fc.kernel) == 32
    checks.assert_evaluates(tiny, checks.image(4, 16, 16, 2), 56.164166 if basic else 72.438202)


@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("depth", [18, 50])
def test_blocks_can_start_at_their_shortcut(depth, zero, monkeypatch):
    # The convolutions' own numbers don't matter, and drawing them takes seconds to compile.
    monkeypatch.setattr(resnet, "KAIMING_OUT", nnx.initializers.zeros)
    options = {"width": 1, "zero_init_residual": zero}
    model = nnx.jit(lambda: ResNet(depth, **options, rngs=nnx.Rngs(0)))()
    last = "bn2" if depth == 18 else "bn3"
    flat = nnx.to_flat_state(nnx.state(model, nnx.Param))
    scales = {path: np.asarray(value[...]) for path, value in flat}
    ends = {path: s for path, s in scales.items() if path[-2:] == (last, "scale")}
    assert len(ends) == sum(resnet.DEPTHS[depth])
    for path, value in scales.items():
        if path[-1] == "scale":
            assert (value == (0 if zero and path in ends else 1)).all(), path


def test_batch_norm_momentum():
    """PyTorch's 0.1, seen from the other side."""
    modules = [module for _, module in nnx.iter_modules(checks.abstract(ResNet, 18))]
    norms = [module for module in modules if isinstance(module, nn.BatchNorm)]
    assert len(norms) == 20
    assert {norm.momentum for norm in norms} == {0.9}


def test_dtype():
    model = checks.abstract(ResNet, 18, dtype=jnp.bfloat16)
    x = nnx.eval_shape(lambda: jnp.zeros((1, 32, 32, 3)))
    assert nnx.eval_shape(lambda model, x: model(x), model, x).dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 20}, r"resnet: depth must be one of \(18, 34, 50, 101, 152\); got depth=20"),
        ({"stem": "cifar"}, r"stem must be one of \('imagenet', 'small'\); got stem='cifar'"),
        ({"bottleneck_stride": 1}, r"bottleneck_stride must be one of .*bottleneck_stride=1"),
    ],
)
def test_says_what_is_wrong(options, message):
    with pytest.raises(ValueError, match=message):
        ResNet(**options, rngs=nnx.Rngs(0))


@pytest.mark.slow
@pytest.mark.parametrize("depth", [18, 34, 50])
def test_logits_of_torchvision(depth, pytestconfig, tmp_path):
    arrays, weights = checks.published(pytestconfig, tmp_path, f"resnet{depth}", 2, 64, 96, 3)
    model = checks.drawn(ResNet, depth)
    from_pytorch(model, weights)
    checks.assert_same_logits(model, arrays)
