"""What layers share: Flax's arguments read, parameters made, options shown in signatures."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, cast

import jax
from flax import nnx
from jax.nn.initializers import Initializer

zeros_init = nnx.initializers.zeros_init()
ones_init = nnx.initializers.ones_init()
default_kernel_init = nnx.initializers.lecun_normal()

NONE: Mapping[str, Any] = MappingProxyType({})


def or_one(value):
    """Flax's None for 1."""
    return 1 if value is None else value


def parameter(
    used: bool,
    init: Initializer,
    shape: tuple[int, ...],
    dtype: Any,
    metadata: Mapping[str, Any],
    rngs: nnx.Rngs,
) -> Any:
    """A parameter, or None as data where a layer goes without."""
    return nnx.Param(init(rngs.params(), shape, dtype), **metadata) if used else nnx.data(None)


def value_of(variable: Any) -> jax.Array | None:
    """The array in a variable that may be None."""
    return None if variable is None else variable[...]


def passes_on[Init: Callable[..., None]](base: type) -> Callable[[Init], Init]:
    """Decorates an `__init__` whose **options go to that of `base`, as if it named them itself.

    `Unpack[...]` tells a type checker their names and types. `help` and editors read the signature,
    which shows them with the defaults of the base's keyword-only arguments, where they stand once.
    An unknown name is an error of the layer that was asked for, not of its base.
    """

    def complete(init: Init) -> Init:
        own, bases = (list(inspect.signature(f).parameters.values()) for f in (init, base.__init__))
        options = [argument for argument in bases if argument.kind is argument.KEYWORD_ONLY]
        signature = inspect.Signature([*own[:-1], *options])

        @functools.wraps(init)
        def checked(self: Any, *args: Any, **kwargs: Any) -> None:
            for name in kwargs:
                if name not in signature.parameters:
                    raise TypeError(
                        f"{init.__qualname__}() got an unexpected keyword argument {name!r}"
                    )
            init(self, *args, **kwargs)

        vars(checked)["__signature__"] = signature
        return cast(Init, checked)

    return complete
