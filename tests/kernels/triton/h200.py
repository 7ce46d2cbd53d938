"""Programs for H200s that are not there: XLA's own compiler for NVIDIA GPUs runs without one.

It needs jax-cuda13-plugin and jax-cuda13-pjrt, none of CUDA's libraries; assembler and libdevice
are Triton's. Programs are compiled, not timed: what calls and collectives they hold is a fact of
their text.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import importlib.util
import os
import re
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jconv_kernels import triton

# As the driver of an H200 describes it; CUDA 13.0 and cuDNN 9.12, the oldest that JAX runs with.
TARGET = """
gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048
  shared_memory_per_block: 49152 shared_memory_per_block_optin: 232448
  shared_memory_per_core: 233472
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  core_count: 132 fpus_per_core: 128 clock_rate_ghz: 1.98 l2_cache_size: 52428800
  memory_bandwidth: 4800000000000 device_memory_size: 150000000000
  cuda_compute_capability { major: 9 }
}
platform_name: "CUDA" device_description_str: "NVIDIA H200"
dnn_version_info { major: 9 minor: 12 } runtime_version { major: 13 minor: 0 patch: 0 }
"""  # fmt: skip
COLLECTIVES = (
    "all-reduce", "all-gather", "all-to-all", "reduce-scatter", "collective-permute",
    "collective-broadcast",
)  # fmt: skip


def _missing(*modules: str) -> str | None:
    """Why nothing can be compiled for CUDA here, in words, or None."""
    if triton.interpreting():
        return "not with TRITON_INTERPRET=1"
    absent = [name for name in modules if not _there(name)]
    return f"needs {', '.join(absent)}" if absent else None


def _there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # not even the package that it lies in
        return False


def _needs(*modules: str) -> pytest.MarkDecorator:
    reason = _missing(*modules)
    return pytest.mark.skipif(reason is not None, reason=reason or "")


needs_lowering = _needs("triton", "jax_triton", "jax_cuda13_plugin")
needs_compiler = _needs("triton", "jax_triton", "jax_cuda13_plugin", "jax_plugins.xla_cuda13")


@dataclasses.dataclass(frozen=True, order=True)
class Call:
    """A call of what XLA did not write itself, with the shapes that one device sees.

    Attributes:
      name: "jconv_conv_forward", a kernel of Triton's; else the target, "__cudnn$convForward".
      operands, results: "bf16[8,56,56,96]".
    """

    name: str
    operands: tuple[str, ...]
    results: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Program:
    """A compiled program for one or more GPUs.

    Attributes:
      calls: the custom calls, without what only moves or marks arrays.
      collectives: how often each of `COLLECTIVES` stands in it.
      targets: what the kernels' machine code is for, "sm_90a".
    """

    calls: collections.Counter[Call]
    collectives: collections.Counter[str]
    targets: frozenset[str]

    @property
    def kernels(self) -> collections.Counter[Call]:
        """The calls of Triton's kernels."""
        return collections.Counter({c: n for c, n in self.calls.items() if c.name[:2] != "__"})

    def names(self) -> collections.Counter[str]:
        """How often each call stands in it."""
        found: collections.Counter[str] = collections.Counter()
        for call, count in self.calls.items():
            found[call.name] += count
        return found


def mesh(count: int, kind: AxisType = AxisType.Auto) -> Mesh:
    """So many H200s along an axis "d"."""
    topology: Any = topologies.get_topology_desc(
        platform="cuda", topology=f"1x1x{count}", target_config=TARGET
    )
    return Mesh(np.array(topology.devices), ("d",), axis_types=(kind,))


def on(devices: Mesh, spec: PartitionSpec, tree: Any) -> Any:
    """The types of the arrays of a tree, laid out so."""
    sharding = NamedSharding(devices, spec)
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding), tree)


def compiled(fn: Any, *args: Any) -> Program:
    """fn(*args), compiled for the GPUs that the types of `args` lie on."""
    with triton.compiling_for(90):
        program = jax.jit(fn).lower(*args).compile({"xla_gpu_cuda_data_dir": str(_tools())})
    text = program.as_text()
    assert text is not None
    instructions = list(_custom_calls(text))
    codes = [_code(line) for line in instructions if _target(line).startswith("triton")]
    return Program(
        calls=collections.Counter(map(_call, instructions)),
        collectives=collections.Counter(
            {
                name: n
                for name in COLLECTIVES
                if (n := len(re.findall(rf" {name}(?:-start)?\(", text)))
            }
        ),
        targets=frozenset(targets(codes)),
    )


def targets(codes: Iterable[bytes]) -> Iterator[str]:
    """What kernels are assembled for, of their PTX."""
    for code in codes:
        for found in re.findall(rb"\.target (\w+)", code):
            yield found.decode()


def kernel_name(code: bytes) -> str:
    """The name that `launch` gave a kernel, which ends what is stored of it."""
    return re.findall(rb"jconv_(?!kernels)\w+", code)[-1].decode()


@functools.cache
def _tools() -> Path:
    """A folder in which XLA finds Triton's assembler and libdevice, as if it were CUDA's.

    It takes libdevice from the folder that it is told, and the assembler from PATH.
    """
    import triton as package

    folder = Path(tempfile.mkdtemp(prefix="jconv-cuda-"))
    nvidia = Path(str(package.__file__)).parent / "backends" / "nvidia"
    for there, here in (("bin/ptxas", "bin"), ("lib/libdevice.10.bc", "nvvm/libdevice")):
        (folder / here).mkdir(parents=True)
        (folder / here / Path(there).name).symlink_to(nvidia / there)
    os.environ["PATH"] = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return folder


def _custom_calls(text: str) -> Iterator[str]:
    """The lines that call something, by XLA's text of a program."""
    for line in text.splitlines():
        if " custom-call(" in line and not _target(line).startswith(("Sharding", "SPMD")):
            yield line


def _target(line: str) -> str:
    return re.findall(r'custom_call_target="([^"]+)"', line)[0]


def _call(line: str) -> Call:
    target = _target(line)
    results = line.partition("=")[2].partition(" custom-call(")[0]
    operands = line.partition("operand_layout_constraints={")[2].partition("}}")[0]
    name = kernel_name(_code(line)) if target.startswith("triton") else target
    return Call(name, *(tuple(re.findall(r"\w+\[[\d,]*\]", part)) for part in (operands, results)))


def _code(line: str) -> bytes:
    """What jax-triton stores of a kernel: its PTX, its parameters and its name."""
    stored = line.partition("backend_config=")[2]
    if found := re.fullmatch(r'\{opaque = "(.*)"\}', stored):
        return zlib.decompress(_unescaped(found[1]))
    return zlib.decompress(stored.strip('"').encode().decode("unicode_escape").encode("latin1"))


def _unescaped(text: str) -> bytes:
    """A string as MLIR prints it: a backslash stands before another one or two digits."""
    return re.sub(
        rb"\\(\\|[0-9A-F]{2})",
        lambda m: b"\\" if m[1] == b"\\" else bytes.fromhex(m[1].decode()),
        text.encode(),
    )
