"""Evaluation: sums over masked batches, so that a padded batch counts for exactly what it holds.

One shape for all batches means one compilation. Correct predictions and images are counted in
int32, the loss is summed in float32 within a batch and in float64 between batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jconv.training.state import TrainState, evaluation_view
from jconv.training.step import Batch, as_float, check_batch

type EvalStep = Callable[[TrainState, Batch], dict[str, jax.Array]]


def make_eval_step(
    graph: nnx.GraphDef[Any],
    *,
    prepare: Callable[[jax.Array], jax.Array] | None = None,
    classes: int | None = None,
    compute_dtype: Any = None,
) -> EvalStep:
    """`(state, batch) -> sums`, to be jitted: `correct`, `loss` (cross entropy in nats) and `count`
    of the batch.

    The averaged parameters are used where the state keeps them. The batch has `image` (N, H, W, C),
    `label` (N,) and may have `mask` (N,), False for padding.

    Args:
      prepare: the deterministic part of the augmentation, `images -> images`, such as the
        normalisation.
      classes: if given, the sums have `confusion` too, int32 (true class, predicted class).
      compute_dtype: as in `make_train_step`; None evaluates in float32 even what was trained in
        bfloat16.

    Raises:
      ValueError: when traced: there is no `image` or no `label` in the batch.
    """

    def step(state: TrainState, batch: Batch) -> dict[str, jax.Array]:
        check_batch("evaluation step", batch, "image", "label")
        params = state.params if state.ema is None else state.ema
        if compute_dtype is not None:
            params = jax.tree.map(lambda p: p.astype(compute_dtype), params)
        images, labels = jnp.asarray(batch["image"]), jnp.asarray(batch["label"])
        images = as_float(images if prepare is None else prepare(images), compute_dtype)
        mask = jnp.asarray(batch.get("mask", np.ones(labels.shape, bool)))
        model = evaluation_view(nnx.merge(graph, params, state.rest, copy=True))
        return _sums(model(images).astype(jnp.float32), labels, mask, classes)

    return step


def _sums(
    logits: jax.Array, labels: jax.Array, mask: jax.Array, classes: int | None
) -> dict[str, jax.Array]:
    predicted = logits.argmax(-1)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    sums = {
        "correct": jnp.sum((predicted == labels) & mask, dtype=jnp.int32),
        # where, not a product: the loss of a padding image may be infinite.
        "loss": jnp.sum(jnp.where(mask, losses, 0)),
        "count": jnp.sum(mask, dtype=jnp.int32),
    }
    if classes is not None:
        table = jnp.zeros((classes, classes), jnp.int32)
        sums["confusion"] = table.at[labels, predicted].add(mask.astype(jnp.int32))
    return sums


def evaluate(eval_step: EvalStep, state: TrainState, batches: Iterable[Batch]) -> dict[str, Any]:
    """`accuracy`, `loss` (mean, nats) and `count` over all `batches`; `confusion` (NumPy) if
    `eval_step` counts it.

    Args:
      eval_step: from `make_eval_step`, jitted.
      batches: one pass over the data, such as `jconv.data.eval_batches`: all of one size, so that
        `eval_step` is compiled once, with a `mask` that is False where the last one is filled up.

    Raises:
      ValueError: there are no images.
    """
    pending = [eval_step(state, batch) for batch in batches]
    sums = [{k: np.asarray(v, np.float64) for k, v in s.items()} for s in jax.device_get(pending)]
    count = sum(int(s["count"]) for s in sums)
    if count == 0:
        raise ValueError("evaluate: the batches hold no image")
    result: dict[str, Any] = {
        "accuracy": float(sum(s["correct"] for s in sums)) / count,
        "loss": float(sum(s["loss"] for s in sums)) / count,
        "count": count,
    }
    if "confusion" in sums[0]:
        result["confusion"] = np.sum([s["confusion"] for s in sums], 0).astype(np.int64)
    return result
