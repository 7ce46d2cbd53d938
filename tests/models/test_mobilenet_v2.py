"""MobileNetV2 against the paper's and torchvision's numbers."""

import jax.numpy as jnp
import pytest
from flax import nnx

from jconv.convert import from_pytorch
from jconv.models.mobilenet_v2 import MobileNetV2, multiple_of_8
from tests.models import checks

# width: (parameters that torchvision counts, millions of multiply-adds that the authors publish)
WIDTHS = {0.35: (1_677_128, 59), 0.5: (1_968_680, 97), 1.0: (3_504_872, 300), 1.4: (6_108_776, 582)}


@pytest.mark.parametrize("width", WIDTHS)
def test_size(width):
    model = checks.abstract(MobileNetV2, width)
    expected, millions = WIDTHS[width]
    assert checks.parameters(model) == expected
    count = checks.multiply_adds(model, 224, 224, 3)
    assert count == pytest.approx(millions * 1e6, rel=0.01)


def test_endpoints():
    """The paper's table 2."""
    found = checks.endpoints(checks.abstract(MobileNetV2, classes=7), 224, 224, 3)
    assert list(found.items()) == [
        ("stem", (112, 112, 32)),
        ("stage1", (112, 112, 16)),
        ("stage2", (56, 56, 24)),
        ("stage3", (28, 28, 32)),
        ("stage4", (14, 14, 64)),
        ("stage5", (14, 14, 96)),
        ("stage6", (7, 7, 160)),
        ("stage7", (7, 7, 320)),
        ("last", (7, 7, 1280)),
        ("pooled", (1280,)),
        ("logits", (7,)),
    ]


@pytest.mark.parametrize(
    ("channels", "expected"),
    [
        (1, 8),
        (8, 8),
        (11.2, 16),
        (12, 16),
        (11.9, 16),
        (19.2, 24),
        (22.4, 24),
        (44.8, 48),
        (83, 80),
    ],
)
def test_channels_are_multiples_of_8(channels, expected):
    """11.2 is nearer to 8, which would lose more than a tenth of it."""
    assert multiple_of_8(channels) == expected


STAGES = ((1, 8, 1, 1), (2, 8, 2, 2), (3, 16, 1, 2))


@pytest.fixture(scope="module")
def tiny():
    return checks.drawn(
        MobileNetV2, 0.5, stages=STAGES, dropout=0.1, classes=3, input_shape=(32, 32, 2)
    )


@pytest.mark.slow
def test_trains(tiny):
    checks.assert_trains(tiny, checks.image(4, 32, 32, 2), jnp.array([0, 1, 2, 0]))


def test_evaluates(tiny):
    checks.assert_evaluates(tiny, checks.image(4, 32, 32, 2), 25.045776)


def test_shortcuts_where_shapes_agree():
    blocks = list(checks.abstract(MobileNetV2).features)[1:-1]
    assert [block.adds for block in blocks] == [
        False, False, True, False, True, True, False, True, True, True, False, True, True, False,
        True, True, False,
    ]  # fmt: skip


def test_dtype():
    model = checks.abstract(MobileNetV2, dtype=jnp.bfloat16)
    x = nnx.eval_shape(lambda: jnp.zeros((1, 32, 32, 3)))
    assert nnx.eval_shape(lambda model, x: model(x), model, x).dtype == jnp.bfloat16


def test_width_must_be_positive():
    with pytest.raises(ValueError, match=r"mobilenet_v2: width must be above 0; got width=0"):
        MobileNetV2(0, rngs=nnx.Rngs(0))


@pytest.mark.slow
def test_logits_of_torchvision(pytestconfig, tmp_path):
    arrays, weights = checks.published(pytestconfig, tmp_path, "mobilenet_v2", 2, 64, 96, 3)
    model = checks.drawn(MobileNetV2)
    from_pytorch(model, weights)
    checks.assert_same_logits(model, arrays)
