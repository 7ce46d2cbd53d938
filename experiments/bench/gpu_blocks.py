"""Part "blocks" of gpu.py: every kernel with other tiles and other numbers of warps.

A line of the file is one kernel on one layer: what each candidate takes, the fastest first, and
which one the kernel chooses by itself. A table for a chip is made from it.
"""

# Triton is optional.
# pyright: reportMissingImports=false

from __future__ import annotations

import functools
import itertools
import math
import sys
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
from gpu_timing import Queued, Work, attempt
from jconv_kernels import triton as kernels
from jconv_kernels.triton.aot import Launch, launches
from jconv_kernels.triton.launch import launch

from jconv.timing import Spread, compete

WARPS = (2, 4, 8)
ELEMENTS = (512, 1024, 2048)  # of a tile
CHANNELS = (32, 64, 128)


def measure_blocks(work: Work) -> None:
    """A line for every kernel on every layer, those of the layers' first kernels first."""
    sys.path.append(str(Path(__file__).parents[2]))
    from tests.kernels.triton.variants import VARIANTS

    for name, (body, shapes, static) in VARIANTS.items():
        if not work.time_left():
            return
        if work.tiny and name != "pool_put_3s2_112x64":
            continue
        if work.tiny:
            shapes, static = _small(shapes, static)
        avals = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in shapes]
        for call in launches(functools.partial(getattr(kernels, body), **static), *avals):
            _measure(work, name, call)


def _small(shapes, static):
    """2 images instead of 256 and an image of 8 pixels, for a rehearsal."""
    from jconv.window import Window

    window = Window.of((8, 8), 3, stride=2, padding=1)
    return [((2, *window.output, 16), dtype) for _, dtype in shapes], {**static, "window": window}


def _measure(work, name, call):
    operands = [_drawn(aval) for aval in call.operands]
    entries, chosen = {}, _key({}, call.warps)
    for grid, blocks, warps in candidates(call):
        if not work.time_left():
            return
        program = functools.partial(_run, call, grid, blocks, warps)
        entries[_key(blocks, warps)] = attempt("", lambda: Queued(program, [operands]))  # noqa: B023
    fit = {key: entry.timed for key, entry in entries.items() if entry.timed}
    times = compete(
        fit, rounds=min(work.rounds, 3), round_seconds=0.0 if work.tiny else 0.01,
        rest_seconds=0.0,
    )  # fmt: skip
    seconds = {key: Spread.of(found).median for key, found in times.items()}
    order = sorted(seconds, key=lambda key: seconds[key])
    work.write({
        "variant": name, "kernel": call.kernel.__name__, "chosen": chosen,
        "seconds": {key: float(f"{seconds[key]:.4g}") for key in order},
        "failures": {key: entry.failure for key, entry in entries.items() if entry.failure},
        "gpu": work.session.processor, "commit": work.session.commit,
        "versions": work.session.versions,
    })  # fmt: skip
    if order:
        gain = seconds[chosen] / seconds[order[0]] if chosen in seconds else math.nan
        print(f"blocks: {name} {call.kernel.__name__} best {order[0]}, {gain:.2f} times as "
              "fast as the choice", flush=True)  # fmt: skip


def candidates(call: Launch) -> Iterator[tuple[tuple[int, ...], dict[str, int], int]]:
    """(grid, changed constants, warps): first the kernel's choice, then tiles, if its grid is one
    of tiles of BLOCK_W pixels and BLOCK_C channels, and numbers of warps."""
    grid, constants = call.grid, call.constants
    yield grid, {}, call.warps
    tiles: list[tuple[tuple[int, ...], dict[str, int]]] = [(grid, {})]
    *outer, w, c = call.results[0].shape

    def cut(block_w, block_c):
        return math.prod(outer), -(-w // block_w), -(-c // block_c)

    if grid == cut(constants.get("BLOCK_W", 0) or w + 1, constants.get("BLOCK_C", 0) or c + 1):
        widest = 1 << (w - 1).bit_length()
        for elements, block_c in itertools.product(ELEMENTS, CHANNELS):
            block_w = min(widest, max(elements // block_c, 1))
            blocks = {"BLOCK_W": block_w, "BLOCK_C": block_c}
            own = all(constants[name] == size for name, size in blocks.items())
            if block_c < 2 * c and not own and (cut(block_w, block_c), blocks) not in tiles:
                tiles.append((cut(block_w, block_c), blocks))
    for (grid, blocks), warps in itertools.product(tiles, WARPS):
        if blocks or warps != call.warps:
            yield grid, blocks, warps


def _run(call, grid, blocks, warps, *operands):
    return launch(
        call.kernel, grid, operands, call.results, warps=warps, stages=call.stages,
        **{**call.constants, **blocks},
    )  # fmt: skip


def _key(blocks, warps):
    return ", ".join([*(f"{name}={size}" for name, size in blocks.items()), f"warps={warps}"])


def _drawn(aval):
    if jnp.issubdtype(aval.dtype, jnp.integer):
        return jax.random.randint(jax.random.key(0), aval.shape, 0, 4).astype(aval.dtype)
    return jax.random.normal(jax.random.key(0), aval.shape, aval.dtype)
