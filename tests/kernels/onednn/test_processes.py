"""What a process keeps over very many calls, and processes beside one another."""

from __future__ import annotations

import ctypes
import os
import random
import resource
import subprocess
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jconv_kernels import onednn
from jconv_kernels.onednn.library import library

from jconv.window import Window
from tests.kernels.onednn.calls import needs_onednn

pytestmark = needs_onednn

PROGRAM = """
import jax, jax.numpy as jnp
from jconv import conv
def step(w, _):
    value, grad = jax.value_and_grad(lambda w: (conv(x, w, implementation="onednn") ** 2).mean())(w)
    return w - 0.01 * grad, value
x = jax.random.normal(jax.random.key(0), (2, 12, 12, 16))
w = jax.random.normal(jax.random.key(1), (3, 3, 16, 16)) / 12
w, values = jax.jit(lambda w: jax.lax.scan(step, w, length=50))(w)
print(float(values[-1]).hex(), float(w.sum()).hex())
"""


@pytest.mark.slow  # six minutes of one core
def test_ten_thousand_calls():
    """3,334 shapes in all three directions, more than the cache keeps: the process grows no more
    once it is full.
    """
    draw, sizes = random.Random(0), []
    for count in range(3334):
        one_program_of_three_calls(draw)
        assert library().jconv_onednn_conv_plans() <= 1024
        if count % 100 == 99:
            jax.clear_caches()  # JAX's own programs
            sizes.append(resident())
    # The caches hold 1,024 and 4,096 keys, and are full after 14 of the 33 readings.
    assert max(sizes[24:]) < 1.05 * max(sizes[14:24])


def one_program_of_three_calls(draw):
    groups = draw.choice([1, 1, 2, 8])
    c, k, size = groups * draw.randint(1, 24), groups * draw.randint(1, 24), draw.randint(1, 4)
    n = draw.randint(size, 12)
    window = Window.of((n,) * 2, (size,) * 2, stride=draw.randint(1, 2), groups=groups, op="test")

    @jax.jit
    def run(x, w):
        y = onednn.conv_forward(x, w, window=window)
        dx = onednn.conv_input_grad(y, w, window=window)
        return y, dx, onednn.conv_filter_grad(x, y, window=window)

    x, w = jnp.ones((draw.randint(1, 4), n, n, c)), jnp.ones((size, size, c // groups, k))
    y, dx, dw = run(x, w)
    each = c // groups * size * size  # the value of every output
    np.testing.assert_allclose(y, each)
    np.testing.assert_allclose(dw, each * y[..., 0].size, rtol=1e-5)
    np.testing.assert_allclose(dx.sum(), float(each) ** 2 * y.size, rtol=1e-4)


def resident() -> int:
    """Bytes of memory that the process holds, free blocks of the allocator given back."""
    ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/statm") as pages:
        return int(pages.read().split()[1]) * resource.getpagesize()


@pytest.mark.slow  # three processes
def test_processes_at_once_get_what_one_gets():
    def start():
        return subprocess.Popen(
            [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True,
            env={**os.environ, "JAX_PLATFORMS": "cpu"},
        )  # fmt: skip

    alone = start().communicate()[0]
    assert len(alone.split()) == 2
    assert [process.communicate()[0] for process in [start(), start()]] == [alone, alone]


@pytest.mark.slow
def test_fork_after_use():
    """As a loader of data forks: the child leaves JAX alone, and the parent computes on."""
    window = Window.of((6, 6), (3, 3), padding=1, op="test")
    x, w = jnp.ones((2, 6, 6, 16)), jnp.ones((3, 3, 16, 16))
    before = np.asarray(onednn.conv_forward(x, w, window=window))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python and JAX warn of forks where threads run
        child = os.fork()
    if child == 0:
        os._exit(0 if np.ones((64, 64)).dot(np.ones(64)).sum() == 4096 else 1)
    after = [np.asarray(onednn.conv_forward(x, w, window=window)) for _ in range(20)]
    assert os.waitpid(child, 0)[1] == 0
    for y in after:
        np.testing.assert_array_equal(y, before)
