"""A model of PyTorch's with random weights: its image, logits and weights as an archive.

    python torch_peer.py NAME OUT.npz N H W C      runs with PyTorch's interpreter

NAME is "unet", which is defined here, or a function of torchvision.models; the process ends with
ABSENT where torchvision can't be imported. The archive holds x (N, H, W, C), `logits` with the
channels last, and `weights/<name>` in PyTorch's own layout.
"""

from __future__ import annotations

import sys

import numpy as np

ABSENT = 3


def unet(nn, torch, widths=(4, 8, 16), channels=3, classes=2):
    """U-Net with two poolings, by the paper's figure 1."""

    def convs(c, k):
        return nn.Sequential(nn.Conv2d(c, k, 3), nn.ReLU(), nn.Conv2d(k, k, 3), nn.ReLU())

    def up(c, k):
        return nn.ConvTranspose2d(c, k, 2, 2)

    class UNet(nn.Module):
        def __init__(self):
            super().__init__()
            a, b, c = widths
            self.down = nn.ModuleList([convs(channels, a), convs(a, b)])
            self.bottom = convs(b, c)
            self.up = nn.ModuleList([up(b, a), up(c, b)])
            self.merge = nn.ModuleList([convs(b, a), convs(c, b)])
            self.head = nn.Conv2d(a, classes, 1)

        def forward(self, x):
            fine = self.down[0](x)
            coarse = self.down[1](nn.functional.max_pool2d(fine, 2))
            x = self.up[1](self.bottom(nn.functional.max_pool2d(coarse, 2)))
            x = self.up[0](self.merge[1](self.joined(coarse, x)))
            return self.head(self.merge[0](self.joined(fine, x)))

        def joined(self, skip, x):
            border = (skip.shape[-1] - x.shape[-1]) // 2
            return torch.cat([skip[..., border:-border, border:-border], x], dim=1)

    return UNet()


def main() -> int:
    """Writes the archive."""
    import torch

    name, path, *shape = sys.argv[1:]
    torch.manual_seed(0)
    if name == "unet":
        model = unet(torch.nn, torch)
    else:
        try:
            import torchvision
        except (ImportError, RuntimeError) as error:
            print(error)
            return ABSENT
        model = getattr(torchvision.models, name)()
    # Vectors start at 0 or 1 (layer scale at 1e-6), which would hide one that went astray.
    for key, array in model.state_dict().items():
        if key.endswith(("running_mean", "bias")):
            array.normal_(0, 0.1)
        elif array.squeeze().ndim == 1:
            array.uniform_(0.5, 1.5)
    n, h, w, c = map(int, shape)
    x = torch.randn(n, c, h, w)
    with torch.no_grad():
        logits = model.eval()(x).movedim(1, -1)
    weights = {f"weights/{key}": array.numpy() for key, array in model.state_dict().items()}
    np.savez(path, x=x.movedim(1, -1).numpy(), logits=logits.numpy(), **weights)
    return 0


if __name__ == "__main__":
    sys.exit(main())
