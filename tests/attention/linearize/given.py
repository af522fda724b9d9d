"""Models to make linear, named by file as people do; what they are called with stands beside."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

WIDTH, HEADS, TOKENS = 12, 2, 20


class Block(nn.Module):
    """x + share · attention(x)."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share, self.qkv = share, nn.Linear(WIDTH, 3 * WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(2 * q, 2 * k, v)
        return x + self.share * seen.transpose(1, 2).flatten(2)


def model() -> nn.Module:
    """The first attention hardly matters, the second does."""
    torch.manual_seed(1)
    return nn.Sequential(Block(0.02), Block(2.0), nn.Linear(WIDTH, 3))


def example_inputs() -> Tensor:
    return torch.randn(6, TOKENS, WIDTH, generator=torch.Generator().manual_seed(2))


def without() -> nn.Module:
    """No attention."""
    return nn.Linear(WIDTH, 2)


class Obstacles(nn.Module):
    """One module twice, one inside another, one with keys of its own, and one that can be exchanged."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.twice, self.outer = Block(1.0), Outer()
        self.biased = nn.MultiheadAttention(WIDTH, HEADS, add_bias_kv=True, batch_first=True)
        self.band, self.good = Band(), Block(1.0)

    def forward(self, x: Tensor) -> Tensor:
        x = self.outer(self.twice(self.twice(x)))
        return self.good(self.band(self.biased(x, x, x)[0]))


class Outer(Block):
    def __init__(self) -> None:
        super().__init__(1.0)
        self.inner = Block(1.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(super().forward(x))


class Band(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        place = torch.arange(x.shape[1])
        near = (place[:, None] - place).abs() < 3
        x = x.unsqueeze(1)
        return functional.scaled_dot_product_attention(x, x, x, attn_mask=near).squeeze(1)


def obstacles() -> nn.Module:
    return Obstacles()
