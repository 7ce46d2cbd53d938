"""Networks from papers, one family per file, as in the papers down to the parameter count.

Every model is an `nnx.Module`: `model(x)` gives logits, `model.endpoints(x)` a dict of named
intermediates in order. `MODELS[name](classes=10, input_shape=(H, W, C), dtype=None,
rngs=nnx.Rngs(0))` makes one. `UNet`, whose logits are one vector per pixel, is made by its class.
"""

import difflib
import functools
from collections.abc import Callable, Mapping
from typing import Any

from flax import nnx

from jconv.models.convnet import ConvNet as ConvNet
from jconv.models.convnext import ConvNeXt as ConvNeXt
from jconv.models.convnext import convnext_base as convnext_base
from jconv.models.convnext import convnext_large as convnext_large
from jconv.models.convnext import convnext_small as convnext_small
from jconv.models.convnext import convnext_tiny as convnext_tiny
from jconv.models.lenet import LeNet5 as LeNet5
from jconv.models.lenet import SimpleCNN as SimpleCNN
from jconv.models.mobilenet_v2 import MobileNetV2 as MobileNetV2
from jconv.models.resnet import ResNet as ResNet
from jconv.models.resnet_cifar import ResNetCifar as ResNetCifar
from jconv.models.unet import UNet as UNet

MODELS: Mapping[str, Callable[..., Any]] = {
    "convnet": ConvNet,
    "lenet5": LeNet5,
    "simple_cnn": SimpleCNN,
    "resnet20": functools.partial(ResNetCifar, 20),
    "resnet32": functools.partial(ResNetCifar, 32),
    "resnet44": functools.partial(ResNetCifar, 44),
    "resnet56": functools.partial(ResNetCifar, 56),
    "resnet110": functools.partial(ResNetCifar, 110),
    "resnet18": functools.partial(ResNet, 18),
    "resnet18_small": functools.partial(ResNet, 18, stem="small"),
    "resnet34": functools.partial(ResNet, 34),
    "resnet50": functools.partial(ResNet, 50),
    "mobilenet_v2": MobileNetV2,
    "convnext_tiny": convnext_tiny,
    "convnext_small": convnext_small,
    "convnext_base": convnext_base,
}


def make(
    name: str,
    *,
    classes: int,
    input_shape: tuple[int, int, int],
    rngs: nnx.Rngs,
    dtype: Any = None,
) -> Any:
    """The model called `name`, for images of input_shape (H, W, C).

    Raises:
      ValueError: no model is called so (the message names those that are spelt alike), no classes,
        an input_shape that is none, or images too small for the model.
    """
    if name not in MODELS:
        near = difflib.get_close_matches(str(name).lower().replace("-", ""), MODELS, n=3)
        hint = f" did you mean {' or '.join(near)}?" if near else ""
        raise ValueError(f"unknown model {name!r};{hint} models: {', '.join(MODELS)}")
    if len(input_shape) != 3 or min(input_shape) < 1 or classes < 1:
        raise ValueError(
            f"{name}: input_shape must be (H, W, C) and classes a number, all at least 1; got "
            f"input_shape={input_shape}, classes={classes}"
        )
    return MODELS[name](classes=classes, input_shape=input_shape, dtype=dtype, rngs=rngs)
