"""ReLU and ReLU6 against their definitions, and what their gradients keep."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jconv.ops.relu import relu, relu6

NUMBERS = [-np.inf, -2.0, -0.0, 0.0, 0.5, 6.0, 7.0, np.inf, np.nan]
SLOPES = {relu: [0, 0, 0, 0, 1, 1, 1, 1, 0], relu6: [0, 0, 0, 0, 1, 0, 0, 0, 0]}
each = pytest.mark.parametrize("f", SLOPES, ids=lambda f: f.__name__)


@each
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_values_and_slopes(f, dtype):
    x = jnp.asarray(NUMBERS, dtype)
    most = np.inf if f is relu else 6
    assert f(x).dtype == x.dtype
    np.testing.assert_array_equal(f(x).astype("float32"), np.clip(NUMBERS, 0, most))
    np.testing.assert_array_equal(jax.vmap(jax.grad(f))(x).astype("float32"), SLOPES[f])


@each
def test_derivatives(f, x64, key):
    x = 4 * jax.random.normal(key, (3, 7))
    check_grads(lambda x: f(x) ** 2, (x,), 2, eps=1e-5)


def temporary(f, layers=5, n=64) -> float:
    """Arrays of n by n that the gradient of so many layers needs beside operands and results."""

    def loss(ws, x):
        for w in ws:
            x = f(x @ w)
        return jnp.sum(x)

    x = jnp.ones((n, n))
    program = jax.jit(jax.grad(loss)).lower([x] * layers, x).compile()
    return program.memory_analysis().temp_size_in_bytes / x.nbytes


@pytest.mark.parametrize(("f", "jaxs"), [(relu, jax.nn.relu), (relu6, jax.nn.relu6)])
def test_the_gradient_keeps_the_result_alone(f, jaxs):
    """With JAX's own, XLA keeps what went into each layer's activation too."""
    assert temporary(f) < temporary(jaxs) - 3
