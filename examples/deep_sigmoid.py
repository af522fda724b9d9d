"""A classifier whose gradient vanishes: sigmoid layers with torch's default weights, one after the other.

The slope of a sigmoid is at most 1/4, and the default weights take away another 42 per cent: about one seventh of the
gradient passes a layer.

    layerlab model inspect examples/deep_sigmoid.py:model
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

WIDTH, DEPTH, CLASSES = 32, 7, 10


def model() -> nn.Module:
    """Seven sigmoid layers and a linear one for the classes."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for depth in range(1, DEPTH + 1):
        layers[f"layer{depth}"] = nn.Sequential(
            OrderedDict(linear=nn.Linear(WIDTH, WIDTH), sigmoid=nn.Sigmoid())
        )
    layers["head"] = nn.Linear(WIDTH, CLASSES)
    return nn.Sequential(layers)


def example_inputs() -> Tensor:
    """A batch as it would be after standardisation."""
    return torch.randn(16, WIDTH)
