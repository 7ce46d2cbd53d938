"""What layers that draw random numbers share: arguments and streams are those of `nnx.Dropout`.

`model.train()` and `model.eval()` switch them, and so does `nnx.view(model, deterministic=...)`.
"""

from __future__ import annotations

from typing import Any, TypedDict

import jax
from flax import nnx


class RandomOptions(TypedDict, total=False):
    """The keyword arguments of every layer that draws; see `RandomLayer`."""

    deterministic: bool | None
    rng_collection: str
    rngs: nnx.Rngs | nnx.RngStream | None


class RandomLayer(nnx.Module):
    """The switch, and a stream of keys of the layer's own.

    Args:
      deterministic: True draws nothing; None leaves it to the call.
      rng_collection: the stream of `rngs` that the keys come from.
      rngs: `nnx.Rngs` or a stream, which is forked, or None where the call gives them.

    Raises:
      ValueError: no such `rngs`; when called, no keys, or no word on `deterministic`.
    """

    # What `_key` answers where there is none.
    _wanted = "rngs must be nnx.Rngs, nnx.RngStream or a key, of the layer or in the call"

    def __init__(
        self,
        *,
        deterministic: bool | None = False,
        rng_collection: str = "dropout",
        rngs: nnx.Rngs | nnx.RngStream | None = None,
    ):
        self.deterministic = deterministic
        self.rng_collection = rng_collection
        if rngs is None:
            self.rngs = nnx.data(None)
        elif isinstance(rngs, nnx.Rngs):
            self.rngs = rngs[rng_collection].fork()
        elif isinstance(rngs, nnx.RngStream):
            self.rngs = rngs.fork()
        else:
            raise ValueError(
                f"{type(self).__name__}: rngs must be nnx.Rngs, nnx.RngStream or None; got {rngs!r}"
            )

    def _draws(self, deterministic: bool | None) -> bool:
        """Whether a call draws: what it says goes before what the layer says."""
        deterministic = self.deterministic if deterministic is None else deterministic
        if deterministic is None:
            raise ValueError(
                f"{type(self).__name__}: deterministic must be True or False, of the layer or in "
                "the call; got None for both"
            )
        return not deterministic

    def _key(self, rngs: Any) -> jax.Array:
        """A key, from the rngs of a call or the layer's own."""
        rngs = self.rngs if rngs is None else rngs
        if isinstance(rngs, nnx.Rngs):
            return rngs[self.rng_collection]()
        if isinstance(rngs, nnx.RngStream):
            return rngs()
        if isinstance(rngs, jax.Array):
            return rngs
        raise ValueError(f"{type(self).__name__}: {self._wanted}; got {rngs!r}")

    def set_view(self, deterministic: bool | None = None) -> None:
        """What `nnx.view(model, deterministic=...)` calls."""
        if deterministic is not None:
            self.deterministic = deterministic
