"""What counts as the same result, and the tables of the operations themselves."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jconv
from jconv.tuning import measure as measuring
from jconv.tuning.measure import _agree


def products(n, terms, dtype, key=0):
    a = np.random.default_rng(key).standard_normal((n, terms), np.float32)
    return a.astype(dtype), a[::-1].astype(dtype)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float64, jnp.complex64])
def test_another_order_of_summing_is_right_and_a_missing_term_is_wrong(dtype):
    terms = 200
    a, b = products(50, terms, np.complex64 if dtype == jnp.complex64 else np.float32)
    right = (a * b).sum(1).astype(dtype)
    turned = (a * b)[:, ::-1].cumsum(1)[:, -1].astype(dtype)
    missing = (a * b)[:, 1:].sum(1).astype(dtype)
    assert _agree(turned, right, terms if dtype != jnp.float64 else 1e20, 0.0)
    assert not _agree(missing, right, terms, 0.0)


@pytest.mark.parametrize(
    ("found", "right", "same"),
    [
        ([1.0, np.nan], [1.0, np.nan], True),
        ([1.0, 2.0], [1.0, np.nan], False),
        ([1.0, np.nan], [1.0, 2.0], False),
        ([-np.inf, 1.0], [-np.inf, 1.0], True),
        ([np.inf, 1.0], [-np.inf, 1.0], False),
        ([0.0, 0.0], [0.0, 0.0], True),
        ([1e-30, 0.0], [0.0, 0.0], False),
        ([1], [1], True),
        ([2], [1], False),
        ([True], [True], True),
        ([[1.0]], [1.0], False),
        ([1.0], [1], False),
        ([], [], True),
    ],
)
def test_what_is_no_finite_number(found, right, same):
    assert _agree(np.array(found), np.array(right), 1.0, 0.0) == same


def test_products_of_accelerators_are_rounded_more():
    found, right = np.float32([1.001, 2.0]), np.float32([1.0, 2.0])
    assert not _agree(found, right, 1.0, measuring.PRODUCTS["cpu"])
    assert _agree(found, right, 1.0, measuring.PRODUCTS["cuda"])


@pytest.mark.parametrize(
    "f",
    [
        lambda x: jconv.max_pool(x, 3, stride=2, padding=1),
        lambda x: jconv.max_pool(x, 1, stride=2),
        lambda x: jconv.max_pool(x, 2, ties="shared"),
        lambda x: jconv.resize(x, (5, 9), method="linear"),
    ],
    ids=["pool", "pixel", "ties", "resize"],
)
def test_the_operations_own_tables(f, tmp_path, monkeypatch):
    """With the real clock: every implementation computes the operands alike, and they tell."""
    tells, file = [], tmp_path / "tuned.json"

    def agree(found, right, *rounding):
        tells.append(np.any(right) or np.issubdtype(right.dtype, np.integer))
        return _agree(found, right, *rounding)

    monkeypatch.setattr(measuring, "_agree", agree)
    image = jax.ShapeDtypeStruct((2, 6, 6, 3), jnp.float32)
    gradient = jax.grad(functools.partial(lambda f, x: (f(x) ** 2).sum(), f))
    report = jconv.tune(gradient, image, file=file, rounds=1, by_name=True)
    contenders = [c for m, _ in report.measurements for c in m.contenders]
    assert len(contenders) >= 4
    assert not [c for c in contenders if c.failure]
    assert all(tells)
    with jconv.tuned(file):
        assert {c.tuned for c in jconv.explain_choice(gradient, image)} == {str(file)}
