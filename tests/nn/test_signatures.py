"""Constructors whose options go to a base: signatures as if every argument were written out."""

import inspect

import pytest
from flax import nnx

from jconv import nn

SHARED = ["BatchNorm", "Conv", "ConvTranspose", "GroupNorm", "InstanceNorm", "LayerNorm", "RMSNorm"]
# Where Flax takes another core: jconv's layers are one.
ONLY_FLAX = {"conv_general_dilated", "conv_transpose"}


def arguments(layer):
    return inspect.signature(layer.__init__).parameters


@pytest.mark.parametrize("name", SHARED)
def test_flax_arguments_are_shown(name):
    """By name and kind, with Flax's defaults where they compare; no **options is left."""
    ours, flax = arguments(getattr(nn, name)), arguments(getattr(nnx, name))
    assert set(flax) - ONLY_FLAX <= set(ours)
    for argument in set(flax) - ONLY_FLAX:
        assert ours[argument].kind == flax[argument].kind
        if isinstance(flax[argument].default, bool | int | float | str | None):
            assert ours[argument].default == flax[argument].default
    assert all(argument.kind is not argument.VAR_KEYWORD for argument in ours.values())


@pytest.mark.parametrize(
    ("layer", "arguments", "wrong"),
    [
        (nn.Conv, (1, 1, 1), "stride"),
        (nn.ConvTranspose, (1, 1, 1), "feature_group_count"),
        (nn.GroupNorm, (4, 2), "feature_axes"),
        (nn.RMSNorm, (4,), "use_bias"),
        (nn.DropBlock, (0.1, 2), "rate_"),
    ],
)
def test_an_unknown_argument_is_an_error_of_the_layer(layer, arguments, wrong):
    message = rf"^{layer.__name__}\.__init__\(\) got an unexpected keyword argument '{wrong}'$"
    with pytest.raises(TypeError, match=message):
        layer(*arguments, rngs=nnx.Rngs(0), **{wrong: 1})
