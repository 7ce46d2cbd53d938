"""Many calls at once, and very many calls."""

from __future__ import annotations

import random
import resource
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jconv_kernels import onednn

from jconv.window import Window
from tests.kernels.onednn.calls import MORE, calls, needs_onednn, static_of
from tests.ops.conv_cases import Case

pytestmark = needs_onednn


def test_threads_that_call_at_once_get_what_one_gets(key):
    """The very same numbers: how the sums are split does not depend on who else computes."""
    each = [
        call for case in list(MORE.values())[:4] for call in calls(case, key, "float32").values()
    ]
    compiled = [jax.jit(call.run) for call in each]
    alone = [np.asarray(f(*call.operands)) for f, call in zip(compiled, each, strict=True)]
    failures = []

    def work(seed):
        order = random.Random(seed).sample(range(len(each)), len(each))
        for i in order * 5:
            result = np.asarray(compiled[i](*each[i].operands))
            if not np.array_equal(result, alone[i]):
                failures.append((seed, i))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


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
def test_several_devices(key):
    case = Case(x=(8, 5, 4, 8), window=(3, 3), k=8)
    x, w = case.arrays(key, "float32")
    mesh = jax.make_mesh((8,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec("d")
    static = static_of(case, "float32")
    y = jax.jit(
        jax.shard_map(
            lambda x, w: onednn.conv_forward(x, w, **static), mesh=mesh,
            in_specs=(spec, jax.sharding.PartitionSpec()), out_specs=spec, check_vma=False,
        )
    )(x, w)  # fmt: skip
    np.testing.assert_allclose(y, onednn.conv_forward(x, w, **static), rtol=1e-5, atol=1e-5)


@pytest.mark.slow  # three minutes of one core
def test_memory_stays_bounded():
    """2,000 shapes, more than the cache keeps: once it is full, the process grows no more."""
    draw, sizes = random.Random(0), []
    for count in range(2000):
        c, k, size = draw.randint(1, 24), draw.randint(1, 24), draw.randint(1, 4)
        n = draw.randint(size, 12)
        window = Window.of((n,) * 2, (size,) * 2, stride=draw.randint(1, 2), op="test")
        x = jnp.ones((draw.randint(1, 4), n, n, c))
        y = onednn.conv_forward(x, jnp.ones((size, size, c, k)), window=window)
        np.testing.assert_allclose(y, c * size * size)
        if count % 50 == 49:
            jax.clear_caches()  # JAX's own programs
            sizes.append(resident())
    # The caches hold 1,024 each, and are full after 28 of the 40 readings.
    assert max(sizes[36:]) < 1.05 * max(sizes[24:32])


def resident() -> int:
    """Bytes of memory that the process holds."""
    with open("/proc/self/statm") as pages:
        return int(pages.read().split()[1]) * resource.getpagesize()
