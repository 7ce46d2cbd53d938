"""PyTorch's side of gpu.py, for jconv/bench/serve.py: layers and steps of training on its GPU.

Channels last, bfloat16 (networks: parameters in float32 under autocast), cuDNN's autotuning on,
networks by `torch.compile`. Operands are drawn here: nothing but times is asked for.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
sys.path.append(str(Path(__file__).parents[2] / "jconv" / "bench"))

import torch  # pyright: ignore[reportMissingImports]
import torch.nn.functional as F  # pyright: ignore[reportMissingImports]
import torch_networks  # pyright: ignore[reportMissingImports]
import torch_ops  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]

ON_GPU = torch.cuda.is_available()


def describe(threads):
    """Sets the number of threads and the device; versions."""
    torch.set_num_threads(threads)
    torch.set_default_device("cuda" if ON_GPU else "cpu")
    torch.backends.cudnn.benchmark = True
    return {"torch": str(torch.__version__), "cudnn": str(torch.backends.cudnn.version())}


def arrays(results):
    """Nothing: results stay on the GPU."""
    return {}


def wait():
    """Until all that was sent to the GPU is done."""
    if ON_GPU:
        torch.cuda.synchronize()


def operation(operands, case, which):
    """The function that computes a pass of a case, given as the fields of `Case`."""
    dtype = getattr(torch, case["dtype"])
    if case["op"] == "scale_bias_act":
        return _epilogue(case, which, dtype)
    convolution = case["op"] in ("conv", "conv_transpose")
    x = torch.randn(case["x"], dtype=dtype)
    if convolution:
        w, y = torch.randn(case["w"], dtype=dtype), torch.randn(_output(case), dtype=dtype)
        return torch_ops._convolution(
            case, which, *{"fwd": (x, w), "dx": (y, w), "dw": (x, y)}[which]
        )
    x = x if case["op"] == "layer_norm" else torch_ops._image(x)
    scale, bias = torch.ones(case["x"][-1], dtype=dtype), torch.zeros(case["x"][-1], dtype=dtype)
    if which == "fwd":

        def alone():
            with torch.no_grad():
                return _forward(case, x, scale, bias)

        return alone
    given = [x.requires_grad_()]
    if "pool" not in case["op"]:
        given += [scale.requires_grad_(), bias.requires_grad_()]
    y = _forward(case, x, scale, bias)
    dy = torch.randn_like(y)
    return lambda: torch.autograd.grad(y, given, dy, retain_graph=True)


def _output(case):
    sizes = zip(case["x"][1:-1], case["w"][:-2], strict=True)
    dilation, padding, stride = case["dilation"], case["padding"], case["stride"]
    spatial = ((n + 2 * padding - dilation * (r - 1) - 1) // stride + 1 for n, r in sizes)
    return (case["x"][0], *spatial, case["w"][-1])


def _forward(case, x, scale, bias):
    if "pool" in case["op"]:
        pool = F.max_pool2d if case["op"] == "max_pool" else F.avg_pool2d
        return pool(x, case["window"], case["stride"], case["padding"])
    if case["op"] == "batch_norm":
        return F.batch_norm(x, None, None, scale, bias, training=True)
    if case["op"] == "layer_norm":
        return F.layer_norm(x, x.shape[-1:], scale, bias)
    return F.group_norm(x, case["groups"], scale, bias)


ACTIVATIONS = {
    "relu": F.relu, "silu": F.silu, "hard_swish": F.hardswish, "gelu_exact": F.gelu,
}  # fmt: skip


def _epilogue(case, which, dtype):
    """What follows a convolution, in one kernel of `torch.compile` each way."""
    n, *_, c = case["x"]
    x = torch_ops._image(torch.randn(case["x"], dtype=dtype))
    parameters = [torch.randn(shape, dtype=dtype) for shape in ((c, 1, 1), (c, 1, 1), (n, c, 1, 1))]
    act, given = ACTIVATIONS[case["activation"]], [x, *parameters[: 2 + case["gated"]]]

    @torch.compile
    def forward(x, scale, bias, *gate):
        y = act(x.float() * scale + bias)
        return (y * gate[0] if gate else y).to(dtype)

    if which == "fwd":

        def alone():
            with torch.no_grad():
                return forward(*given)

        return alone
    dy = torch.randn_like(x)
    given = [tensor.requires_grad_() for tensor in given]

    def full():
        y = forward(*given)
        return y, *torch.autograd.grad(y, given, dy)

    return full


def train_step(operands, network, options, batch, pixels, compiled):
    """The function that does one step of SGD with momentum; two are done."""
    torch.manual_seed(0)
    images = torch.randn(batch, 3, pixels, pixels).to(memory_format=torch.channels_last)
    labels = torch.randint(0, options["classes"], (batch,))
    model = NETWORKS[network](**options).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    run = torch.compile(model) if compiled else model
    device = "cuda" if ON_GPU else "cpu"

    def step():
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device, torch.bfloat16):
            logits = run(images)
            logits = logits.mean((2, 3)) if logits.ndim == 4 else logits
            loss = F.cross_entropy(logits.float(), labels)
        loss.backward()
        optimizer.step()

    step()
    step()
    wait()
    return step


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolution beside a shortcut."""

    def __init__(self, channels, width, stride):
        super().__init__()

        def norm(before, after, size, stride=1):
            conv = nn.Conv2d(before, after, size, stride, size // 2, bias=False)
            return conv, nn.BatchNorm2d(after)

        self.residual = nn.Sequential(
            *norm(channels, width, 1), nn.ReLU(True), *norm(width, width, 3, stride),
            nn.ReLU(True), *norm(width, 4 * width, 1),
        )  # fmt: skip
        same = stride == 1 and channels == 4 * width
        self.downsample = (
            nn.Identity() if same else nn.Sequential(*norm(channels, 4 * width, 1, stride))
        )

    def forward(self, x):
        return F.relu(self.residual(x) + self.downsample(x))


def resnet50(classes):
    """He et al. 2015, arXiv:1512.03385, strides in the 3x3 convolutions."""
    stem = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
    layers = [stem, nn.BatchNorm2d(64), nn.ReLU(True), nn.MaxPool2d(3, 2, 1)]
    channels = 64
    for stage, blocks in enumerate((3, 4, 6, 3)):
        for number in range(blocks):
            stride = 2 if stage > 0 and number == 0 else 1
            layers.append(Bottleneck(channels, 64 << stage, stride))
            channels = 256 << stage
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2048, classes))


class UNet(nn.Module):
    """Ronneberger et al. 2015, arXiv:1505.04597, with padding."""

    def __init__(self, classes, depth=4, width=64):
        super().__init__()
        widths = [width << level for level in range(depth + 1)]
        pairs = list(zip(widths[1:], widths[:-1], strict=True))[::-1]
        self.down = nn.ModuleList(map(self._convs, [3, *widths[:-1]], widths))
        self.up = nn.ModuleList(nn.ConvTranspose2d(a, b, 2, 2) for a, b in pairs)
        self.merge = nn.ModuleList(self._convs(a, b) for a, b in pairs)
        self.head = nn.Conv2d(width, classes, 1)

    @staticmethod
    def _convs(before, after):
        first, second = nn.Conv2d(before, after, 3, 1, 1), nn.Conv2d(after, after, 3, 1, 1)
        return nn.Sequential(first, nn.ReLU(True), second, nn.ReLU(True))

    def forward(self, x):
        skips = []
        for number, down in enumerate(self.down):
            x = down(x if number == 0 else F.max_pool2d(x, 2))
            skips.append(x)
        for up, merge, skip in zip(self.up, self.merge, skips[-2::-1], strict=True):
            x = merge(torch.cat([skip, up(x)], 1))
        return self.head(x)


NETWORKS = {
    "resnet50": resnet50, "unet": UNet, "convnext_tiny": torch_networks.ConvNeXt,
    "mobilenet_v2": torch_networks.MobileNetV2,
}  # fmt: skip
