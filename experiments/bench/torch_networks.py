"""The networks of train_steps.py in PyTorch, and a step of training; for jconv/bench/serve.py.

Parameters are named as in jconv's models, which have torchvision's and the authors' names. Images
come as (N, H, W, C) and are computed on in channels-last layout.

References: He et al. 2015, arXiv:1512.03385; Sandler et al. 2018, arXiv:1801.04381; Liu et al.
2022, arXiv:2201.03545.
"""

from __future__ import annotations

import itertools

import torch  # pyright: ignore[reportMissingImports]
import torch.nn.functional as F  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]


def describe(threads):
    """Sets the number of threads; PyTorch's version."""
    torch.set_num_threads(threads)
    return {"torch": str(torch.__version__)}


def arrays(results):
    """Tensors by name as arrays by name."""
    return {name: tensor.detach().numpy() for name, tensor in results.items()}


def weights(operands, network, options):
    """The function that returns the network's parameters and statistics, always the same."""
    state = _network(network, options).state_dict()
    return lambda: {name: t for name, t in state.items() if "num_batches_tracked" not in name}


def train_step(operands, network, options, learning_rate, momentum):
    """The function that does one step of SGD and returns the loss before it; one step is done."""
    images, labels = (torch.from_numpy(array) for array in operands)
    images = images.permute(0, 3, 1, 2)
    model = _network(network, options).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate, momentum=momentum)

    def step():
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        return {"loss": loss.detach()}

    step()
    return step


def _network(name, options):
    torch.manual_seed(0)
    return {"resnet18": ResNet18, "mobilenet_v2": MobileNetV2, "convnext": ConvNeXt}[name](
        **options
    )


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(self, channels, features, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, features, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(features)
        self.conv2 = nn.Conv2d(features, features, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(features)
        self.downsample = None
        if stride > 1:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels, features, 1, stride, bias=False), nn.BatchNorm2d(features)
            )

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)), inplace=True)


class ResNet18(nn.Module):
    """ResNet-18 for images of a few dozen pixels: one 3x3 convolution as the stem."""

    def __init__(self, classes):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        sizes = [(64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2)]
        for number, (channels, features, stride) in enumerate(sizes, 1):
            stage = [BasicBlock(channels, features, stride), BasicBlock(features, features, 1)]
            self.add_module(f"layer{number}", nn.Sequential(*stage))
        self.fc = nn.Linear(512, classes)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        for number in range(1, 5):
            x = self.get_submodule(f"layer{number}")(x)
        return self.fc(x.mean((2, 3)))


def _conv_norm(channels, features, size, stride=1, groups=1, act=True):
    conv = nn.Conv2d(channels, features, size, stride, size // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(features), *([nn.ReLU6(inplace=True)] if act else [])]


class InvertedResidual(nn.Module):
    """1x1 convolution outwards, 3x3 depthwise, 1x1 back."""

    def __init__(self, channels, features, expansion, stride):
        super().__init__()
        wide = expansion * channels
        expand = [] if expansion == 1 else [nn.Sequential(*_conv_norm(channels, wide, 1))]
        depthwise = nn.Sequential(*_conv_norm(wide, wide, 3, stride, groups=wide))
        self.conv = nn.Sequential(*expand, depthwise, *_conv_norm(wide, features, 1, act=False))
        self.adds = stride == 1 and channels == features

    def forward(self, x):
        return x + self.conv(x) if self.adds else self.conv(x)


class MobileNetV2(nn.Module):
    """MobileNetV2 without dropout; stages are the rows t, c, n, s of the paper's table 2."""

    def __init__(self, classes, stages):
        super().__init__()
        layers, channels = [nn.Sequential(*_conv_norm(3, 32, 3, 2))], 32
        for expansion, features, blocks, first in stages:
            for stride in (first, *[1] * (blocks - 1)):
                layers.append(InvertedResidual(channels, features, expansion, stride))
                channels = features
        layers.append(nn.Sequential(*_conv_norm(channels, 1280, 1)))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Identity(), nn.Linear(1280, classes))

    def forward(self, x):
        return self.classifier(self.features(x).mean((2, 3)))


class LayerNorm(nn.LayerNorm):
    """Over the channels of (N, C, H, W), which lie last in memory."""

    def forward(self, x):
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvNeXtBlock(nn.Module):
    """7x7 depthwise convolution, norm, two linear layers over the channels."""

    def __init__(self, channels, layer_scale):
        super().__init__()
        self.dwconv = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.pwconv1 = nn.Linear(channels, 4 * channels)
        self.pwconv2 = nn.Linear(4 * channels, channels)
        self.gamma = nn.Parameter(torch.full((channels,), layer_scale))

    def forward(self, x):
        y = self.norm(self.dwconv(x).permute(0, 2, 3, 1))
        y = self.gamma * self.pwconv2(F.gelu(self.pwconv1(y)))
        return x + y.permute(0, 3, 1, 2)


class ConvNeXt(nn.Module):
    """ConvNeXt of any depths and widths, without stochastic depth."""

    def __init__(self, classes, depths, widths, layer_scale):
        super().__init__()
        downsample = [nn.Sequential(nn.Conv2d(3, widths[0], 4, 4), LayerNorm(widths[0], eps=1e-6))]
        for before, width in itertools.pairwise(widths):
            downsample.append(
                nn.Sequential(LayerNorm(before, eps=1e-6), nn.Conv2d(before, width, 2, 2))
            )
        self.downsample_layers = nn.ModuleList(downsample)
        self.stages = nn.ModuleList(
            nn.Sequential(*(ConvNeXtBlock(width, layer_scale) for _ in range(depth)))
            for depth, width in zip(depths, widths, strict=True)
        )
        self.norm = nn.LayerNorm(widths[-1], eps=1e-6)
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, x):
        for number, stage in enumerate(self.stages):
            x = stage(self.downsample_layers[number](x))
        return self.head(self.norm(x.mean((2, 3))))
