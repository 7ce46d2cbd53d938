"""Every model: its parameter count, its endpoints, and that its numbers stay what they were.

`checksums.json` holds, for each model from seed 0 in evaluation mode, the sum of the absolute
logits of two fixed images. A change of it is a change of the model: say so, and write the file anew
with `python -m tests.models.test_models`.
"""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jconv import models
from tests.models import checks

CHECKSUMS = Path(__file__).with_name("checksums.json")
GREY, COLOUR, PHOTO = (28, 28, 1), (32, 32, 3), (224, 224, 3)
# fmt: off
CASES = {  # name: (input shape, parameters, shapes of some endpoints)
    "lenet5": (GREY, 61_706, {"C1": (28, 28, 6), "S4": (5, 5, 16), "C5": (120,)}),
    "simple_cnn": (GREY, 106_154, {"pool1": (14, 14, 6), "pool2": (7, 7, 16), "fc1": (120,)}),
    "convnet": (GREY, 104_426, {"block1": (28, 28, 32), "block3": (7, 7, 128)}),
    "resnet20": (COLOUR, 269_722, {"layer1": (32, 32, 16), "layer3": (8, 8, 64), "pooled": (64,)}),
    "resnet32": (COLOUR, 464_154, {}),
    "resnet44": (COLOUR, 658_586, {}),
    "resnet56": (COLOUR, 853_018, {}),
    "resnet110": (COLOUR, 1_727_962, {}),
    "resnet18": (PHOTO, 11_181_642, {"layer1": (56, 56, 64), "layer4": (7, 7, 512)}),
    "resnet18_small": (COLOUR, 11_173_962, {"layer1": (32, 32, 64), "layer4": (4, 4, 512)}),
    "resnet34": (PHOTO, 21_289_802, {}),
    "resnet50": (PHOTO, 23_528_522, {"layer1": (56, 56, 256), "layer4": (7, 7, 2048)}),
    "mobilenet_v2": (PHOTO, 2_236_682, {"stage7": (7, 7, 320), "last": (7, 7, 1280)}),
    "convnext_tiny": (PHOTO, 27_827_818, {"stage1": (56, 56, 96), "stage4": (7, 7, 768)}),
    "convnext_small": (PHOTO, 49_462_378, {}),
    "convnext_base": (PHOTO, 87_576_714, {"stage4": (7, 7, 1024)}),
}
# fmt: on
COMPUTED = (
    "lenet5",
    "simple_cnn",
    "convnet",
    "resnet20",
)  # the deeper ones repeat resnet20's blocks


def make(name):
    model = models.make(name, classes=10, input_shape=CASES[name][0], rngs=nnx.Rngs(0))
    model.eval()
    return model


def checksum(name) -> float:
    shape = (2, *CASES[name][0])
    x = jnp.cos(jnp.arange(np.prod(shape), dtype=jnp.float32)).reshape(shape)
    return float(jnp.abs(jax.jit(make(name))(x)).sum())


def test_every_model_has_a_case():
    assert set(CASES) == set(models.MODELS)


@pytest.mark.parametrize("name", CASES)
def test_parameters_and_endpoints(name):
    shape, parameters, endpoints = CASES[name]
    model = nnx.eval_shape(lambda: make(name))
    assert checks.parameters(model) == parameters
    found = checks.endpoints(model, *shape)
    assert list(found)[-1] == "logits"
    assert found["logits"] == (10,)
    for endpoint, size in endpoints.items():
        assert found[endpoint] == size, endpoint


@pytest.mark.parametrize("name", COMPUTED)
def test_numbers_stay_what_they_were(name):
    expected = json.loads(CHECKSUMS.read_text())[name]
    assert checksum(name) == pytest.approx(expected, rel=1e-4)


def test_paper_sized_lenet():
    model = models.LeNet5(rngs=nnx.Rngs(0))
    found = jax.eval_shape(model.endpoints, jax.ShapeDtypeStruct((1, 32, 32, 1), jnp.float32))
    assert found["C1"].shape == (1, 28, 28, 6)
    assert found["S4"].shape == (1, 5, 5, 16)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("lenet5", (8, 8, 1), r"lenet5: input_shape must be at least 12x12 pixels"),
        ("simple_cnn", (3, 9, 1), r"simple_cnn: input_shape must be at least 4x4"),
        ("convnet", (7, 9, 1), r"convnet: 3 widths need images of at least 8 pixels"),
        ("resnet21", (32, 32, 3), r"unknown model 'resnet21'; did you mean .*resnet20"),
        ("resnet-20", (32, 32, 3), r"did you mean resnet20"),
        ("resnet20", (32, 32), r"resnet20: input_shape must be \(H, W, C\)"),
        ("zzz", (32, 32, 3), r"unknown model 'zzz'; models: convnet, lenet5"),
    ],
)
def test_says_what_is_wrong(name, shape, message):
    with pytest.raises(ValueError, match=message):
        models.make(name, classes=10, input_shape=shape, rngs=nnx.Rngs(0))


def test_resnet_depth_must_be_6n_plus_2():
    with pytest.raises(ValueError, match=r"depth must be 6n \+ 2.*depth=18"):
        models.ResNetCifar(18, rngs=nnx.Rngs(0))


if __name__ == "__main__":
    CHECKSUMS.write_text(json.dumps({name: checksum(name) for name in COMPUTED}, indent=2) + "\n")
