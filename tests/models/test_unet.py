"""U-Net against the paper's figure 1, and against PyTorch's layers."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jconv.convert import from_pytorch
from jconv.models import unet
from jconv.models.unet import UNet
from tests.models import checks


def test_parameters_by_the_figure():
    """Every arrow of the figure: (taps, in, out), one bias for each feature out."""
    levels = [64, 128, 256, 512, 1024]
    arrows = [(9, 1, 64), (9, 64, 64), (1, 64, 2)]
    for fine, coarse in itertools.pairwise(levels):
        arrows += [(9, fine, coarse), (9, coarse, coarse)]
        arrows += [(4, coarse, fine), (9, coarse, fine), (9, fine, fine)]
    assert len(arrows) == 23, "the paper: in total the network has 23 convolutional layers"
    expected = sum(taps * c * k + k for taps, c, k in arrows)
    assert checks.parameters(checks.abstract(UNet)) == expected == 31_030_658


def test_endpoints_of_the_figure():
    found = checks.endpoints(checks.abstract(UNet), 572, 572, 1)
    assert list(found.items()) == [
        ("down1", (568, 568, 64)),
        ("down2", (280, 280, 128)),
        ("down3", (136, 136, 256)),
        ("down4", (64, 64, 512)),
        ("bottom", (28, 28, 1024)),
        ("up4", (52, 52, 512)),
        ("up3", (100, 100, 256)),
        ("up2", (196, 196, 128)),
        ("up1", (388, 388, 64)),
        ("logits", (388, 388, 2)),
    ]


def test_same_padding_keeps_the_size():
    model = checks.abstract(UNet, padding="SAME", classes=5, input_shape=(32, 48, 3))
    found = checks.endpoints(model, 32, 48, 3)
    assert found["bottom"] == (2, 3, 1024)
    assert found["up4"] == found["down4"] == (4, 6, 512)
    assert found["logits"] == (32, 48, 5)
    assert checks.endpoints(model, 64, 16, 3)["logits"] == (64, 16, 5), "another size than it knew"


@pytest.fixture(scope="module", params=["VALID", "SAME"])
def tiny(request):
    return checks.drawn(
        UNet, 2, 4, padding=request.param, dropout=0.1, classes=3, input_shape=(44, 48, 2)
    )


@pytest.mark.slow
@pytest.mark.parametrize("tiny", ["VALID"], indirect=True)
def test_trains(tiny):
    labels = jnp.arange(2 * 4 * 8).reshape(2, 4, 8) % 3
    checks.assert_trains(tiny, checks.image(2, 44, 48, 2), labels)


def test_evaluates(tiny):
    checksum = {"VALID": 100.196245, "SAME": 8288.9993}[tiny.padding]
    checks.assert_evaluates(tiny, checks.image(2, 44, 48, 2), checksum)


def test_valid_is_the_middle_of_a_larger_image():
    """Tiles that overlap give the logits of the whole image: the paper's overlap-tile strategy."""
    forward, state = checks.evaluation(checks.drawn(UNet, 2, 4, input_shape=(52, 52, 1)))
    x = checks.image(1, 52, 52, 1)
    whole, part = (forward(state, tile)[0] for tile in (x, x[:, 4:48, 8:52]))
    assert whole.shape == (1, 12, 12, 2)
    np.testing.assert_allclose(part, whole[:, 4:8, 8:12], rtol=1e-4, atol=1e-5)


def test_initial_weights(monkeypatch, key):
    """The paper: normal, of variance 2 / (numbers that one is computed from)."""
    for init, shape, numbers in (
        (unet.KAIMING, (3, 3, 16, 32), 9 * 16),
        (unet.KAIMING_UP, (2, 2, 32, 16), 32),
    ):
        assert init(key, shape).var() == pytest.approx(2 / numbers, rel=0.1)
    monkeypatch.setattr(unet, "KAIMING", nnx.initializers.constant(1.0))
    monkeypatch.setattr(unet, "KAIMING_UP", nnx.initializers.constant(2.0))
    model = nnx.jit(lambda: UNet(1, 2, input_shape=(20, 20, 1), rngs=nnx.Rngs(0)))()
    for path, value in nnx.to_flat_state(nnx.state(model, nnx.Param)):
        expected = 0 if path[-1] == "bias" else 2 if path[0] == "up" else 1
        assert (np.asarray(value[...]) == expected).all(), path


def test_dropout_ends_the_contracting_path():
    model = checks.abstract(UNet, 3, 4, dropout=0.25, padding="SAME", input_shape=(8, 8, 1))
    paths = [path for path, m in nnx.iter_modules(model) if isinstance(m, nnx.Dropout)]
    assert paths == [("bottom", "layers", 4), ("down", 2, "layers", 4)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"padding": "CAUSAL"}, r'padding must be "VALID" or "SAME".*padding=\'CAUSAL\''),
        ({"depth": 0}, r"depth at least 1; got padding='VALID', depth=0"),
        (
            {"input_shape": (570, 572, 1)},
            r"padding='VALID' and depth=4.*\(H=570, W=572, C=1\); the next .*H=572, W=572",
        ),
        ({"input_shape": (172, 188, 1)}, r"the next sizes that fit are H=188, W=188"),
        ({"input_shape": (40, 31, 1), "padding": "SAME"}, r"that fit are H=48, W=32"),
    ],
)
def test_says_what_is_wrong(options, message):
    with pytest.raises(ValueError, match=message):
        UNet(**options, rngs=nnx.Rngs(0))


def test_dtype():
    model = checks.abstract(UNet, 1, 4, input_shape=(20, 20, 1), dtype=jnp.bfloat16)
    x = nnx.eval_shape(lambda: jnp.zeros((1, 20, 20, 1)))
    assert nnx.eval_shape(lambda model, x: model(x), model, x).dtype == jnp.bfloat16


def test_calls_check_the_size_too():
    model = checks.abstract(UNet, 2, 4, input_shape=(44, 44, 1))
    with pytest.raises(ValueError, match=r"got images \(H=44, W=42, C=1\).*H=44, W=44"):
        checks.endpoints(model, 44, 42, 1)


def test_logits_of_pytorch(pytestconfig, tmp_path):
    arrays, weights = checks.published(pytestconfig, tmp_path, "unet", 2, 44, 52, 3)
    model = checks.drawn(UNet, 2, 4, input_shape=(44, 52, 3))
    from_pytorch(model, weights)
    checks.assert_same_logits(model, arrays)
