"""jconv.training.sharding: eight devices equal one, in both forms, on eight fake CPU devices."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import PartitionSpec

from jconv.models import ResNetCifar
from jconv.training import (
    TrainState,
    cross_entropy,
    data_parallel,
    make_eval_step,
    make_train_step,
    mesh,
    pmap_replicate,
    pmap_step,
    pmap_unreplicate,
    replicate,
    sgd,
)
from tests.training.small import Batches, arrays, assert_same, batch, make

pytestmark = [
    pytest.mark.devices,
    pytest.mark.skipif(jax.local_device_count() < 8, reason="needs eight devices"),
]
STEPS = 6


def train(step, state, **options):
    batches = Batches(size=32, **options)
    history = []
    for _ in range(STEPS):
        state, metrics = step(state, next(batches))
        history.append({name: float(value) for name, value in metrics.items()})
    return state, history


@pytest.fixture(scope="module")
def one_device():
    _, state, step = make(ema=True, ema_decay=0.9)
    return train(jax.jit(step), state)


def assert_close(actual, expected):
    """States and metrics to 1e-6, keys and counts exactly."""
    (state, history), (expected_state, expected_history) = actual, expected
    for a, b in zip(arrays(state), arrays(expected_state), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6, rtol=1e-6 if a.dtype == np.float32 else 0)
    for a, b in zip(history, expected_history, strict=True):
        assert a == pytest.approx(b, rel=1e-5)


def test_jit_over_the_mesh_equals_one_device(one_device):
    _, state, step = make(ema=True, ema_decay=0.9)
    over = mesh()
    assert over.size == 8
    state, history = train(data_parallel(step, over), replicate(state, over))
    assert all(len(leaf.devices()) == 8 for leaf in jax.tree.leaves(state.params))
    assert_close((state, history), one_device)


def test_pmap_equals_one_device(one_device):
    _, state, step = make(ema=True, ema_decay=0.9, axis_name="data")
    state, history = train(pmap_step(step), pmap_replicate(state))
    for stacked in arrays(state):  # the same on every device, bit for bit
        np.testing.assert_array_equal(stacked, np.broadcast_to(stacked[:1], stacked.shape))
    assert_close((pmap_unreplicate(state), history), one_device)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["jit", "pmap"])
def test_resnet20_on_eight_devices_equals_one_device_after_20_steps(form, x64):
    """In float64: at a learning rate of 0.1 the steps amplify a rounding error of float32 from 1e-7
    to 1e-1, which says nothing about the forms; float64 leaves what is systematic.
    """
    tx = sgd(0.1, weight_decay=1e-4)
    rng = np.random.default_rng(0)
    images, labels = rng.normal(size=(20, 32, 8, 8, 3)), rng.integers(0, 10, (20, 32))
    model = ResNetCifar(20, input_shape=(8, 8, 3), rngs=nnx.Rngs(0))

    def run(place, build, **options):
        graph, state = TrainState.create(model, tx, key=jax.random.key(0))
        is_float = lambda x: jnp.issubdtype(x.dtype, jnp.floating)  # noqa: E731
        state = jax.tree.map(lambda x: x.astype(jnp.float64) if is_float(x) else x, state)
        state, step = place(state), build(make_train_step(graph, tx, cross_entropy(), **options))
        for image, label in zip(images, labels, strict=True):
            state, _ = step(state, {"image": image, "label": label})
        return state

    if form == "jit":
        over = mesh()
        eight = run(lambda s: replicate(s, over), lambda step: data_parallel(step, over))
    else:
        eight = pmap_unreplicate(run(pmap_replicate, pmap_step, axis_name="data"))
    one = run(lambda s: s, jax.jit)
    for part in ("params", "rest"):
        for a, b in zip(arrays(getattr(eight, part)), arrays(getattr(one, part)), strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-9)


@pytest.mark.parametrize("check_vma", [True, False], ids=["checked", "unchecked"])
def test_the_mapped_step_is_right_under_shard_map_too(one_device, check_vma):
    """With checked axes a gradient is already summed over the devices: a mean is too late."""
    _, state, step = make(ema=True, ema_decay=0.9, axis_name="data")
    over, whole, split = mesh(), PartitionSpec(), PartitionSpec("data")
    mapped = jax.shard_map(
        step, mesh=over, in_specs=(whole, split), out_specs=whole, check_vma=check_vma
    )
    assert_close(train(jax.jit(mapped), replicate(state, over)), one_device)


def test_without_statistics_over_the_devices_pmap_would_differ(one_device):
    """The test above sees the statistics: batch norm on each device's share gives others."""
    _, state, step = make(ema=True, ema_decay=0.9)
    over, split = mesh(), PartitionSpec("data")
    local = jax.shard_map(
        lambda s, b: jax.tree.map(lambda x: x[None], step(s, b)[0].rest["norm"]),
        mesh=over, in_specs=(PartitionSpec(), split), out_specs=split, check_vma=False,
    )  # fmt: skip
    rest = jax.jit(local)(replicate(state, over), batch(32, seed=1))
    means = np.asarray(jax.tree.leaves(rest)[0])
    assert np.abs(means - means.mean(0)).max() > 1e-3


def test_randomness_is_the_same_on_any_number_of_devices():
    def augment(key, images):
        return images + jax.random.randint(key, images.shape, 0, 9).astype(images.dtype)

    _, state, step = make(dropout=0.5, augment=augment)
    over = mesh()
    one = train(jax.jit(step), state)
    assert_close(train(data_parallel(step, over), replicate(state, over)), one)


def test_devices_of_pmap_draw_different_numbers():
    def augment(key, images):
        return jax.random.uniform(key, images.shape)

    def loss_fn(model, batch):
        pixel = batch["image"].reshape(-1)[0]
        spread = jax.lax.pmax(pixel, "data") - jax.lax.pmin(pixel, "data")
        return model(batch["image"]).sum(), {"spread": spread}

    _, state, step = make(augment=augment, loss_fn=loss_fn, axis_name="data")
    _, metrics = pmap_step(step)(pmap_replicate(state), batch(16))
    assert metrics["spread"] > 0.1


def test_evaluation_over_the_mesh_equals_one_device():
    graph, state, _ = make()
    over = mesh()
    step = make_eval_step(graph, classes=3)
    data = {**batch(24), "mask": np.arange(24) < 19}
    eight = data_parallel(step, over, donate=False)(replicate(state, over), data)
    one = jax.jit(step)(state, data)
    assert eight["count"] == 19
    np.testing.assert_array_equal(eight["confusion"], one["confusion"])
    np.testing.assert_allclose(eight["loss"], one["loss"], rtol=1e-6)


def test_replicating_for_pmap_and_back_changes_nothing():
    _, state, _ = make(ema=True)
    assert_same(pmap_unreplicate(pmap_replicate(state)), state)


def test_a_mesh_over_some_devices():
    assert mesh(jax.local_devices()[:2]).shape == {"data": 2}


@pytest.mark.parametrize("form", ["data_parallel", "pmap_step"])
def test_says_that_the_batch_does_not_divide(form):
    if form == "pmap_step":
        _, state, step = make(axis_name="data")
        call = functools.partial(pmap_step(step), pmap_replicate(state))
    else:
        _, state, step = make()
        call = functools.partial(data_parallel(step, mesh()), replicate(state, mesh()))
    message = (
        rf"{form}: the batch size must be a multiple of the 8 devices; got image \(12, 6, 5, 2\)"
    )
    with pytest.raises(ValueError, match=message):
        call(batch(12))


def test_says_that_the_step_is_of_the_other_form():
    with pytest.raises(ValueError, match="pmap_step takes one made with it; got axis_name='data'"):
        data_parallel(make(axis_name="data")[2], mesh())
    with pytest.raises(
        ValueError, match=r"every device would train a network of its own; got .*None"
    ):
        pmap_step(make()[2])
