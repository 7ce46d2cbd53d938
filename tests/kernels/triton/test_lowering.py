"""Steps of training lowered for CUDA on a machine without a GPU: which kernels are in them."""

from __future__ import annotations

import collections
import re
import zlib

import jax
import pytest
from jconv_kernels import triton

from tests.kernels.triton import h200, steps

pytestmark = h200.needs_lowering


def stored(name, capability):
    """What jax-triton stores of each kernel in a step, lowered for a compute capability."""
    traced = jax.jit(steps.step(name, "triton")).trace(steps.parameters(name), steps.images(2))
    with triton.compiling_for(capability):
        module = traced.lower(lowering_platforms=("cuda",)).compiler_ir()
    return [zlib.decompress(code) for code in codes(module.operation)]


def codes(operation):
    """Of the calls of kernels in an operation of MLIR and in those inside of it."""
    for region in operation.regions:
        for block in region:
            for inner in block.operations:
                yield from codes(inner.operation)
    if operation.name == "stablehlo.custom_call":
        target = operation.attributes["call_target_name"].value
        if target.startswith("triton"):
            kept = operation.attributes
            named = "mhlo.backend_config"
            yield (kept[named]["opaque"] if named in kept else kept["backend_config"]).value_bytes


@pytest.mark.parametrize("name", steps.NETWORKS)
@pytest.mark.parametrize(("capability", "target"), [(90, "sm_90a"), (80, "sm_80")])
def test_a_step_calls_the_kernels(name, capability, target):
    found = stored(name, capability)
    assert collections.Counter(map(h200.kernel_name, found)) == steps.KERNELS[name]
    assert set(h200.targets(found)) == {target}


def test_the_assembler_of_xla_knows_their_version():
    versions = {
        tuple(map(int, version.split(b".")))
        for code in stored("pooled", 90)
        for version in re.findall(rb"\.version (\d+\.\d+)", code)
    }
    assert versions
    assert max(versions) <= (8, 7)
