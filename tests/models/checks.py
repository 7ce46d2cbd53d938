"""What the tests of several models share: shapes without arrays, a step of training, and PyTorch's
logits from the same weights.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jconv.summary import summarize
from tests.models import torch_peer

TORCH = Path(__file__).parents[2] / ".torch" / "bin" / "python"


def abstract(model: Callable[..., nnx.Module], *args: Any, **options: Any) -> Any:
    """The model with shapes in the place of arrays."""
    return nnx.eval_shape(lambda: model(*args, **options, rngs=nnx.Rngs(0)))


def drawn(model: Callable[..., nnx.Module], *args: Any, **options: Any) -> Any:
    """The model with numbers drawn by NumPy, which has nothing to compile: kernels that keep the
    scale of what they read, vectors near 1 or, biases and means, near 0."""
    model = abstract(model, *args, **options)
    r = np.random.default_rng(0)
    state = nnx.state(model)
    for path, variable in nnx.to_flat_state(state):
        shape = variable.get_value().shape
        if isinstance(variable, nnx.RngKey):
            variable.set_value(jax.random.key(0))
        elif isinstance(variable, nnx.RngCount):
            variable.set_value(jnp.uint32(0))
        elif path[-1] == "kernel":
            deviation = np.sqrt(2 / np.prod(shape[:-1]))
            variable.set_value(jnp.asarray(r.normal(0, deviation, shape), jnp.float32))
        else:
            low, high = (-0.1, 0.1) if path[-1] in ("bias", "mean") else (0.5, 1.5)
            variable.set_value(jnp.asarray(r.uniform(low, high, shape), jnp.float32))
    nnx.update(model, state)
    return model


def parameters(model: nnx.Module) -> int:
    """Trainable numbers."""
    return sum(p.size for p in jax.tree.leaves(nnx.state(model, nnx.Param)))


def multiply_adds(model: nnx.Module, *shape: int) -> int:
    """For one image (H, W, C)."""
    return summarize(model, jax.ShapeDtypeStruct((1, *shape), jnp.float32)).multiply_adds


def endpoints(model: Any, *shape: int) -> dict[str, tuple[int, ...]]:
    """The shape of every endpoint for an image (H, W, C), in order, without the batch axis."""
    found = {}

    def trace(model, x):
        found.update((name, y.shape[1:]) for name, y in model.endpoints(x).items())
        return x

    nnx.eval_shape(trace, model, jax.ShapeDtypeStruct((2, *shape), jnp.float32))
    return found


def image(*shape: int) -> jax.Array:
    """Normal numbers."""
    return jnp.asarray(np.random.default_rng(0).standard_normal(shape), jnp.float32)


def assert_trains(model: Any, x: jax.Array, labels: jax.Array) -> None:
    """The gradient of the cross-entropy of logits (..., classes) reaches every parameter, and every
    running statistic moves."""
    model.train()
    graph, params, rest = nnx.split(model, nnx.Param, ...)

    def loss_fn(params, rest):
        copy = nnx.merge(graph, params, rest, copy=True)  # to the level of the gradient's trace
        log_p = jax.nn.log_softmax(copy(x))
        loss = -jnp.take_along_axis(log_p, labels[..., None], axis=-1).mean()
        return loss, nnx.state(copy, nnx.BatchStat)

    (loss, after), grads = jax.jit(jax.value_and_grad(loss_fn, has_aux=True))(params, rest)
    assert np.isfinite(loss)
    before = dict(_arrays(nnx.state(model, nnx.BatchStat)))
    moves = [(path, statistic - before[path]) for path, statistic in _arrays(after)]
    assert len(moves) == len(before)
    for path, change in [*_arrays(grads), *moves]:
        assert np.isfinite(change).all(), path
        assert np.any(change != 0), path


def evaluation(model: Any) -> tuple[Callable[..., Any], Any]:
    """(state, x) -> (the model's output in evaluation, the state after it), and the state."""
    model.eval()
    graph, state = nnx.split(model)

    @jax.jit
    def forward(state, x):
        copy = nnx.merge(graph, state)
        return copy(x), nnx.state(copy)

    return forward, state


def assert_evaluates(model: Any, x: jax.Array, checksum: float) -> None:
    """In evaluation nothing in the model moves, no example depends on the others, and the absolute
    logits of a `drawn` model have the sum that they had when all of PyTorch's logits agreed."""
    forward, state = evaluation(model)
    y, after = forward(state, x)
    total = np.abs(np.asarray(y, np.float64)).sum()
    assert total == pytest.approx(checksum, rel=1e-5), total
    for a, b in zip(_numbers(state), _numbers(after), strict=True):
        np.testing.assert_array_equal(a, b)
    alone, _ = forward(state, x.at[1:].set(0))
    # Rounding may: on XLA alone a norm takes one pass or two, for all examples of a call alike.
    np.testing.assert_allclose(alone[0], y[0], rtol=1e-5)
    assert jnp.any(alone[1] != y[1])


def published(
    config: pytest.Config, folder: Path, name: str, *shape: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """What `torch_peer.py` says of its model `name`: {"x": image of `shape`, "logits": ...}, and
    the weights by PyTorch's names. Skips where there is no such model."""
    python = config.getoption("--torch-python") or TORCH
    if not python.is_file():
        pytest.skip(f"no PyTorch: {python} is absent; see docs/contributing.md")
    path = folder / f"{name}.npz"
    done = subprocess.run(
        [python, torch_peer.__file__, name, str(path), *map(str, shape)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode == torch_peer.ABSENT:
        pytest.skip(f"{python} has no torchvision that can be imported: {done.stdout.strip()}")
    assert done.returncode == 0, done.stderr
    with np.load(path, allow_pickle=False) as archive:
        found = dict(archive)
    arrays = {key: found.pop(key) for key in ("x", "logits")}
    return arrays, {key.removeprefix("weights/"): array for key, array in found.items()}


def assert_same_logits(model: Any, arrays: Mapping[str, Any]) -> None:
    """The model's logits are PyTorch's, up to 1e-5 of their norm."""
    forward, state = evaluation(model)
    logits, _ = forward(state, arrays["x"])
    error = np.linalg.norm(logits - arrays["logits"]) / np.linalg.norm(arrays["logits"])
    print(f"relative error of the logits {error:.1e}")
    assert error < 1e-5


def _arrays(state):
    """(path, array) pairs, in NumPy, which compiles nothing for each shape."""
    return [(path, np.asarray(value[...])) for path, value in nnx.to_flat_state(state)]


def _numbers(state):
    """Arrays, keys as the numbers in them."""
    return [
        jax.random.key_data(a) if jnp.issubdtype(a.dtype, jax.dtypes.prng_key) else a
        for a in jax.tree.leaves(state)
    ]
