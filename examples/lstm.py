"""An LSTM that reads a sequence and answers at its end: how much of the gradient reaches the first step?

layerlab model inspect examples/lstm.py:model
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Reader(nn.Module):
    """One LSTM layer; the last output goes to a linear layer."""

    def __init__(self, features: int = 8, hidden: int = 32, classes: int = 5) -> None:
        super().__init__()
        self.lstm = nn.LSTM(features, hidden, batch_first=True)
        self.head = nn.Linear(hidden, classes)

    def forward(self, sequence: Tensor) -> Tensor:
        states, _ = self.lstm(sequence)
        return self.head(states[:, -1])


def model() -> nn.Module:
    return Reader()


def example_inputs() -> Tensor:
    """Eight sequences of 24 steps."""
    return torch.randn(8, 24, 8)
