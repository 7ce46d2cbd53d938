"""Freed memory that is kept: an array of the same size is written without page faults."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from jconv import allocator

FAULTS = """
import resource, sys
from jconv.allocator import keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory()
import jax, jax.numpy as jnp
x = jnp.ones(16 * 2**20)
twice = jax.jit(lambda x: 2 * x).lower(x).compile()
for call in range(40):
    if call == 30:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    jax.block_until_ready(twice(x))
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) // 10)
"""


def faults(how: str) -> int:
    """Page faults of one call that writes 64 MiB."""
    found = subprocess.run(
        [sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True,
        env={"JAX_PLATFORMS": "cpu"},
    )  # fmt: skip
    return int(found.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these settings")
def test_large_arrays_are_written_without_page_faults():
    pages = 64 * 2**20 // 4096
    assert faults("kept") < pages / 4  # 0 as a rule, once pieces of the right size are there
    assert faults("returned") > pages / 2  # otherwise this shows nothing


def test_other_libraries_are_left_alone(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: pytest.fail("called the C library"))
    assert allocator.keep_freed_memory() is False
