"""Parts "ceilings" and "layers" of gpu.py: what the chip can do, and each kernel beside XLA and
PyTorch on layers of ResNets, ConvNeXt-T, MobileNetV2 and U-Nets, 256 images in bfloat16.

    pass   of a convolution    of the others
    fwd    x, w -> y           x, and scale and bias -> y
    dx     dy, w -> dx         bwd: what fwd kept, dy -> dx, and dscale and dbias
    dw     x, dy -> dw

What follows a convolution has passes of its own (gpu_epilogues.py).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from gpu_epilogues import EPILOGUES, PASSES, Epilogue
from gpu_timing import Queued, Work, attempt, copies, dispatch_seconds, rows

from jconv import bench
from jconv.bench.cases import CONVOLUTIONS, MORE, NORMS, SUITE, Case
from jconv.bench.programs import STOCK, ours, shapes, stock

# The most important first: the part may run out of time.
LAYERS: Mapping[str, Case | Epilogue] = {
    "maxpool3s2_112x64": SUITE["maxpool3s2"],
    "layernorm_56x96": MORE["layernorm_56x96"],
    "batchnorm_56x64": SUITE["batchnorm"],
    "dw7_56x96": MORE["dw7_56x96"],
    "dw3_56x144": Case("conv", (0, 56, 56, 144), (3, 3, 1, 144), "MobileNetV2", 1, 1, 1, 144),
    "dw3dil2_28x192": Case("conv", (0, 28, 28, 192), (3, 3, 1, 192), "DeepLab", 1, 2, 2, 192),
    "dw3s2_56x144": Case("conv", (0, 56, 56, 144), (3, 3, 1, 144), "MobileNetV2", 2, 1, 1, 144),
    "maxpool2_112x64": SUITE["maxpool2"],
    **EPILOGUES,
    "dw7_14x384": Case("conv", (0, 14, 14, 384), (7, 7, 1, 384), "ConvNeXt-T", 1, 3, 1, 384),
    "layernorm_14x384": Case("layer_norm", (0, 14, 14, 384), origin="ConvNeXt-T stage 3"),
    "groupnorm_28x256": SUITE["groupnorm32"],
    "avgpool2_112x64": SUITE["avgpool2"],
    "dw3_14x576": Case("conv", (0, 14, 14, 576), (3, 3, 1, 576), "MobileNetV2", 1, 1, 1, 576),
    "batchnorm_28x512": Case("batch_norm", (0, 28, 28, 512), origin="ResNet-50 layer2"),
    "conv3_56x64": SUITE["c3_56x64"],
    "conv3_14x256": SUITE["c3_14x256"],
    "conv1_56_64_256": SUITE["c1_56_64_256"],
    "conv3g32_28x256": SUITE["g32_28x256"],
    "conv3s2_56x64": SUITE["c3s2_56x64"],
    "conv1_14_1024_256": SUITE["c1_14_1024_256"],
    "conv3_128x64": MORE["c3_128x64"],
    "groupnorm_64x320": Case("group_norm", (0, 64, 64, 320), origin="a U-Net", groups=32),
    "batchnorm_7x2048": Case("batch_norm", (0, 7, 7, 2048), origin="ResNet-50 layer4"),
    "conv7s2_224x3": SUITE["stem7s2"],
}
IMAGES, DTYPE = 256, "bfloat16"


def layers(tiny: bool) -> Iterator[tuple[str, Case | Epilogue]]:
    """The cases, with their batch; in a rehearsal the first of each operation and family."""
    seen: set[tuple[str, str]] = set()
    for name, case in LAYERS.items():
        kind = case.op, case.family
        if not tiny:
            yield name, dataclasses.replace(case, x=(IMAGES, *case.x[1:]), dtype=DTYPE)
        elif kind not in seen:
            seen.add(kind)
            yield name, _small(case)


def _small(case: Case | Epilogue) -> Case | Epilogue:
    """2 images of 5 pixels with 16 channels, windows of 3 at most, no more than 4 groups."""
    if isinstance(case, Epilogue):
        return dataclasses.replace(case, x=(2, 5, 5, 16), dtype=DTYPE)
    c, depthwise = 16, case.family == "depthwise"
    groups = c if depthwise else min(case.groups, 4)
    w = (*(min(r, 3) for r in case.w[:-2]), c // groups, c) if case.w else ()
    x, padding = (2, *(5,) * len(case.x[1:-1]), c), min(case.padding, 1)
    return dataclasses.replace(case, x=x, w=w, padding=padding, groups=groups, dtype=DTYPE)


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
                "stock": attempt(_stock_name(case), lambda: queued(case, pass_, None)),  # noqa: B023
            }
            if peer is not None:
                entries["torch"] = attempt("torch", lambda: prepared(peer, case, pass_))  # noqa: B023
            rows(
                work, name, case.family, pass_, entries, least_bytes=least, flops=flops,
                dispatch=dispatch,
            )  # fmt: skip


def _stock_name(case):
    return f"jax.nn.{case.activation}" if isinstance(case, Epilogue) else STOCK[case.op]


def passes(case: Case | Epilogue) -> tuple[str, ...]:
    """Forward, and each gradient apart; nobody asks for that of an image of three colours."""
    if isinstance(case, Epilogue):
        return PASSES
    if case.op not in CONVOLUTIONS:
        return ("fwd", "bwd")
    return ("fwd", "dx", "dw") if case.x[-1] > 3 else ("fwd", "dw")


def cost(case: Case | Epilogue, pass_: str) -> tuple[int, int]:
    """The fewest bytes that a pass can move, and its products and sums.

    A pooling's backward pass reads dy and, for the largest, a byte for each window; a norm's x and
    dy; both write dx. Parameters of norms don't count.
    """
    if isinstance(case, Epilogue):
        return case.least_bytes(pass_), 0
    x, y, w = (math.prod(shape) for shape in (case.x, case.output, case.w))
    wide = jnp.dtype(case.dtype).itemsize
    if case.op in CONVOLUTIONS:
        return wide * (x + y + w), 2 * y * math.prod(case.w[:-1])
    if pass_ == "fwd":
        return wide * (x + y), 0
    if case.op in NORMS:
        return wide * 3 * x, 0
    return wide * (x + y) + (y if case.op == "max_pool" else 0), 0


def queued(case: Case | Epilogue, pass_: str, implementation: str | None) -> Queued:
    """jconv's computation by an implementation, or stock JAX's, ready to be timed."""

    def program(which: str) -> Callable[..., Any]:
        if isinstance(case, Epilogue):
            return case.program(which, implementation)
        return ours(case, which, implementation) if implementation else stock(case, which)

    least, _ = cost(case, pass_)
    if pass_ != "bwd":
        return Queued(program(pass_), copies(lambda n: _operands(case, pass_, n), least))
    forward = program("fwd")

    def kept(number: int) -> Any:
        *given, dy = _operands(case, "full", number)
        return jax.jit(lambda *a: jax.vjp(lambda *b: forward(*b)[0], *a)[1])(*given), dy

    return Queued(lambda back, dy: back(dy), copies(kept, least))


def prepared(peer: bench.Peer, case: Case | Epilogue, pass_: str) -> bench.Peer:
    """PyTorch's process with the pass ready to be timed."""
    peer.prepare("operation", {"case": dataclasses.asdict(case), "which": pass_})
    return peer


def _operands(case, pass_, number):
    keys = jax.random.split(jax.random.key(number), 5)
    given = case.shapes(pass_) if isinstance(case, Epilogue) else shapes(case, pass_)
    parts = zip(keys, given, strict=False)
    return [jax.random.normal(key, shape, jnp.dtype(case.dtype)) for key, shape in parts]
