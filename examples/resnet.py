"""A small residual net for images of 16 × 16: gradients go around every block, and stay.

layerlab model inspect examples/resnet.py:model
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Block(nn.Module):
    """relu(x + bn(conv(relu(bn(conv(x))))))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        out = self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(x)))))
        return torch.relu(x + out)


class ResNet(nn.Module):
    """A stem, six blocks, an average over places, a linear layer."""

    def __init__(self, channels: int = 8, blocks: int = 6, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, channels, 3, stride=2, padding=1)
        self.blocks = nn.Sequential(*(Block(channels) for _ in range(blocks)))
        self.head = nn.Linear(channels, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(images)).mean((2, 3)))


def model() -> nn.Module:
    """As it predicts: batch norm with running statistics."""
    return ResNet().eval()


def example_inputs() -> Tensor:
    """Four images, standardised."""
    return torch.randn(4, 3, 16, 16)
