"""The state of a run: what a training step takes and gives, and a checkpoint holds."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

_TRAIN_MODE = {"use_running_average": False, "deterministic": False}


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """Everything that a step changes, as one pytree.

    Attributes:
      step: steps done so far, int32 scalar.
      params: the model's `nnx.Param`s, an `nnx.State`.
      rest: all its other variables: batch statistics, and the streams of random numbers (which no
        step changes).
      opt_state: the Optax state.
      ema: the exponential moving average of `params`, or None where none is kept.
      key: the typed PRNG key of the run; it never changes, each step folds its number into it.
    """

    step: jax.Array
    params: nnx.State
    rest: nnx.State
    opt_state: optax.OptState
    ema: nnx.State | None
    key: jax.Array

    @classmethod
    def create(
        cls,
        model: nnx.Module,
        tx: optax.GradientTransformation,
        *,
        key: jax.Array,
        ema: bool = False,
    ) -> tuple[nnx.GraphDef[Any], TrainState]:
        """The graph of `model`, in training mode, and the state at step 0.

        The arrays are copied, so that `model` outlives the donation of the state to the first step.

        Args:
          key: a typed key, from `jax.random.key`.
          ema: whether to keep a moving average of the parameters; it starts at the parameters.

        Raises:
          ValueError: `key` is no single typed key, or the model has no parameters.
        """
        if not (jnp.issubdtype(jnp.result_type(key), jax.dtypes.prng_key) and not key.shape):
            raise ValueError(
                f"TrainState: key must be one typed key from jax.random.key; got {key}"
            )
        model = nnx.view(model, raise_if_not_found=False, graph=False, **_TRAIN_MODE)
        graph, params, rest = nnx.split(model, nnx.Param, ..., graph=False)
        if not jax.tree.leaves(params):
            raise ValueError(f"TrainState: {type(model).__name__} has no parameters to train")
        copy = lambda tree: jax.tree.map(jnp.copy, tree)  # noqa: E731
        params, rest = copy(params), copy(rest)
        state = cls(
            step=jnp.zeros((), jnp.int32),
            params=params,
            rest=rest,
            opt_state=tx.init(params),
            ema=copy(params) if ema else None,
            key=jnp.copy(key),
        )
        return graph, state

    def model(self, graph: nnx.GraphDef[Any], *, average: bool = True) -> Any:
        """The model in evaluation mode, with the averaged parameters where they are kept and
        `average` is True.

        It shares no array with the state, so it survives the donation of the state to the next
        step.
        """
        params = self.ema if average and self.ema is not None else self.params
        model = nnx.merge(graph, *jax.tree.map(jnp.copy, (params, self.rest)), copy=True)
        return evaluation_view(model)


def evaluation_view(model: Any) -> Any:
    """`model` with running statistics and without dropout; it shares the arrays of `model`."""
    mode = {name: not value for name, value in _TRAIN_MODE.items()}
    return nnx.view(model, raise_if_not_found=False, graph=False, **mode)
