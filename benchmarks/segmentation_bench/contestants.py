"""The networks that are compared: ours, the same architecture written plainly, and MONAI's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from layerlab.segmentation.fast import keeping_memory
from layerlab.segmentation.interop import to_monai
from layerlab.segmentation.unet import UNet

CHANNELS, CLASSES = 3, 11


class Plain(nn.Module):
    """The U-Net as one writes it: torch's modules, contiguous ``(n, channels, h, w)``, sides that divide."""

    def __init__(self, channels: int, classes: int, widths: Sequence[int]) -> None:
        super().__init__()
        inputs = (channels, *widths[:-1])
        self.encoder = nn.ModuleList(block(a, b) for a, b in zip(inputs, widths, strict=True))
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, stride=2) for a, b in pairwise(widths))
        self.decoder = nn.ModuleList(block(2 * width, width) for width in widths[:-1])
        self.head = nn.Conv2d(widths[0], classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        kept: list[Tensor] = []
        for level, part in enumerate(self.encoder):
            if level:
                kept.append(x)
                x = functional.max_pool2d(x, 2)
            x = part(x)
        for level in reversed(range(len(self.decoder))):
            x = self.decoder[level](torch.cat((kept[level], self.up[level](x)), 1))
        logits: Tensor = self.head(x)
        return logits


def block(inputs: int, width: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before in (inputs, width):
        layers += [nn.Conv2d(before, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*layers)


def plain(net: UNet) -> Plain:
    """The plain network with the weights of ours."""
    made = Plain(net.channels, net.classes, net.widths).to(net.stem.weight.dtype)
    names = {"conv_0": "0", "norm_0": "1", "conv_1": "3", "norm_1": "4"}
    state = {}
    for name, value in net.state_dict().items():
        there = name.replace(".block.", ".")
        if name.startswith("decoder") and ".up." in name:
            _, level, _, what = name.split(".")
            there = f"up.{level}.{what}"
        state[".".join(names.get(part, part) for part in there.split("."))] = value
    made.load_state_dict(state)
    return made


def ours(widths: Sequence[int], seed: int = 0, **options: Any) -> UNet:
    torch.manual_seed(seed)
    return UNet(CHANNELS, CLASSES, widths, **options)


def monai(net: UNet) -> nn.Module:
    """MONAI's BasicUNet with the weights of ours."""
    return to_monai(net)


def drawn(images: int, side: int, seed: int = 1) -> tuple[Tensor, Tensor]:
    """A batch and a class for each of its pixels."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(images, CHANNELS, side, side, generator=generator)
    return x, torch.randint(0, CLASSES, (images, side, side), generator=generator)


def trainer(net: nn.Module, x: Tensor, y: Tensor, steps: int) -> Callable[[], float]:
    """A few steps of training: forward, cross-entropy, backward, AdamW."""
    optimizer = torch.optim.AdamW(net.parameters(), 1e-4, fused=True)

    def run() -> float:
        loss = torch.zeros(())
        for _ in range(steps):
            optimizer.zero_grad(set_to_none=True)
            loss = functional.cross_entropy(net(x), y)
            loss.backward()
            optimizer.step()
        return float(loss.detach())

    return run


def keeping(run: Callable[[], float]) -> Callable[[], float]:
    """The same in memory that the process keeps; the first step pays for it, so that the others need not."""

    def inside() -> float:
        with keeping_memory():
            return run()

    return inside


def predictor(net: nn.Module, x: Tensor) -> Callable[[], Tensor]:
    net.eval()

    def run() -> Tensor:
        with torch.inference_mode():
            found: Tensor = net(x)
        return found

    return run
