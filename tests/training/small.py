"""A network, a state and data small enough to train in every test."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jconv import nn
from jconv.training import TrainState, cross_entropy, make_train_step, sgd

CLASSES = 3
SHAPE = (6, 5, 2)  # H W C


class Small(nnx.Module):
    """conv 2-4, batch norm, ReLU, mean over pixels, dropout, linear 4-3."""

    def __init__(self, *, dropout: float = 0.0, rngs: nnx.Rngs):
        self.conv = nn.Conv(SHAPE[-1], 4, kernel_size=(3, 3), rngs=rngs)
        self.norm = nn.BatchNorm(4, momentum=0.9, rngs=rngs)
        self.dropout = nn.Dropout(dropout, rngs=rngs)
        self.head = nn.Linear(4, CLASSES, rngs=rngs)

    def __call__(self, x):
        x = nn.relu(self.norm(self.conv(x)))
        return self.head(self.dropout(x.mean((1, 2))))


class Batches:
    """Endless random batches whose position is their number, as a Grain iterator's is its state."""

    def __init__(self, size: int = 16, seed: int = 0):
        self.size, self.seed, self.next = size, seed, 0

    def __iter__(self):
        return self

    def __next__(self):
        self.next += 1
        return batch(self.size, seed=1000 * self.seed + self.next)

    def get_state(self):
        return {"next": self.next}

    def set_state(self, state):
        self.next = state["next"]


def batch(size: int = 16, seed: int = 0):
    """Images whose class shows in their mean, uint8 (N, H, W, C), and labels int32 (N,)."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, size).astype(np.int32)
    images = rng.integers(0, 128, (size, *SHAPE)) + 60 * labels[:, None, None, None]
    return {"image": images.astype(np.uint8), "label": labels}


def make(tx=None, *, seed=0, dropout=0.0, ema=False, loss_fn=None, **options):
    """(graph, state, step) of the small network; `options` are those of `make_train_step`."""
    tx = sgd(0.1, weight_decay=1e-3) if tx is None else tx
    model = Small(dropout=dropout, rngs=nnx.Rngs(seed))
    graph, state = TrainState.create(model, tx, key=jax.random.key(seed), ema=ema)
    return graph, state, make_train_step(graph, tx, loss_fn or cross_entropy(), **options)


def arrays(tree):
    """All arrays of a state as NumPy, keys as their data."""
    is_key = lambda x: jnp.issubdtype(x.dtype, jax.dtypes.prng_key)  # noqa: E731
    return [
        np.array(jax.random.key_data(leaf) if is_key(leaf) else leaf)
        for leaf in jax.tree.leaves(tree)
    ]


def assert_same(actual, expected):
    """Bit-identical states."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, b in zip(arrays(actual), arrays(expected), strict=True):
        np.testing.assert_array_equal(a, b)
