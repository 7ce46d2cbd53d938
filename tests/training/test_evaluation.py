"""jconv.training.evaluation: padding changes nothing, and the sums are those of NumPy."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jconv.training import evaluate, make_eval_step
from tests.training.small import CLASSES, Batches, batch, make


@pytest.fixture(scope="module")
def trained():
    """A state after five steps, and the logits that its model gives for 19 images."""
    graph, state, step = make(dropout=0.5, ema=True, ema_decay=0.5)
    step, batches = jax.jit(step), Batches()
    for _ in range(5):
        state, _ = step(state, next(batches))
    data = batch(19, seed=7)
    logits = state.model(graph)(jnp.asarray(data["image"], jnp.float32) / 255)
    return graph, state, data, np.asarray(logits, np.float64)


def pieces(data, size):
    """Batches of one size, the last filled up with zeros, and masks that say so."""
    count = len(data["label"])
    for i in range(0, count, size):
        batch = {name: value[i : i + size] for name, value in data.items()}
        fill = size - len(batch["label"])
        yield {
            name: np.pad(value, [(0, fill)] + [(0, 0)] * (value.ndim - 1))
            for name, value in {**batch, "mask": np.ones(size - fill, bool)}.items()
        }


@pytest.mark.parametrize("size", [19, 8, 5])
def test_padded_batches_give_the_exact_result(trained, size):
    graph, state, data, logits = trained
    result = evaluate(jax.jit(make_eval_step(graph, classes=CLASSES)), state, pieces(data, size))
    predicted = logits.argmax(-1)
    assert result["count"] == 19
    assert result["accuracy"] == (predicted == data["label"]).mean()
    losses = np.log(np.exp(logits).sum(-1)) - logits[np.arange(19), data["label"]]
    np.testing.assert_allclose(result["loss"], losses.mean(), rtol=1e-5)
    confusion = np.zeros((CLASSES, CLASSES), int)
    np.add.at(confusion, (data["label"], predicted), 1)
    np.testing.assert_array_equal(result["confusion"], confusion)


def test_uses_the_averaged_parameters(trained):
    graph, state, data, _ = trained
    raw = type(state)(**{**vars(state), "ema": None})
    step = make_eval_step(graph)
    assert float(step(state, data)["loss"]) != float(step(raw, data)["loss"])


def test_prepares_the_images(trained):
    graph, state, data, _ = trained
    halved = make_eval_step(graph, prepare=lambda x: x.astype(jnp.float32) / 510)(state, data)
    floats = {**data, "image": data["image"].astype(np.float32) / 510}
    assert float(halved["loss"]) == float(make_eval_step(graph)(state, floats)["loss"])


def test_padding_of_infinite_loss_does_not_count(trained):
    graph, state, data, _ = trained
    padding = next(pieces(data, 24))
    padding["image"] = padding["image"].astype(np.float32) / 255
    padding["image"][19:] = np.inf
    assert np.isfinite(make_eval_step(graph)(state, padding)["loss"])


def test_low_precision_is_close(trained):
    graph, state, data, _ = trained
    low = make_eval_step(graph, compute_dtype=jnp.bfloat16)(state, data)
    high = make_eval_step(graph)(state, data)
    assert low["loss"].dtype == jnp.float32
    np.testing.assert_allclose(low["loss"], high["loss"], rtol=2e-2)
    assert float(low["loss"]) != float(high["loss"])


def test_says_what_is_wrong(trained):
    graph, state, _, _ = trained
    with pytest.raises(ValueError, match="the batches hold no image"):
        evaluate(make_eval_step(graph), state, [])
