"""Every kernel compiled for an H100 or H200 and for an A100, without either."""

from __future__ import annotations

import functools

import jax
import pytest
from jconv_kernels import triton

from tests.kernels.triton.variants import VARIANTS

pytestmark = pytest.mark.skipif(
    triton.interpreting() or not triton.installed(),
    reason="needs Triton, and not TRITON_INTERPRET=1",
)
MOST_REGISTERS, MOST_SHARED = 128, 100 * 1024
SMALL_RESULTS = {"_measure", "_sums", "_filter_grad"}


@pytest.mark.parametrize("capability", [90, 80])
@pytest.mark.parametrize("name", VARIANTS)
def test_fits_the_chip(name, capability):
    from jconv_kernels.triton import aot

    body, shapes, static = VARIANTS[name]
    avals = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in shapes]
    launches = aot.launches(functools.partial(getattr(triton, body), **static), *avals)
    assert launches
    for launch in launches:
        report = aot.compiled(launch, capability)
        assert report.stack == 0
        assert not {"LDL", "STL"} & report.instructions.keys()
        tensor_cores = "PRECISION" in launch.constants
        assert tensor_cores or report.registers <= MOST_REGISTERS
        assert report.shared <= MOST_SHARED
        if launch.kernel.__name__ not in SMALL_RESULTS:
            assert report.instructions.get("STG.E.128"), "results are stored 16 bytes at a time"
        if tensor_cores:
            warp_groups = capability == 90 and launch.constants["BLOCK_M"] >= 64
            wanted = "HGMMA" if warp_groups else "HMMA"
            assert report.instructions.get(wanted), f"tensor cores compute: {wanted}"
