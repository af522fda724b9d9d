"""The layer and torch's, made alike, with inputs and masks for both."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from layerlab.attention.layers import MultiheadAttention

EMBED, HEADS, BATCH, N, M = 12, 3, 2, 5, 7


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def torchs(seed: int = 0, **options: Any) -> nn.MultiheadAttention:
    torch.manual_seed(seed)
    module = nn.MultiheadAttention(EMBED, HEADS, dtype=torch.float64, **{"batch_first": True, **options})
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * random(*parameter.shape, seed=1))
    return module


def ours(mechanism: str = "softmax", **options: Any) -> MultiheadAttention:
    torch.manual_seed(0)
    return MultiheadAttention(EMBED, HEADS, mechanism, dtype=torch.float64, **options)


def inputs(batch_first: bool = True, kdim: int = EMBED, vdim: int = EMBED) -> list[Tensor]:
    given = [random(BATCH, N, EMBED), random(BATCH, M, kdim, seed=1), random(BATCH, M, vdim, seed=2)]
    return [x if batch_first else x.transpose(0, 1).contiguous() for x in given]


def masks_of(kind: str) -> dict[str, Tensor]:
    """Masks of torch's kind that hide no key from everybody."""
    generator = torch.Generator().manual_seed(3)
    padding = torch.zeros(BATCH, M, dtype=torch.bool)
    padding[0, 5:] = True
    pairs = torch.rand(N, M, generator=generator) > 0.7
    pairs[:, 0] = False
    each = torch.rand(BATCH * HEADS, N, M, generator=generator) > 0.7
    each[..., 0] = False

    def added(hidden: Tensor) -> Tensor:
        noise = torch.rand(hidden.shape, generator=generator, dtype=torch.float64)
        return noise.masked_fill(hidden, -math.inf)

    return {
        "none": {},
        "padding": {"key_padding_mask": padding},
        "float padding": {"key_padding_mask": added(padding)},
        "pairs": {"attn_mask": pairs},
        "each": {"attn_mask": each},
        "both": {"key_padding_mask": padding, "attn_mask": pairs},
        "both float": {"key_padding_mask": added(padding), "attn_mask": added(each)},
    }[kind]


def close(left: Tensor, right: Tensor, tolerance: float = 1e-12) -> bool:
    return left.shape == right.shape and bool((left - right).abs().max() < tolerance)
