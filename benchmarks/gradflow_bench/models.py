"""The models: the twelve small architectures of the gate, and transformers at the size of the goals."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn

ROOT = Path(__file__).parents[2]


def small() -> ModuleType:
    """tests/gradflow/models.py: `SUBJECTS` and `subject(name)`, in float64."""
    name = "gradflow_small_models"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, ROOT / "tests" / "gradflow" / "models.py")
        assert spec is not None and spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@dataclass(frozen=True)
class Size:
    """Of a transformer: depth, width, heads (a feed-forward width of four times the width), tokens."""

    layers: int
    width: int
    heads: int
    tokens: int

    def describe(self) -> str:
        return f"{self.layers} layers, {self.width} wide, {self.heads} heads, {self.tokens} tokens"


GOAL = Size(12, 512, 8, 128)
QUICK = Size(2, 32, 4, 8)


def encoder(size: Size) -> nn.Module:
    """`nn.TransformerEncoder` as torch builds it: post-norm, ReLU."""
    layer = nn.TransformerEncoderLayer(size.width, size.heads, 4 * size.width, batch_first=True)
    return nn.TransformerEncoder(layer, size.layers, enable_nested_tensor=False).eval()


def decoder(size: Size) -> nn.Module:
    """Pre-norm, causal attention, GELU, as in GPT-2; from vectors to vectors."""
    block = small().CausalBlock
    blocks = [block(size.width, size.heads) for _ in range(size.layers)]
    return nn.Sequential(*blocks, nn.LayerNorm(size.width)).eval()


MODELS: dict[str, Callable[[Size], nn.Module]] = {"encoder": encoder, "decoder": decoder}
NAMES = {"encoder": "nn.TransformerEncoder (post-norm)", "decoder": "GPT-like decoder (pre-norm)"}


def subject(name: str, size: Size) -> tuple[nn.Module, Tensor]:
    """A model at its start and one input of batch 1, float32."""
    torch.manual_seed(0)
    return MODELS[name](size), torch.randn(1, size.tokens, size.width)


class Attending(nn.Module):
    """x + attention(x)."""

    def __init__(self, layer: nn.TransformerEncoderLayer) -> None:
        super().__init__()
        self.inner = layer.self_attn

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x, x, x, need_weights=False)[0]


class Feeding(nn.Module):
    """x + mlp(x)."""

    def __init__(self, layer: nn.TransformerEncoderLayer) -> None:
        super().__init__()
        self.inner = nn.Sequential(layer.linear1, nn.ReLU(), layer.linear2)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


def pieces(size: Size) -> tuple[dict[str, nn.Module], Tensor]:
    """The steps of one encoder layer, and an input."""
    torch.manual_seed(0)
    # Not in eval mode, where attention without a record takes a kernel that torch.func cannot differentiate.
    layer = nn.TransformerEncoderLayer(size.width, size.heads, 4 * size.width, dropout=0.0, batch_first=True)
    found = {"attention": Attending(layer), "normalisation": layer.norm1, "feed-forward": Feeding(layer)}
    for module in found.values():
        module.requires_grad_(False)
    return found, torch.randn(1, size.tokens, size.width)
