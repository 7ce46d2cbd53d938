"""Many calls at once: of threads, of one program, of several devices."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P
from jconv_kernels import onednn

from jconv.window import Window
from tests.kernels.onednn.calls import MORE, calls, needs_onednn, static_of
from tests.ops.conv_cases import Case

pytestmark = needs_onednn


@pytest.mark.parametrize(
    ("count", "rounds"), [(4, 5), pytest.param(16, 100, marks=pytest.mark.slow)]
)
def test_threads_that_call_at_once_get_what_one_gets(count, rounds, key):
    """The very same numbers: how the sums are split does not depend on who else computes."""
    each = [
        call for case in list(MORE.values())[:4] for call in calls(case, key, "float32").values()
    ]
    compiled = [jax.jit(call.run) for call in each]
    alone = [np.asarray(f(*call.operands)) for f, call in zip(compiled, each, strict=True)]

    def work(seed):
        order = random.Random(seed).sample(range(len(each)), len(each))
        for i in order * rounds:
            np.testing.assert_array_equal(compiled[i](*each[i].operands), alone[i])

    at_once(work, count)


@pytest.mark.slow
def test_first_calls_at_once():
    """Shapes that no call had before: several threads make the same primitive."""
    ready = threading.Barrier(8)

    def work(seed):
        for size in range(20, 60):
            window = Window.of((size, 3), (3, 3), padding=1, op="test")
            x, w = jnp.ones((1, size, 3, 8)), jnp.ones((3, 3, 8, 5 + seed % 2))
            ready.wait(timeout=120)
            y = onednn.conv_forward(x, w, window=window)
            assert y[0, 1, 1, 0] == 72
            assert y.sum() == 8 * (3 * size - 2) * 7 * (5 + seed % 2)

    at_once(work, 8)


def at_once(work, count):
    """work(0) to work(count - 1), each in a thread; what one of them raises is raised."""
    with ThreadPoolExecutor(count) as pool:
        for result in [pool.submit(work, seed) for seed in range(count)]:
            result.result()


def test_independent_calls_of_one_program(key):
    """XLA runs them on several threads."""
    case = Case(x=(2, 6, 5, 16), window=(3, 3), k=16)
    (x, w), static = case.arrays(key, "float32"), static_of(case, "float32")
    scales = [1.0, -2.0, 0.5, 4.0, -8.0, 2.0]
    results = jax.jit(
        lambda x: [onednn.conv_forward(x * jnp.float32(s), w, **static) for s in scales]
    )(x)
    alone = onednn.conv_forward(x, w, **static)
    for scale, result in zip(scales, results, strict=True):  # powers of two: exact
        np.testing.assert_array_equal(result, np.float32(scale) * np.asarray(alone))


@pytest.mark.devices
@pytest.mark.slow
def test_programs_on_several_devices_at_once(key):
    """Eight handlers of four devices each, from four threads of Python."""
    case = Case(x=(8, 5, 4, 8), window=(3, 3), k=8)
    x, w = case.arrays(key, "float32")
    static = static_of(case, "float32")
    expected = onednn.conv_forward(x, w, **static)
    devices = np.array(jax.devices()[:4])
    spec = P("d")
    split = jax.jit(
        jax.shard_map(
            lambda x, w: onednn.conv_forward(x, w, **static), in_specs=(spec, P()), out_specs=spec,
            mesh=jax.sharding.Mesh(devices, ("d",)), check_vma=False,
        )
    )  # fmt: skip
    mapped = jax.pmap(
        lambda x: onednn.conv_forward(x, w, **static), devices=list(devices), axis_name="d"
    )

    def work(seed):
        for _ in range(50):
            y = split(x, w) if seed % 2 else mapped(x.reshape(4, 2, *x.shape[1:]))
            np.testing.assert_allclose(y.reshape(expected.shape), expected, rtol=1e-5, atol=1e-5)

    at_once(work, 4)


@pytest.mark.devices
def test_several_devices(key):
    case = Case(x=(8, 5, 4, 8), window=(3, 3), k=8)
    x, w = case.arrays(key, "float32")
    mesh = jax.make_mesh((8,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = P("d")
    static = static_of(case, "float32")
    y = jax.jit(
        jax.shard_map(
            lambda x, w: onednn.conv_forward(x, w, **static), mesh=mesh,
            in_specs=(spec, P()), out_specs=spec, check_vma=False,
        )
    )(x, w)  # fmt: skip
    np.testing.assert_allclose(y, onednn.conv_forward(x, w, **static), rtol=1e-5, atol=1e-5)
