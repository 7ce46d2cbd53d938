"""The one way to run a kernel: jax-triton on NVIDIA GPUs, Triton's own interpreter on CPUs.

jax-triton comes in two generations, told apart here and nowhere else:

    0.3, with Triton 3.6          results are called out_shape; the PTX is what Triton writes
    0.4, with Triton 3.7 or later results are called out_type; the PTX's version can be asked for,
                                  and must be: Triton's is newer than the assembler of XLA takes

With TRITON_INTERPRET=1, Triton's own switch, kernels are interpreted, in a callback of XLA's CPU
program. It has to be set before Triton is imported: one process interprets, or it compiles.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import importlib.metadata
import importlib.util
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from . import interpreter

PTX_VERSION = 87  # what CUDA 12.8's assembler takes, and every later one
PORTABLE = 80  # Ampere: its PTX runs on every later GPU

_record: contextvars.ContextVar[Callable[..., None] | None] = contextvars.ContextVar(
    "record", default=None
)
_target: contextvars.ContextVar[int | None] = contextvars.ContextVar("target", default=None)


def installed() -> bool:
    """Whether Triton is there."""
    return importlib.util.find_spec("triton") is not None


def unavailable() -> str | None:
    """Why no kernel can run here, and what to install, or None."""
    wanted = ("triton",) if interpreting() else ("triton", "jax_triton")
    missing = [name for name in wanted if importlib.util.find_spec(name) is None]
    if missing:
        names = " and ".join(name.replace("_", "-") for name in missing)
        return f'{names} not installed; run pip install "jconv[cuda]", or ".[cuda]" in a clone'
    return None


def interpreting() -> bool:
    """Whether kernels are interpreted on the CPU."""
    return os.environ.get("TRITON_INTERPRET") == "1"


@contextlib.contextmanager
def compiling_for(capability: int) -> Iterator[None]:
    """Kernels that are lowered within are compiled for GPUs of this compute capability.

    For a program that is compiled where its GPU is not: 90 is an H100 or H200, 80 an A100.
    """
    token = _target.set(capability)
    try:
        yield
    finally:
        _target.reset(token)


def capability() -> int:
    """The compute capability that kernels are compiled for: that of the GPU at hand, else 80."""
    return _target.get() or _local_capability() or PORTABLE


@contextlib.contextmanager
def recording(record: Callable[..., None]) -> Iterator[None]:
    """Within, no kernel runs: what is launched goes to
    `record(kernel, grid, operands, results, constants, warps, stages)`, and results are zeros.
    """
    token = _record.set(record)
    try:
        yield
    finally:
        _record.reset(token)


@functools.cache
def _local_capability() -> int | None:
    try:
        gpu: Any = jax.local_devices(backend="gpu")[0]
    except RuntimeError:
        return None
    major, minor = str(gpu.compute_capability).split(".")
    return 10 * int(major) + int(minor)


def launch(
    kernel: Any,
    grid: tuple[int, ...],
    operands: Sequence[jax.Array],
    results: Sequence[jax.ShapeDtypeStruct],
    *,
    warps: int = 4,
    stages: int = 2,
    **constants: Any,
) -> tuple[jax.Array, ...]:
    """kernel[grid](*operands, *results, **constants): the results.

    Args:
      kernel: a `triton.jit` function: pointers to operands and results, then constants.
      grid: programs along up to three axes.
      warps: per program, of 32 threads.
      stages: loads in flight in a pipelined loop.

    Raises:
      RuntimeError: Triton or jax-triton is not there.
    """
    if record := _record.get():
        record(kernel, grid, operands, results, constants, warps, stages)
        return tuple(jnp.zeros(result.shape, result.dtype) for result in results)
    if reason := unavailable():
        raise RuntimeError(f"triton: {reason}")
    run = _interpreted if interpreting() else _compiled(warps, stages)
    return tuple(run(kernel, grid, operands, list(results), constants))


def _interpreted(kernel, grid, operands, results, constants):
    call = functools.partial(interpreter.run, kernel, grid, results=results, constants=constants)
    return jax.pure_callback(call, tuple(results), *operands, vmap_method="sequential")


def _compiled(warps: int, stages: int) -> Callable[..., Any]:
    jax_triton = _jax_triton()
    if _generation() < (0, 4):
        named = functools.partial(_out_shape, jax_triton)
    else:
        named = functools.partial(_out_type, jax_triton)
    return functools.partial(named, num_warps=warps, num_stages=stages)


def _out_shape(jax_triton, kernel, grid, operands, results, constants, **options):
    return jax_triton.triton_call(
        *operands, kernel=kernel, grid=grid, out_shape=results, name=_name(kernel),
        compute_capability=capability(), **options, **constants,
    )  # fmt: skip


def _out_type(jax_triton, kernel, grid, operands, results, constants, **options):
    return jax_triton.triton_call(
        *operands, kernel=kernel, grid=grid, out_type=results, name=_name(kernel),
        compute_capability=capability(),
        backend_options={"ptx_version": PTX_VERSION, "enable_fp_fusion": True},
        **options, **constants,
    )  # fmt: skip


def _name(kernel: Any) -> str:
    """What profiles and compiled programs show: "jconv_max_pooling_put"."""
    return f"jconv_{kernel.__module__.rpartition('.')[2]}{kernel.__name__}"


def _jax_triton() -> Any:
    kept = os.environ.get("TRITON_CACHE_DIR")
    import jax_triton

    # jax-triton 0.3 empties the variable, and Triton then finds no folder to compile in.
    if kept is None and not os.environ.get("TRITON_CACHE_DIR", "unset"):
        del os.environ["TRITON_CACHE_DIR"]
    return jax_triton


@functools.cache
def _generation() -> tuple[int, ...]:
    return tuple(int(part) for part in importlib.metadata.version("jax-triton").split(".")[:2])
