"""Large results lie on memory for which huge pages were asked, as the system itself says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kernels.onednn.calls import needs_onednn

ADVISED = """
import json, re, sys
import jax, jax.numpy as jnp
import jconv

channels = int(sys.argv[1])
x = jnp.ones((16, 64, 64, channels))
w = jnp.ones((1, 1, channels, channels))
kinds = {
    "conv": lambda x: jconv.conv(x, w),
    "depthwise": lambda x: jconv.conv(x, w[:, :, :1], groups=channels),
    "input_grad": lambda x: jax.grad(lambda x: jconv.conv(x, w).sum())(x),
    "max_pool": lambda x: jconv.max_pool(x, 2, stride=1, padding=((0, 1), (0, 1))),
    "max_pool_grad": jax.grad(lambda x: jconv.max_pool(x, 2).sum()),
    "avg_pool": lambda x: jconv.avg_pool(x, 3, stride=1, padding=1),
    "batch_norm": lambda x: jconv.batch_norm(x)[0],
    "batch_norm_grad": jax.grad(lambda x: jconv.batch_norm(x)[0][0].sum()),
}


def advised(array):
    middle = array.unsafe_buffer_pointer() + array.nbytes // 2
    inside = False
    for line in open("/proc/self/smaps"):
        if found := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            inside = int(found[1], 16) <= middle < int(found[2], 16)
        elif inside and line.startswith("VmFlags:"):
            return "hg" in line.split()


results = {name: jax.block_until_ready(jax.jit(run)(x)) for name, run in kinds.items()}
print(json.dumps([name for name, result in results.items() if advised(result)]))
"""
ALL = [
    "conv", "depthwise", "input_grad", "max_pool", "max_pool_grad", "avg_pool", "batch_norm",
    "batch_norm_grad",
]  # fmt: skip
MIB_A_CHANNEL = 16 * 64 * 64 * 4 / 2**20
HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")

pytestmark = [
    needs_onednn,
    pytest.mark.skipif(not HUGE_PAGES.exists(), reason="a system without huge pages"),
]


def advised(mib: int, **settings: str) -> list[str]:
    """The operations whose results of so many MiB are, in a process with these settings."""
    found = subprocess.run(
        [sys.executable, "-c", ADVISED, str(int(mib / MIB_A_CHANNEL))], capture_output=True,
        text=True, check=True, env={**os.environ, "JAX_PLATFORMS": "cpu", **settings},
    )  # fmt: skip
    return json.loads(found.stdout)


def test_large_results():
    assert advised(8) == ALL


@pytest.mark.parametrize(("mib", "settings"), [(8, {"JCONV_HUGE_PAGES": "0"}), (2, {})])
def test_not_if_small_or_turned_off(mib, settings):
    assert advised(mib, **settings) == []
