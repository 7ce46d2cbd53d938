"""jconv.training.step: the equations of one step, its randomness, and its types."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jconv.training import (
    TrainState,
    cross_entropy,
    evaluate,
    make_eval_step,
    make_train_step,
    sgd,
    warmup_cosine,
)
from tests.training.small import SHAPE, Batches, Small, arrays, assert_same, batch, make


def test_one_step_is_gradient_descent():
    """w' = w - eta dloss/dw, with the gradient taken from the module itself."""
    model = Small(rngs=nnx.Rngs(3))
    tx = optax.sgd(0.5)
    graph, state = TrainState.create(model, tx, key=jax.random.key(0))
    data = batch()
    images = jnp.asarray(data["image"], jnp.float32) / 255

    def loss_of(model):
        logits = model(images)
        return optax.softmax_cross_entropy_with_integer_labels(logits, data["label"]).mean()

    loss, grads = nnx.value_and_grad(loss_of, argnums=nnx.DiffState(0, nnx.Param))(model)
    new, metrics = jax.jit(make_train_step(graph, tx, cross_entropy()))(state, data)
    expected = jax.tree.map(lambda w, g: w - 0.5 * g, state.params, grads)
    chex.assert_trees_all_close(new.params, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-6)
    norm = np.sqrt(sum(np.sum(np.square(g)) for g in jax.tree.leaves(grads)))
    np.testing.assert_allclose(metrics["grad_norm"], norm, rtol=1e-5)
    np.testing.assert_allclose(new.rest["norm"]["mean"][...], model.norm.mean[...], rtol=1e-5)


def test_metrics_are_scalars_and_training_learns():
    _, state, step = make(sgd(warmup_cosine(0.5, 40, warmup_steps=4)))
    step = jax.jit(step, donate_argnums=0)
    batches, history = Batches(), []
    for _ in range(40):
        state, metrics = step(state, next(batches))
        history.append(jax.device_get(metrics))
    assert set(history[0]) == {"loss", "accuracy", "grad_norm", "learning_rate"}
    assert all(value.dtype == np.float32 and value.shape == () for value in history[0].values())
    np.testing.assert_allclose([m["learning_rate"] for m in history[:5]], np.arange(1, 6) / 10)
    assert int(state.step) == 40
    assert np.mean([m["loss"] for m in history[-5:]]) < 0.6 * history[0]["loss"]


def test_an_optimizer_without_a_recorded_rate_reports_none():
    _, state, step = make(optax.sgd(0.1))
    assert "learning_rate" not in step(state, batch())[1]


def test_donation_leaves_the_model_usable():
    tx = sgd(0.1)
    model = Small(rngs=nnx.Rngs(0))
    graph, state = TrainState.create(model, tx, key=jax.random.key(0), ema=True)
    step = make_train_step(graph, tx, cross_entropy(), ema_decay=0.9)
    new, _ = jax.jit(step, donate_argnums=0)(state, batch())
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state.params))
    assert np.isfinite(model(jnp.ones((2, *SHAPE)))).all()
    trained = new.model(graph)
    jax.jit(step, donate_argnums=0)(new, batch())
    assert np.isfinite(trained(jnp.ones((2, *SHAPE)))).all()


def test_a_model_in_evaluation_mode_is_trained_in_training_mode():
    model = Small(rngs=nnx.Rngs(0))
    model.eval()
    tx = sgd(0.1)
    graph, state = TrainState.create(model, tx, key=jax.random.key(0))
    new, _ = make_train_step(graph, tx, cross_entropy())(state, batch())
    assert not np.array_equal(new.rest["norm"]["mean"][...], state.rest["norm"]["mean"][...])
    assert model.norm.use_running_average


def test_randomness_is_that_of_the_step_number():
    """Dropout and augmentation repeat for the same step, and change with the step and the run."""
    seen = []

    def augment(key, images):
        jax.debug.callback(
            lambda data: seen.append(tuple(np.asarray(data).tolist())), jax.random.key_data(key)
        )
        return images

    _, state, step = make(dropout=0.5, augment=augment)
    step = jax.jit(step)
    first, again = step(state, batch()), step(state, batch())
    assert_same(first, again)
    later = step(TrainState(**{**vars(state), "step": state.step + 1}), batch())
    other = step(TrainState(**{**vars(state), "key": jax.random.key(9)}), batch())
    losses = {float(m["loss"]) for _, m in (first, later, other)}
    jax.effects_barrier()
    assert len(losses) == 3
    assert seen[0] == seen[1]
    assert len(set(seen)) == 3
    assert_same(first[0].rest["dropout"], state.rest["dropout"])


def test_layers_of_dropout_draw_different_numbers():
    class Two(nnx.Module):
        def __init__(self, rngs):
            self.one = nnx.Dropout(0.5, rngs=rngs)
            self.two = nnx.Dropout(0.5, rngs=rngs)
            self.scale = nnx.Param(jnp.ones(()))

        def __call__(self, x):
            return jnp.stack([self.one(x), self.two(x)]) * self.scale[...]

    def loss_fn(model, batch):
        one, two = model(batch["image"])
        return (one * two).sum(), {"differ": (one != two).sum()}

    tx = optax.sgd(0.0)
    graph, state = TrainState.create(Two(nnx.Rngs(0)), tx, key=jax.random.key(0))
    step = make_train_step(graph, tx, loss_fn)
    assert step(state, {"image": np.ones(64, np.float32)})[1]["differ"] > 10


def test_augmentation_sees_the_images_and_integers_become_fractions():
    def augment(key, images):
        assert images.dtype == jnp.uint8
        return jnp.zeros_like(images) + 51

    def loss_fn(model, batch):
        return cross_entropy()(model, batch)[0], {"pixel": batch["image"].max()}

    _, state, step = make(augment=augment, loss_fn=loss_fn)
    np.testing.assert_allclose(step(state, batch())[1]["pixel"], 51 / 255, rtol=1e-6)


def test_images_of_unknown_range_are_refused():
    _, state, step = make()
    data = batch() | {"image": batch()["image"].astype("int32")}
    with pytest.raises(ValueError, match=r"image must be uint8, 0 to 255, or floating.*int32"):
        step(state, data)


def test_float_images_are_taken_as_they_are():
    def loss_fn(model, batch):
        return cross_entropy()(model, batch)[0], {"pixel": batch["image"].max()}

    _, state, step = make(loss_fn=loss_fn)
    data = {**batch(), "image": np.full((16, *SHAPE), 7.5, np.float32)}
    assert step(state, data)[1]["pixel"] == 7.5


def test_average_follows_its_warm_up():
    """ema' = d ema + (1 - d) w' with d = min(decay, (1 + t) / (10 + t)), in float64."""
    graph, state, step = make(ema=True, ema_decay=0.25)
    step, batches = jax.jit(step), Batches()
    expected = np.asarray(state.params["conv"]["kernel"][...], np.float64)
    for t, decay in enumerate([1 / 10, 2 / 11, 0.25, 0.25]):
        assert decay == min(0.25, (1 + t) / (10 + t))
        state, _ = step(state, next(batches))
        kernel = np.asarray(state.params["conv"]["kernel"][...], np.float64)
        expected = decay * expected + (1 - decay) * kernel
    np.testing.assert_allclose(state.ema["conv"]["kernel"][...], expected, rtol=1e-6)
    averaged, raw = state.model(graph), state.model(graph, average=False)
    np.testing.assert_array_equal(averaged.conv.kernel[...], state.ema["conv"]["kernel"][...])
    np.testing.assert_array_equal(raw.conv.kernel[...], state.params["conv"]["kernel"][...])
    np.testing.assert_array_equal(averaged.norm.mean[...], state.rest["norm"]["mean"][...])


def test_bfloat16_computes_low_and_keeps_high():
    _, state, step = make(compute_dtype=jnp.bfloat16)
    new, metrics = jax.jit(step)(state, batch())
    assert [a.dtype for a in arrays(new)] == [a.dtype for a in arrays(state)]
    assert metrics["loss"].dtype == metrics["accuracy"].dtype == jnp.float32
    _, full = jax.jit(make()[2])(state, batch())
    np.testing.assert_allclose(metrics["loss"], full["loss"], rtol=2e-2)
    text = str(jax.make_jaxpr(step)(state, batch()))
    convolutions = [line for line in text.splitlines() if " = conv[" in line]
    assert convolutions
    assert all("bf16[" in line.split(" = ")[0] for line in convolutions)


def test_compiles_once_with_evaluation_and_a_short_last_batch():
    graph, state, step = make()
    chex.clear_trace_counter()
    step = jax.jit(chex.assert_max_traces(step, n=1), donate_argnums=0)
    eval_step = jax.jit(chex.assert_max_traces(make_eval_step(graph), n=1))
    batches = Batches()
    for _ in range(2):
        for _ in range(3):
            state, _ = step(state, next(batches))
        held_out = [
            {**batch(8, seed=i), "mask": np.arange(8) < size} for i, size in enumerate((8, 3))
        ]
        assert evaluate(eval_step, state, held_out)["count"] == 11


def test_several_steps_in_one_call():
    """As docs/tuning.md has it: the state is the carry of a scan, and batches are stacked."""
    _, state, step = make(dropout=0.5, ema=True, ema_decay=0.9)
    _, other, _ = make(dropout=0.5, ema=True)
    batches = [batch(seed=number) for number in range(3)]
    stacked = jax.tree.map(lambda *parts: np.stack(parts), *batches)
    together, metrics = jax.jit(lambda s, b: jax.lax.scan(step, s, b), donate_argnums=0)(
        state, stacked
    )
    losses = []
    for one in batches:
        other, each = jax.jit(step)(other, one)
        losses.append(each["loss"])
    np.testing.assert_allclose(metrics["loss"], losses, rtol=1e-5)
    for a, b in zip(arrays(together), arrays(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_layer_norm_is_left_alone_by_axis_name():
    """LayerNorm has an axis_name too, of another meaning: it must not average over the devices."""

    class Layer(nnx.Module):
        def __init__(self, rngs):
            self.norm = nnx.LayerNorm(4, rngs=rngs)

        def __call__(self, x):
            assert self.norm.axis_name is None
            return self.norm(x)

    tx = optax.sgd(0.0)
    graph, state = TrainState.create(Layer(nnx.Rngs(0)), tx, key=jax.random.key(0))
    step = make_train_step(graph, tx, lambda m, b: (m(b["image"]).sum(), {}), axis_name="data")
    stacked = jax.tree.map(lambda x: x[None], state)
    jax.vmap(step, axis_name="data")(stacked, {"image": np.ones((1, 2, 4), np.float32)})


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (jax.numpy.zeros(2, jnp.uint32), r"must be one typed key from jax.random.key; got \[0 0\]"),
        (0, r"must be one typed key .*; got 0"),
    ],
    ids=["raw", "int"],
)
def test_says_what_is_wrong_with_the_key(key, message):
    with pytest.raises(ValueError, match=message):
        TrainState.create(Small(rngs=nnx.Rngs(0)), optax.sgd(0.1), key=key)


def test_says_that_there_is_nothing_to_train():
    model = nnx.Dropout(0.5, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="Dropout has no parameters to train"):
        TrainState.create(model, optax.sgd(0.1), key=jax.random.key(0))


@pytest.mark.parametrize(
    ("ema", "decay", "message"),
    [
        (True, None, "ema_decay=None, but the state keeps one"),
        (False, 0.9, "ema_decay=0.9, but the state keeps none"),
    ],
)
def test_says_that_average_and_state_disagree(ema, decay, message):
    _, state, step = make(ema=ema, ema_decay=decay)
    with pytest.raises(ValueError, match=message):
        step(state, batch())


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_says_that_the_decay_is_out_of_range(decay):
    with pytest.raises(ValueError, match=rf"ema_decay must be in \[0, 1\); got {decay}"):
        make(ema=True, ema_decay=decay)


@pytest.mark.parametrize("name", ["image", "label"])
def test_says_what_a_batch_lacks(name):
    graph, state, step = make()
    lacking = {key: value for key, value in batch().items() if key != name}
    message = rf"a batch needs {name}; got {', '.join(lacking)}"
    with pytest.raises(ValueError, match=message):
        step(state, lacking)
    with pytest.raises(ValueError, match=f"evaluation step: {message}"):
        make_eval_step(graph)(state, lacking)


def test_says_that_a_batch_is_a_dict():
    _, state, step = make()
    with pytest.raises(ValueError, match="a batch must be a dict of arrays; got tuple"):
        step(state, tuple(batch().values()))
    with pytest.raises(ValueError, match="a batch needs image; got none"):
        step(state, {})


def test_says_that_a_forward_pass_changes_types():
    class Counts(Small):
        def __init__(self, rngs):
            super().__init__(rngs=rngs)
            self.seen = nnx.BatchStat(jnp.zeros(()))

        def __call__(self, x):
            self.seen.set_value(self.seen[...] + x.sum((0, 1, 2)))
            return super().__call__(x)

    tx = optax.sgd(0.1)
    graph, state = TrainState.create(Counts(nnx.Rngs(0)), tx, key=jax.random.key(0))
    step = make_train_step(graph, tx, cross_entropy())
    with pytest.raises(ValueError, match=r"got seen.*: float32\(\) before, float32\(2,\) after"):
        step(state, batch())
