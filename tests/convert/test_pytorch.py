"""PyTorch's weights: every array in its place, or every problem named and nothing written."""

import functools

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


def test_rows_of_a_flattened_image():
    """PyTorch flattens C H W, jconv H W C."""
    r = np.random.default_rng(0)
    arrays = {"0.weight": r.standard_normal((3, 2, 1, 1)), "2.weight": r.standard_normal((5, 18))}
    arrays = {name: array.astype("f4") for name, array in arrays.items()}
    conv = nn.Conv(2, 3, (1, 1), use_bias=False, rngs=nnx.Rngs(0))
    model = nn.Sequential(conv, nn.Flatten(), nn.Linear(18, 5, use_bias=False, rngs=nnx.Rngs(0)))
    with pytest.raises(ValueError, match=r"2\.weight reads 18 features of a layer with 3 channels"):
        from_pytorch(model, arrays)
    for wrong in ({"2": (3, 2, 2)}, {"2": (3, 3, 2), "3": (1,)}):
        with pytest.raises(ValueError, match="flattened names"):
            from_pytorch(model, arrays, flattened=wrong)
    from_pytorch(model, arrays, flattened={"2": (3, 3, 2)})
    x = r.standard_normal((4, 3, 2, 2)).astype("f4")
    image = np.einsum("nhwc,kc->nkhw", x, arrays["0.weight"][..., 0, 0])
    assert_close(model(x), image.reshape(4, 18) @ arrays["2.weight"].T, terms=20)


class Excited(nnx.Module):
    """torchvision's names."""

    def __init__(self, slopes, rngs):
        self.se = nn.SqueezeExcitation(4, 2, rngs=rngs)
        self.act = nn.PReLU(num_features=slopes)

    def __call__(self, x):
        return self.act(self.se(x))


@pytest.mark.parametrize(("slopes", "given"), [(None, 1), (1, 1), (4, 4)])
def test_slopes_and_1x1_convolutions_for_linear_layers(slopes, given):
    r = np.random.default_rng(0)
    shapes = {"se.fc1.weight": (2, 4, 1, 1), "se.fc1.bias": (2,), "se.fc2.weight": (4, 2, 1, 1)}
    shapes |= {"se.fc2.bias": (4,), "act.weight": (given,)}
    arrays = {name: r.standard_normal(shape).astype("f4") for name, shape in shapes.items()}
    model = Excited(slopes, nnx.Rngs(0))
    from_pytorch(model, arrays)
    x = r.standard_normal((2, 3, 5, 4)).astype("f4")
    w1, b1, w2, b2, slope = (np.squeeze(a) for a in arrays.values())
    hidden = np.maximum(x.mean((1, 2)) @ w1.T + b1, 0)
    y = x / (1 + np.exp(-(hidden @ w2.T + b2)))[:, None, None]
    assert_close(model(x), np.where(y > 0, y, slope * y), terms=20)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("act.weight", (3,), r"act\.weight is \(3,\) .* act\.negative_slope is \(4,\)"),
        ("act.weight", (1,), r"act\.weight is \(1,\) .* act\.negative_slope is \(4,\)"),
        ("se.fc1.weight", (2, 4, 3, 3), r"se\.fc1\.weight is \(3, 3, 4, 2\) .* is \(4, 2\)"),
        ("se.fc2.weight", (2, 4, 1, 1), r"se\.fc2\.weight is \(4, 2\) .* is \(2, 4\)"),
    ],
)
def test_slopes_and_1x1_convolutions_that_do_not_fit(name, shape, message):
    shapes = {"se.fc1.weight": (2, 4, 1, 1), "se.fc1.bias": (2,), "se.fc2.weight": (4, 2, 1, 1)}
    shapes |= {"se.fc2.bias": (4,), "act.weight": (4,), name: shape}
    with pytest.raises(ValueError, match=message):
        from_pytorch(Excited(4, nnx.Rngs(0)), {n: np.zeros(s) for n, s in shapes.items()})


def test_slopes_for_a_layer_with_one():
    model = nn.Sequential(nn.PReLU())
    with pytest.raises(ValueError, match=r"0\.weight is \(4,\) .* 0\.negative_slope is \(\)"):
        from_pytorch(model, {"0.weight": np.zeros(4)})


def test_attributes_called_layers():
    class Listed(nnx.Module):
        def __init__(self, rngs):
            self.layers = nnx.List([nn.Linear(2, 3, rngs=rngs)])
            self.scale = nnx.Param(np.zeros(3, np.float32))

    arrays = {"layers.0.weight": np.ones((3, 2)), "layers.0.bias": np.ones(3), "scale": np.ones(3)}
    model = Listed(nnx.Rngs(0))
    from_pytorch(model, arrays)
    assert all((leaf == 1).all() for leaf in jax.tree.leaves(nnx.state(model)))
    with pytest.raises(ValueError, match=r"layers\.0\.bias and 0\.bias have one place"):
        from_pytorch(model, {**arrays, "0.bias": np.ones(3)})
    with pytest.raises(ValueError, match="scale is complex128, scale is float32"):
        from_pytorch(model, {**arrays, "scale": np.ones(3, complex)})


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
    make = functools.partial(models.make, "resnet20", classes=10, input_shape=(32, 32, 3))
    model = nnx.eval_shape(lambda: make(rngs=nnx.Rngs(0)))
    with pytest.raises(
        ValueError, match=r"no array for bn1\.bias; .*no array for layer1\.0\.bn1\.bias"
    ):
        from_pytorch(model, {})
