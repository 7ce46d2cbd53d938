"""The operations and sizes that speed is judged on: layers of real networks, under short names.

`SUITE` is the yardstick, 78 (case, pass) pairs that stay as they are so that rows can be compared;
`MORE` holds sizes that users meet beside it. Batch and channels follow the papers' networks on
their usual images. All shapes are channels last.

    c3_56x64        3x3 convolution, 56x56 pixels, 64 channels in and out
    s2, dil2        stride 2, dilation 2            dw3, g32    depthwise 3x3, 32 groups
    c1_56_64_256    1x1, 56x56 pixels, 64 channels to 256
    tc4s2           transposed 4x4, stride 2        r_32x64     a layer of a CIFAR ResNet
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Iterable, Iterator, Mapping

CONVOLUTIONS = ("conv", "conv_transpose")
POOLS = ("max_pool", "avg_pool")
NORMS = ("batch_norm", "layer_norm", "group_norm")


@dataclasses.dataclass(frozen=True)
class Case:
    """One operation on operands of one size.

    Attributes:
      op: one of `CONVOLUTIONS`, `POOLS`, `NORMS`.
      x: shape of what goes in, (N, *spatial, channels).
      w: (*window, C/groups, K) of a convolution, or of the one that is transposed; () for others.
      origin: the network that has this layer.
      stride, padding, dilation: pixels, alike on every axis, padding on both sides.
      groups: of a convolution, or of group norm.
      window: of a pooling, pixels.
      dtype: "float32" or "bfloat16".
    """

    op: str
    x: tuple[int, ...]
    w: tuple[int, ...] = ()
    origin: str = ""
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    groups: int = 1
    window: int = 0
    dtype: str = "float32"

    @property
    def passes(self) -> tuple[str, ...]:
        """Forward, and of convolutions each gradient alone; "full" is forward and backward."""
        return ("fwd", "dx", "dw") if self.op in CONVOLUTIONS else ("fwd", "full")

    @property
    def family(self) -> str:
        """What the case is averaged with."""
        if self.op not in CONVOLUTIONS:
            return "pool" if self.op in POOLS else "norm"
        if self.dtype != "float32":
            return self.dtype
        if self.op == "conv_transpose":
            return "transposed"
        if self.groups > 1:
            return "depthwise" if self.w[-2] == 1 else "grouped"
        return "pointwise" if math.prod(self.w[:-2]) == 1 else "dense"

    @property
    def output(self) -> tuple[int, ...]:
        """Shape of what comes out, (N, *spatial, channels)."""
        n, *spatial, channels = self.x
        if self.op in NORMS:
            return self.x
        if self.op == "conv_transpose":
            extents = (self.dilation * (r - 1) + 1 for r in self.w[:-2])
            grown = ((p - 1) * self.stride for p in spatial)
            sizes = (a + b - 2 * self.padding for a, b in zip(grown, extents, strict=True))
            return n, *sizes, self.w[-2] * self.groups
        window = self.w[:-2] or (self.window,) * len(spatial)
        extents = (self.dilation * (r - 1) + 1 for r in window)
        room = (m + 2 * self.padding - e for m, e in zip(spatial, extents, strict=True))
        return n, *(free // self.stride + 1 for free in room), self.w[-1] if self.w else channels


def _conv(x, w, origin, *, stride=1, padding=None, **options):
    """Padding that keeps the size at stride 1, unless it is given."""
    dilation = options.get("dilation", 1)
    padding = dilation * (w[0] - 1) // 2 if padding is None else padding
    return Case("conv", x, w, origin, stride=stride, padding=padding, **options)


def _depthwise(x, r, origin, *, stride=1):
    return _conv(x, (r, r, 1, x[-1]), origin, stride=stride, groups=x[-1])


def _transposed(x, w, origin, *, padding):
    return Case("conv_transpose", x, w, origin, stride=2, padding=padding)


def _pool(kind, x, window, origin, *, stride=2, padding=0):
    return Case(f"{kind}_pool", x, origin=origin, window=window, stride=stride, padding=padding)


SUITE: Mapping[str, Case] = {
    "c3_56x64": _conv((32, 56, 56, 64), (3, 3, 64, 64), "ResNet-18 layer1"),
    "c3_28x128": _conv((32, 28, 28, 128), (3, 3, 128, 128), "ResNet-18 layer2"),
    "c3_14x256": _conv((32, 14, 14, 256), (3, 3, 256, 256), "ResNet-18 layer3"),
    "c3_7x512": _conv((32, 7, 7, 512), (3, 3, 512, 512), "ResNet-18 layer4"),
    "c3s2_56x64": _conv((32, 56, 56, 64), (3, 3, 64, 128), "ResNet-18 layer2.0", stride=2),
    "stem7s2": _conv((16, 224, 224, 3), (7, 7, 3, 64), "ResNet stem", stride=2),
    "patch4s4": _conv((16, 224, 224, 3), (4, 4, 3, 96), "ConvNeXt-T stem", stride=4, padding=0),
    "c1_56_64_256": _conv((32, 56, 56, 64), (1, 1, 64, 256), "ResNet-50 layer1"),
    "c1_14_1024_256": _conv((32, 14, 14, 1024), (1, 1, 1024, 256), "ResNet-50 layer3"),
    "c1s2_56_64_128": _conv((32, 56, 56, 64), (1, 1, 64, 128), "ResNet-18 shortcut", stride=2),
    "dil2_28x128": _conv((32, 28, 28, 128), (3, 3, 128, 128), "DeepLab", dilation=2),
    "dw3_56x128": _depthwise((32, 56, 56, 128), 3, "MobileNet"),
    "dw3s2_56x128": _depthwise((32, 56, 56, 128), 3, "MobileNet", stride=2),
    "dw5_28x240": _depthwise((32, 28, 28, 240), 5, "EfficientNet-B0"),
    "dw7_28x192": _depthwise((32, 28, 28, 192), 7, "ConvNeXt-T stage 2"),
    "g32_28x256": _conv((8, 28, 28, 256), (3, 3, 8, 256), "ResNeXt-50 32x4d", groups=32),
    "g4_28x128": _conv((8, 28, 28, 128), (3, 3, 32, 128), "RegNet", groups=4),
    "c5_28_1_32": _conv((128, 28, 28, 1), (5, 5, 1, 32), "a first network on MNIST"),
    "conv1d": _conv((64, 1024, 64), (5, 64, 128), "sound and text"),
    "conv3d": _conv((2, 16, 56, 56, 16), (3, 3, 3, 16, 32), "C3D, slimmer"),
    "tc4s2_28_128_64": _transposed((16, 28, 28, 128), (4, 4, 64, 128), "DCGAN", padding=1),
    "tc2s2_28_128_64": _transposed((16, 28, 28, 128), (2, 2, 64, 128), "U-Net", padding=0),
    "maxpool2": _pool("max", (32, 112, 112, 64), 2, "VGG, U-Net"),
    "maxpool3s2": _pool("max", (32, 112, 112, 64), 3, "ResNet stem", padding=1),
    "avgpool2": _pool("avg", (32, 112, 112, 64), 2, "DenseNet, LeNet"),
    "batchnorm": Case("batch_norm", (32, 56, 56, 64), origin="ResNet-18 layer1"),
    "layernorm": Case("layer_norm", (32, 28, 28, 192), origin="ConvNeXt-T stage 2"),
    "groupnorm32": Case("group_norm", (32, 28, 28, 256), origin="detection heads", groups=32),
}

MORE: Mapping[str, Case] = {
    "lenet_c1": _conv((128, 28, 28, 1), (5, 5, 1, 6), "LeNet-5 C1"),
    "lenet_c3": _conv((128, 14, 14, 6), (5, 5, 6, 16), "LeNet-5 C3", padding=0),
    "r_32x16": _conv((128, 32, 32, 16), (3, 3, 16, 16), "ResNet-20 layer1"),
    "r_16x32": _conv((128, 16, 16, 32), (3, 3, 32, 32), "ResNet-20 layer2"),
    "r_8x64": _conv((128, 8, 8, 64), (3, 3, 64, 64), "ResNet-20 layer3"),
    "rs2_32x16": _conv((128, 32, 32, 16), (3, 3, 16, 32), "ResNet-20 layer2.0", stride=2),
    "r_32x64": _conv((64, 32, 32, 64), (3, 3, 64, 64), "ResNet-18 on CIFAR layer1"),
    "r_16x128": _conv((64, 16, 16, 128), (3, 3, 128, 128), "ResNet-18 on CIFAR layer2"),
    "r_8x256": _conv((64, 8, 8, 256), (3, 3, 256, 256), "ResNet-18 on CIFAR layer3"),
    "r_4x512": _conv((64, 4, 4, 512), (3, 3, 512, 512), "ResNet-18 on CIFAR layer4"),
    "rs2_32x64": _conv((64, 32, 32, 64), (3, 3, 64, 128), "ResNet-18 on CIFAR", stride=2),
    "c3_128x64": _conv((4, 128, 128, 64), (3, 3, 64, 64), "U-Net"),
    "c3_32_1024_512": _conv((4, 32, 32, 1024), (3, 3, 1024, 512), "U-Net, after the skip"),
    "c1_24_32_192": _conv((16, 24, 24, 32), (1, 1, 32, 192), "MobileNetV2 expansion"),
    "c1_24_192_32": _conv((16, 24, 24, 192), (1, 1, 192, 32), "MobileNetV2 projection"),
    "c1_14_384_1536": _conv((32, 14, 14, 384), (1, 1, 384, 1536), "ConvNeXt-T stage 3"),
    "patch2s2_28_192": _conv(
        (32, 28, 28, 192), (2, 2, 192, 384), "ConvNeXt-T, between stages", stride=2, padding=0
    ),
    "dw3_24x192": _depthwise((16, 24, 24, 192), 3, "MobileNetV2"),
    "dw3s2_48x96": _depthwise((16, 48, 48, 96), 3, "MobileNetV2", stride=2),
    "dw7_56x96": _depthwise((16, 56, 56, 96), 7, "ConvNeXt-T stage 1"),
    "dw7_7x768": _depthwise((32, 7, 7, 768), 7, "ConvNeXt-T stage 4"),
    "dw31_28x64": _depthwise((8, 28, 28, 64), 31, "RepLKNet, slimmer"),
    "c3_28x128_bf16": _conv(
        (32, 28, 28, 128), (3, 3, 128, 128), "ResNet-18 layer2", dtype="bfloat16"
    ),
    "c1_14_1024_256_bf16": _conv(
        (32, 14, 14, 1024), (1, 1, 1024, 256), "ResNet-50 layer3", dtype="bfloat16"
    ),
    "maxpool2_28x32": _pool("max", (128, 28, 28, 32), 2, "a first network on MNIST"),
    "avgpool7": _pool("avg", (32, 7, 7, 512), 7, "ResNet head", stride=7),
    "batchnorm_32x16": Case("batch_norm", (128, 32, 32, 16), origin="ResNet-20 layer1"),
    "batchnorm_7x512": Case("batch_norm", (32, 7, 7, 512), origin="ResNet-18 layer4"),
    "layernorm_56x96": Case("layer_norm", (16, 56, 56, 96), origin="ConvNeXt-T stage 1"),
}

CASES: Mapping[str, Case] = {**SUITE, **MORE}

QUICK = (
    "c3_14x256", "c1s2_56_64_128", "dw3s2_56x128", "g4_28x128", "c5_28_1_32", "r_16x32",
    "tc2s2_28_128_64", "maxpool2_28x32", "avgpool2", "batchnorm", "layernorm",
)  # fmt: skip


def pairs(names: Iterable[str]) -> Iterator[tuple[str, Case, str]]:
    """(name, case, pass) of every pass of the cases called so, in order."""
    for name in names:
        for pass_ in CASES[name].passes:
            yield name, CASES[name], pass_


def select(words: Iterable[str], among: Iterable[str] = CASES) -> list[str]:
    """The names, in order, of the cases that a word names: each a case, a family or an operation.

    Raises:
      ValueError: a word names none.
    """
    among, words = list(among), list(words)
    known = {name: {name, CASES[name].family, CASES[name].op} for name in CASES}
    everything = set().union(*known.values())
    for word in words:
        if word not in everything:
            near = difflib.get_close_matches(word, everything, n=3)
            hint = f" did you mean {' or '.join(near)}?" if near else ""
            families = ", ".join(dict.fromkeys(case.family for case in CASES.values()))
            raise ValueError(
                f"bench: ops must be names of cases, operations or families;{hint} got {word!r}; "
                f"families: {families}"
            )
    if not words:
        return among
    named = [name for name in CASES if name in words]
    return named + [name for name in among if name not in named and known[name] & set(words)]
