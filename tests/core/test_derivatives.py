"""linear and bilinear: say the transposes, and derivatives of any order follow."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jconv.core import Implementation, Operation, bilinear, linear
from tests.core.operations import fold

# Matrix product y = a b, whose transposes are matrix products with an operand turned round.
matmul = Operation(
    "derivatives_matmul",
    (
        Implementation(
            "only", lambda a, b, *, turn, dtype: _matmul(a.astype(dtype), b.astype(dtype), turn)
        ),
    ),
    fold=lambda *a, **k: fold(matmul, *a, **k),
)


def _matmul(a, b, turn):
    a = a.T if "a" in turn else a
    b = b.T if "b" in turn else b
    return a @ b


def _for_a(cotangent, b, *, turn, **static):
    assert turn == ""
    return matmul(cotangent, b, turn="b", **static)


def _for_b(cotangent, a, *, turn, **static):
    assert turn == ""
    return matmul(a, cotangent, turn="a", **static)


bilinear(matmul, _for_a, _for_b)

# y[i] = x[index[i]], whose transpose adds y up where it came from.
take = Operation(
    "derivatives_take",
    (Implementation("only", lambda x, index, *, size, dtype: x[index].astype(dtype)),),
    fold=lambda *a, **k: None,
)
put = Operation(
    "derivatives_put",
    (
        Implementation(
            "only", lambda y, index, *, size, dtype: jnp.zeros(size, dtype).at[index].add(y)
        ),
    ),
    fold=lambda *a, **k: None,
)
linear(take, put, data=1)
linear(put, take, data=1)


def test_bilinear_in_both_modes(x64):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 3)), rng.standard_normal((3, 4))

    def f(a, b):
        return matmul(a, b, turn="", dtype=jnp.dtype("float64"))

    check_grads(f, (a, b), order=1, modes=["fwd", "rev"], eps=1.0, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(jax.linear_transpose(lambda a: f(a, b), a)(a @ b)[0], a @ b @ b.T)


def test_gradient_has_the_dtype_of_its_operand():
    a, b = jnp.ones((2, 3), jnp.bfloat16), jnp.ones((3, 4), jnp.bfloat16)
    grads = jax.grad(lambda a, b: matmul(a, b, turn="", dtype=jnp.dtype("float32")).sum(), (0, 1))
    assert [g.dtype for g in grads(a, b)] == [jnp.bfloat16] * 2


@pytest.mark.parametrize("order", [1, 3])
def test_linear_beside_integers(order, x64):
    index = np.array([2, 0, 2])

    def f(x):
        return jnp.sin(take(x, index, size=4, dtype=jnp.dtype("float64")))

    check_grads(f, (np.arange(4.0),), order=order, modes=["fwd", "rev"], rtol=1e-5, atol=1e-5)
    (dx,) = jax.vjp(f, jnp.arange(4.0))[1](jnp.ones(3))
    np.testing.assert_allclose(dx, [np.cos(0), 0, 2 * np.cos(2), 0])
