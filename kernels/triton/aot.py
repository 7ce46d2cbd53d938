"""Kernels compiled for a GPU that is not there: registers, spills, shared memory, instructions.

Triton carries NVIDIA's assembler and disassembler, so nothing but Triton is needed.
"""

from __future__ import annotations

import dataclasses
import re
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from .launch import recording

TOOLS = Path(str(triton.__file__)).parent / "backends" / "nvidia" / "bin"
POINTERS = {
    "float32": "*fp32", "bfloat16": "*bf16", "float16": "*fp16", "uint8": "*u8", "int32": "*i32",
}  # fmt: skip
INSTRUCTIONS = ("HGMMA", "HMMA", "FFMA", "LDGSTS", "LDG.E.128", "STG.E.128", "LDL", "STL")


@dataclasses.dataclass(frozen=True)
class Launch:
    """One launch of a kernel, as a host function asked for it."""

    kernel: Any
    grid: tuple[int, ...]
    operands: tuple[jax.ShapeDtypeStruct, ...]
    results: tuple[jax.ShapeDtypeStruct, ...]
    constants: Mapping[str, Any]
    warps: int
    stages: int


@dataclasses.dataclass(frozen=True)
class Report:
    """What the assembler made of a launch.

    Attributes:
      registers: per thread; more than 255 there are not.
      stack: bytes per thread: spilled registers.
      shared: bytes per program.
      instructions: how often those of `INSTRUCTIONS` stand in the machine code.
    """

    registers: int
    stack: int
    shared: int
    instructions: Mapping[str, int]


def launches(fn: Callable[..., Any], *avals: Any) -> list[Launch]:
    """The launches of fn(*avals), of which nothing is computed."""
    found: list[Launch] = []

    def record(kernel, grid, operands, results, constants, warps, stages):
        types = tuple(jax.ShapeDtypeStruct(a.shape, a.dtype) for a in operands)
        found.append(Launch(kernel, grid, types, tuple(results), constants, warps, stages))

    with recording(record):
        jax.eval_shape(fn, *avals)
    return found


def compiled(launch: Launch, capability: int) -> Report:
    """`launch` compiled for GPUs of a compute capability such as 90."""
    names = launch.kernel.arg_names
    pointers = [name for name in names if name not in launch.constants]
    arrays = (*launch.operands, *launch.results)
    types = dict(zip(pointers, (POINTERS[a.dtype.name] for a in arrays), strict=True))
    source = ASTSource(
        launch.kernel,
        signature={name: types.get(name, "constexpr") for name in names},
        constexprs=dict(launch.constants),
        attrs={(names.index(name),): [["tt.divisibility", 16]] for name in pointers},
    )
    options = {
        "num_warps": launch.warps, "num_stages": launch.stages, "enable_fp_fusion": True,
    }  # fmt: skip
    binary = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(binary.asm["cubin"])
        file.flush()
        usage = _tool("cuobjdump", "--dump-resource-usage", file.name)
        code = _tool("nvdisasm", "-c", file.name)
    used = {name: int(count) for name, count in re.findall(r"(\w+):(\d+)", usage)}
    return Report(
        registers=used["REG"],
        stack=used["STACK"],
        shared=binary.metadata.shared,
        instructions={
            name: count
            for name in INSTRUCTIONS
            if (count := len(re.findall(rf"\b{re.escape(name)}", code)))
        },
    )


def _tool(*command: str) -> str:
    first, *rest = command
    run = subprocess.run([TOOLS / first, *rest], capture_output=True, text=True, check=True)
    return run.stdout
