"""The training step: a pure function `(state, batch) -> (state, metrics)`, to be jitted.

With w the parameters, r the rest of the model's state, o the optimizer's state and k the key of the
run:

    k_t          = fold_in(k, t)                         all randomness: augmentation and dropout
    loss, r'     = loss_fn(model(w, r, k_t), batch)      differentiated with respect to w only
    updates, o'  = tx.update(d loss / d w, o, w)
    w'           = w + updates
    ema'         = d ema + (1 - d) w'                    d = min(ema_decay, (1 + t) / (10 + t))

Nothing depends on how often or where the step ran before: a run that is stopped and restored
repeats itself exactly.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax import lax

from jconv.training.state import TrainState

type Batch = Mapping[str, Any]
type Metrics = dict[str, jax.Array]
type LossFn = Callable[[Any, Batch], tuple[jax.Array, Metrics]]
type Augment = Callable[[jax.Array, jax.Array], jax.Array]
type Step = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]


def make_train_step(
    graph: nnx.GraphDef[Any],
    tx: optax.GradientTransformation,
    loss_fn: LossFn,
    *,
    augment: Augment | None = None,
    ema_decay: float | None = None,
    compute_dtype: Any = None,
    axis_name: str | None = None,
) -> Step:
    """The step for `jax.jit(step, donate_argnums=0)`, `data_parallel(step, mesh)` or
    `pmap_step(step)`.

    The batch has `image` (N, H, W, C) and what the loss asks for, such as `label` (N,). Images of
    an integer type become float32 in [0, 1] after the augmentation; float images are taken as they
    are. Metrics are float32 scalars: those of `loss_fn`, `loss`, `grad_norm` (before any clipping)
    and `learning_rate` (where `tx` records one: those of `recipes` do, and
    `optax.inject_hyperparams`).

    Args:
      loss_fn: `(model, batch) -> (loss, metrics)`, the loss a mean over the batch.
      augment: `(key, images) -> images`, run inside the step with the key of that step.
      ema_decay: decay of the moving average of the parameters, in [0, 1); needs
        `TrainState.create(ema=True)`. The batch statistics are a moving average already and are
        taken as they are.
      compute_dtype: such as bfloat16: the parameters and images are cast inside the loss, so that
        gradients, parameters, optimizer and statistics stay float32, and any module whose own
        `dtype` is None computes in it. The cast is here, and not in the model, because it then
        needs nothing of the model; a model built with its own `dtype` needs no `compute_dtype`. The
        logits come out in it: the loss casts them up.
      axis_name: the mapped axis, in the pmap form only: gradients and metrics are averaged over it
        and layers that keep running statistics normalise over it. Each device draws its own
        randomness.

    Raises:
      ValueError: `ema_decay` is outside [0, 1); when traced: there is no `image` in the batch, the
        moving average is asked for and not kept or the other way about, or the forward pass changes
        the structure or a type of the model's state.
    """
    if ema_decay is not None and not 0 <= ema_decay < 1:
        raise ValueError(f"make_train_step: ema_decay must be in [0, 1); got {ema_decay}")

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        _check_average(state, ema_decay)
        check_batch("train step", batch, "image")
        augment_key, model_key = jax.random.split(_step_key(state, axis_name))
        batch = {**batch, "image": _images(augment_key, batch["image"], augment, compute_dtype)}

        def loss_of(params: nnx.State) -> tuple[jax.Array, tuple[nnx.State, Metrics]]:
            model, streams = _model(
                graph, _cast(params, compute_dtype), state.rest, model_key, axis_name
            )
            loss, metrics = loss_fn(model, batch)
            return loss, (_rest(model, streams, state.rest), {**metrics, "loss": loss})

        params = state.params if axis_name is None else _vary(state.params, axis_name)
        grads, (rest, metrics) = jax.grad(loss_of, has_aux=True)(params)
        if axis_name is not None:
            grads, metrics = lax.pmean((grads, metrics), axis_name)
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        params: Any = optax.apply_updates(state.params, updates)
        new = TrainState(
            step=state.step + 1,
            params=params,
            rest=rest,
            opt_state=opt_state,
            ema=_average(state, params, ema_decay),
            key=state.key,
        )
        return new, {**metrics, "grad_norm": optax.tree.norm(grads), **_learning_rate(opt_state)}

    vars(step)["axis_name"] = axis_name  # sharding.py refuses a step of the other form
    return step


def _step_key(state: TrainState, axis_name: str | None) -> jax.Array:
    key = jax.random.fold_in(state.key, state.step)
    return key if axis_name is None else jax.random.fold_in(key, lax.axis_index(axis_name))


def _images(key: jax.Array, images: Any, augment: Augment | None, compute_dtype: Any) -> jax.Array:
    images = jnp.asarray(images)
    return as_float(images if augment is None else augment(key, images), compute_dtype)


def check_batch(op: str, batch: Batch, *names: str) -> None:
    """Raises a ValueError where the batch is no dict, or lacks one of the arrays."""
    if not isinstance(batch, Mapping):
        raise ValueError(f"{op}: a batch must be a dict of arrays; got {type(batch).__name__}")
    if missing := [name for name in names if name not in batch]:
        found = ", ".join(map(str, batch)) or "none"
        raise ValueError(f"{op}: a batch needs {', '.join(missing)}; got {found}")


def as_float(images: jax.Array, compute_dtype: Any = None) -> jax.Array:
    """Images in [0, 1], float32, from uint8 ones; floating-point images as they are; cast if asked.

    Raises:
      ValueError: the images are of another type, whose range is not known.
    """
    if images.dtype == jnp.uint8:
        images = images.astype(jnp.float32) / 255
    elif not jnp.issubdtype(images.dtype, jnp.floating):
        raise ValueError(
            f"train step: image must be uint8, 0 to 255, or floating point; got {images.dtype} "
            f"{images.shape}"
        )
    return images if compute_dtype is None else images.astype(compute_dtype)


def _cast(params: nnx.State, dtype: Any) -> nnx.State:
    if dtype is None:
        return params
    is_float = lambda p: jnp.issubdtype(p.dtype, jnp.floating)  # noqa: E731
    return jax.tree.map(lambda p: p.astype(dtype) if is_float(p) else p, params)


def _vary(params: nnx.State, axis_name: str) -> nnx.State:
    # Under shard_map with checked axes the gradient of a replicated value is already summed over
    # the devices, and a pmean after it changes nothing: 8 times too much on 8 devices. Marked as
    # varying, it is one device's own.
    # Elsewhere (pmap, vmap) there is no such marking, and the gradient is one device's own.
    index: Any = jax.typeof(lax.axis_index(axis_name))
    varying = index.vma if hasattr(index, "vma") else index.mat.varying  # moved in JAX 0.12
    if axis_name not in varying:
        return params
    return jax.tree.map(lambda p: lax.pcast(p, axis_name, to="varying"), params)


def _model(
    graph: nnx.GraphDef[Any],
    params: nnx.State,
    rest: nnx.State,
    key: jax.Array,
    axis_name: str | None,
) -> tuple[Any, nnx.State]:
    """The model whose random streams start from `key`, and the streams as they were."""
    streams, others = nnx.split_state(rest, nnx.RngState, ...)
    number = itertools.count()

    def start(path: Any, variable: Any) -> Any:
        if not isinstance(variable, nnx.RngKey):
            return variable
        own = jax.random.fold_in(key, next(number))
        return variable.replace(jax.random.split(own, variable.shape) if variable.shape else own)

    # copy=True: a Variable shared with the outside can't be changed under the trace of the
    # gradient.
    model = nnx.merge(graph, params, nnx.map_state(start, streams), others, copy=True)
    if axis_name is not None:
        for _, module in nnx.iter_modules(model, graph=False):
            if _keeps_statistics(module):
                setattr(module, "axis_name", axis_name)  # noqa: B010
    return model, streams


def _keeps_statistics(module: nnx.Module) -> bool:
    # LayerNorm and GroupNorm have an axis_name too, for a sharded feature axis: they must not
    # average over the batch.
    return hasattr(module, "axis_name") and any(
        isinstance(value, nnx.BatchStat) for value in vars(module).values()
    )


def _rest(model: Any, streams: nnx.State, before: nnx.State) -> nnx.State:
    """What the forward pass left in the model besides parameters, the random streams put back."""
    others = nnx.state(model, nnx.Not(nnx.Any(nnx.Param, nnx.RngState)), graph=False)
    rest = nnx.merge_state(streams, others)
    types = lambda tree: {  # noqa: E731
        jax.tree_util.keystr(path, simple=True, separator="."): f"{leaf.dtype}{leaf.shape}"
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
    old, new = types(before), types(rest)
    if old != new:
        changed = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
        found = ", ".join(f"{n}: {old.get(n)} before, {new.get(n)} after" for n in changed)
        raise ValueError(
            f"train step: the forward pass may not change the types of the state; got {found}"
        )
    return rest


def _check_average(state: TrainState, ema_decay: float | None) -> None:
    if (state.ema is None) != (ema_decay is None):
        kept = "keeps none" if state.ema is None else "keeps one"
        raise ValueError(
            f"train step: ema_decay={ema_decay}, but the state {kept}; give both "
            "make_train_step(ema_decay=...) and TrainState.create(ema=True), or neither"
        )


def _average(state: TrainState, params: Any, decay: float | None) -> nnx.State | None:
    if decay is None:
        return None
    t = state.step.astype(jnp.float32)
    decay_t = jnp.minimum(decay, (1 + t) / (10 + t))
    return jax.tree.map(lambda e, p: decay_t * e + (1 - decay_t) * p, state.ema, params)


def _learning_rate(opt_state: optax.OptState) -> Metrics:
    is_array = lambda _, value: isinstance(value, jax.Array)  # noqa: E731
    rates = optax.tree.get_all_with_path(opt_state, "learning_rate", filtering=is_array)
    return {"learning_rate": rates[0][1]} if len(rates) == 1 else {}
