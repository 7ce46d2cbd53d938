"""Networks from papers, one family per file, as in the papers down to the parameter count.

Every model is an `nnx.Module`: `model(x)` gives logits, `model.endpoints(x)` a dict of named
intermediates in order. `MODELS[name](classes=10, input_shape=(H, W, C), dtype=None,
rngs=nnx.Rngs(0))` makes one.
"""

import difflib
import functools
from collections.abc import Callable, Mapping
from typing import Any

from flax import nnx

from jconv.models.convnet import ConvNet as ConvNet
from jconv.models.lenet import LeNet5 as LeNet5
from jconv.models.lenet import SimpleCNN as SimpleCNN
from jconv.models.resnet_cifar import ResNetCifar as ResNetCifar

MODELS: Mapping[str, Callable[..., Any]] = {
    "convnet": ConvNet,
    "lenet5": LeNet5,
    "simple_cnn": SimpleCNN,
    "resnet20": functools.partial(ResNetCifar, 20),
    "resnet32": functools.partial(ResNetCifar, 32),
    "resnet44": functools.partial(ResNetCifar, 44),
    "resnet56": functools.partial(ResNetCifar, 56),
    "resnet110": functools.partial(ResNetCifar, 110),
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
