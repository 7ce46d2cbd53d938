"""Parts "ceilings" and "layers" of gpu.py: what the chip can do, and each kernel beside XLA and
PyTorch on layers of ResNet-50, ConvNeXt-T, MobileNetV2 and U-Net, 256 images in bfloat16.

    pass   of a convolution    of the others
    fwd    x, w -> y           x, and scale and bias -> y
    dx     dy, w -> dx         bwd: what fwd kept, dy -> dx, and dscale and dbias
    dw     x, dy -> dw
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from gpu_timing import Queued, Work, attempt, copies, dispatch_seconds, rows

from jconv import bench
from jconv.bench.cases import CONVOLUTIONS, MORE, NORMS, SUITE, Case
from jconv.bench.programs import STOCK, ours, shapes, stock

# The most important first: the part may run out of time.
LAYERS: Mapping[str, Case] = {
    "maxpool3s2_112x64": SUITE["maxpool3s2"],
    "layernorm_56x96": MORE["layernorm_56x96"],
    "batchnorm_56x64": SUITE["batchnorm"],
    "dw7_56x96": MORE["dw7_56x96"],
    "dw3_56x144": Case("conv", (0, 56, 56, 144), (3, 3, 1, 144), "MobileNetV2", 1, 1, 1, 144),
    "dw3dil2_28x192": Case("conv", (0, 28, 28, 192), (3, 3, 1, 192), "DeepLab", 1, 2, 2, 192),
    "dw3s2_56x144": Case("conv", (0, 56, 56, 144), (3, 3, 1, 144), "MobileNetV2", 2, 1, 1, 144),
    "maxpool2_112x64": SUITE["maxpool2"],
    "dw7_14x384": Case("conv", (0, 14, 14, 384), (7, 7, 1, 384), "ConvNeXt-T", 1, 3, 1, 384),
    "layernorm_14x384": Case("layer_norm", (0, 14, 14, 384), origin="ConvNeXt-T stage 3"),
    "groupnorm_28x256": SUITE["groupnorm32"],
    "avgpool2_112x64": SUITE["avgpool2"],
    "dw3_14x576": Case("conv", (0, 14, 14, 576), (3, 3, 1, 576), "MobileNetV2", 1, 1, 1, 576),
    "batchnorm_28x512": Case("batch_norm", (0, 28, 28, 512), origin="ResNet-50 layer2"),
}
IMAGES, DTYPE = 256, "bfloat16"


def layers(tiny: bool) -> Iterator[tuple[str, Case]]:
    """The cases, with their batch; in a rehearsal the first of each operation, 2 images of 7 pixels
    with 16 channels."""
    seen: set[str] = set()
    for name, case in LAYERS.items():
        if tiny and case.op in seen:
            continue
        seen.add(case.op)
        n, spatial, c = IMAGES, case.x[1:-1], case.x[-1]
        w, groups = case.w, case.groups
        if tiny:
            n, spatial, c = 2, (7,) * len(spatial), 16
            w = (*w[:-1], c) if w else w
            groups = {"conv": c, "group_norm": 4}.get(case.op, 1)
        yield (
            name,
            dataclasses.replace(case, x=(n, *spatial, c), w=w, groups=groups, dtype=DTYPE),
        )


def measure_ceilings(work: Work) -> None:
    """The rates that shares are taken of: a copy, counting bytes read and written, and a product
    of square matrices on random numbers."""
    side, numbers = (64, 2**12) if work.tiny else (8192, 2**30)
    key = jax.random.key(0)
    a, b = (jax.random.normal(k, (side, side), jnp.bfloat16) for k in jax.random.split(key))
    big = jax.random.normal(key, (numbers,), jnp.bfloat16)
    programs = {
        "copy": (Queued(lambda x: -x, [(big,)]), 2 * big.nbytes),
        "matmul": (Queued(jnp.matmul, [(a, b)]), 2 * side**3),
    }
    for what, (program, amount) in programs.items():
        times = [program.seconds(10) / 10 for _ in range(work.rounds)]
        seconds = sorted(times)[len(times) // 2]
        work.write({"what": what, "per_second": amount / seconds, "seconds": seconds})
        print(f"ceilings: {what} {amount / seconds / 1e12:.4g} T/s", flush=True)
    work.write({"what": "dispatch", "per_second": 1 / dispatch_seconds()})


def measure_layers(work: Work, peer: bench.Peer | None) -> None:
    """A row per contender, pass and layer."""
    dispatch = dispatch_seconds()
    for name, case in layers(work.tiny):
        for pass_ in passes(case):
            if not work.time_left():
                return
            least, flops = cost(case, pass_)
            entries = {
                "jconv:triton": attempt("triton", lambda: queued(case, pass_, "triton")),  # noqa: B023
                "stock": attempt(STOCK[case.op], lambda: queued(case, pass_, None)),  # noqa: B023
            }
            if peer is not None:
                entries["torch"] = attempt("torch", lambda: prepared(peer, case, pass_))  # noqa: B023
            rows(
                work, name, case.family, pass_, entries, least_bytes=least, flops=flops,
                dispatch=dispatch,
            )  # fmt: skip


def passes(case: Case) -> tuple[str, ...]:
    """Forward, and each gradient apart."""
    return ("fwd", "dx", "dw") if case.op in CONVOLUTIONS else ("fwd", "bwd")


def cost(case: Case, pass_: str) -> tuple[int, int]:
    """The fewest bytes that a pass can move, and its products and sums.

    A pooling's backward pass reads dy and, for the largest, a byte for each window; a norm's x and
    dy; both write dx. Parameters of norms don't count.
    """
    x, y, w = (math.prod(shape) for shape in (case.x, case.output, case.w))
    wide = jnp.dtype(case.dtype).itemsize
    if case.op in CONVOLUTIONS:
        return wide * (x + y + w), 2 * y * math.prod(case.w[:-1])
    if pass_ == "fwd":
        return wide * (x + y), 0
    if case.op in NORMS:
        return wide * 3 * x, 0
    return wide * (x + y) + (y if case.op == "max_pool" else 0), 0


def queued(case: Case, pass_: str, implementation: str | None) -> Queued:
    """jconv's computation by an implementation, or stock JAX's, ready to be timed."""

    def program(which: str) -> Callable[..., Any]:
        return ours(case, which, implementation) if implementation else stock(case, which)

    least, _ = cost(case, pass_)
    if pass_ != "bwd":
        return Queued(program(pass_), copies(lambda n: _operands(case, pass_, n), least))
    forward = program("fwd")

    def kept(number: int) -> Any:
        *given, dy = _operands(case, "full", number)
        return jax.jit(lambda *a: jax.vjp(lambda *b: forward(*b)[0], *a)[1])(*given), dy

    return Queued(lambda back, dy: back(dy), copies(kept, least))


def prepared(peer: bench.Peer, case: Case, pass_: str) -> bench.Peer:
    """PyTorch's process with the pass ready to be timed."""
    peer.prepare("operation", {"case": dataclasses.asdict(case), "which": pass_})
    return peer


def _operands(case, pass_, number):
    keys = jax.random.split(jax.random.key(number), 4)
    parts = zip(keys, shapes(case, pass_), strict=False)
    return [jax.random.normal(key, shape, jnp.dtype(case.dtype)) for key, shape in parts]
