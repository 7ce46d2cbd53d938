"""PyTorch's weights: every array in its place, or every problem named and nothing written."""

import jax
import numpy as np
import pytest
from flax import nnx

from jconv import models, nn
from jconv.convert import from_pytorch
from tests.oracles.conv_transpose import conv_transpose
from tests.tolerance import assert_close


class Small(nnx.Module):
    def __init__(self, rngs):
        self.features = nn.Sequential(nn.Conv(2, 3, (3, 2), rngs=rngs), nn.BatchNorm(3, rngs=rngs))
        self.head = nn.Linear(3, 4, rngs=rngs)


def state_dict():
    r = np.random.default_rng(0)
    shapes = {
        "features.0.weight": (3, 2, 3, 2), "features.0.bias": (3,), "features.1.weight": (3,),
        "features.1.bias": (3,), "features.1.running_mean": (3,), "features.1.running_var": (3,),
        "head.weight": (4, 3), "head.bias": (4,),
    }  # fmt: skip
    return {name: r.standard_normal(shape).astype("f4") for name, shape in shapes.items()}


def test_every_array_finds_its_place():
    model, arrays = Small(nnx.Rngs(0)), state_dict()
    from_pytorch(model, {**arrays, "features.1.num_batches_tracked": np.int64(7)})
    conv, norm = model.features.layers
    np.testing.assert_array_equal(conv.kernel[1, 0, 1, 2], arrays["features.0.weight"][2, 1, 1, 0])
    np.testing.assert_array_equal(norm.scale[...], arrays["features.1.weight"])
    np.testing.assert_array_equal(norm.var[...], arrays["features.1.running_var"])
    np.testing.assert_array_equal(model.head.kernel[...], arrays["head.weight"].T)


@pytest.mark.parametrize("transpose_kernel", [False, True])
def test_transposed_convolution(transpose_kernel):
    r = np.random.default_rng(0)
    weight = r.standard_normal((2, 3, 3, 4)).astype("f4")  # in, out, R, S
    layer = nn.ConvTranspose(
        2, 3, (3, 4), 2, padding=[(1, 1), (2, 2)], transpose_kernel=transpose_kernel,
        use_bias=False, rngs=nnx.Rngs(0),
    )  # fmt: skip
    model = nn.Sequential(layer)
    from_pytorch(model, {"0.weight": weight})
    x = r.standard_normal((1, 5, 4, 2)).astype("f4")
    filter = np.moveaxis(weight, (0, 1), (-1, -2))  # R S C K of the convolution it transposes
    expected = conv_transpose(
        x, filter, stride=(2, 2), pads=((1, 1), (1, 1)), output_padding=(0, 0), dilation=(1, 1)
    )  # fmt: skip
    assert_close(model(x), expected, terms=12)


def test_all_problems_are_named_and_nothing_is_written():
    model, arrays = Small(nnx.Rngs(0)), state_dict()
    del arrays["head.bias"]
    arrays["tail.bias"] = np.zeros(4)
    arrays["features.0.weight"] = np.zeros((3, 2, 3, 3))
    before = jax.tree.leaves(nnx.state(model))
    with pytest.raises(ValueError, match="from_pytorch") as error:
        from_pytorch(model, arrays)
    for part in (
        "no array for head.bias",
        "no place for tail.bias",
        "features.0.weight is (3, 3, 2, 3)",
    ):
        assert part in str(error.value)
    for a, b in zip(before, jax.tree.leaves(nnx.state(model)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_names_of_a_residual_network():
    model = models.make("resnet20", classes=10, input_shape=(32, 32, 3), rngs=nnx.Rngs(0))
    with pytest.raises(
        ValueError, match=r"no array for bn1\.bias; .*no array for layer1\.0\.bn1\.bias"
    ):
        from_pytorch(model, {})
