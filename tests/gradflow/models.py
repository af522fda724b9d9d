"""Small models of the kinds that people bring, with inputs for them; all in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from layerlab.graph.layers import GATConv, GCNConv
from layerlab.graph.structure import Graph


class Block(nn.Module):
    """A residual block as in ResNet, with operations in place."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += x
        return self.relu(out)


def mlp() -> nn.Module:
    return nn.Sequential(
        nn.Linear(7, 9), nn.Sigmoid(), nn.Linear(9, 8), nn.ReLU(inplace=True), nn.Linear(8, 5)
    )


def resnet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        Block(4),
        Block(4),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 3),
    )


def vgg() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.ReLU(True),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3, padding=1),
        nn.ReLU(True),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(6 * 4, 8),
        nn.ReLU(True),
        nn.Dropout(),
        nn.Linear(8, 3),
    )


class Recurrent(nn.Module):
    """A recurrent net whose output is the sequence alone."""

    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.inner = kind(3, 5, num_layers=2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)[0]


class CausalBlock(nn.Module):
    """A decoder block as in GPT, with fused attention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.ln1, self.ln2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        q, k, v = (
            t.view(batch, length, self.heads, -1).transpose(1, 2)
            for t in self.qkv(self.ln1(x)).split(width, dim=2)
        )
        y = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(batch, length, width))
        return x + self.mlp(self.ln2(x))


class Decoder(nn.Module):
    """A GPT-like decoder: tokens in, a dictionary with logits out, as a shared embedding gives them."""

    def __init__(self, vocabulary: int = 11, width: int = 8) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocabulary, width), nn.Embedding(16, width)
        self.blocks = nn.ModuleList(CausalBlock(width, 2) for _ in range(2))
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> dict[str, Tensor]:
        x = self.tokens(tokens) + self.places(torch.arange(tokens.shape[1]))
        for block in self.blocks:
            x = block(x)
        return {"logits": self.norm(x) @ self.tokens.weight.T}


class VisionTransformer(nn.Module):
    """A ViT-like encoder: patches, a class token, places, attention without a mask."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.patches = nn.Conv2d(2, width, 4, stride=4)
        self.token = nn.Parameter(torch.randn(1, 1, width))
        self.places = nn.Parameter(torch.randn(1, 5, width))
        self.encoder = transformer()
        self.head = nn.Linear(width, 3)

    def forward(self, images: Tensor) -> Tensor:
        x = self.patches(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.places
        return self.head(self.encoder(x)[:, 0])


def transformer() -> nn.Module:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


class UNet(nn.Module):
    """Two levels with a skip."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(True))
        self.bottom = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(4, 6, 3, padding=1), nn.ReLU(True))
        self.up = nn.ConvTranspose2d(6, 4, 2, stride=2)
        self.last = nn.Conv2d(8, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        skip = self.down(x)
        return self.last(torch.cat([skip, self.up(self.bottom(skip))], 1))


class OnGraph(nn.Module):
    """Two convolutions on a graph."""

    def __init__(self, kind: type[nn.Module]) -> None:
        super().__init__()
        self.first, self.second = kind(3, 4), kind(4, 2)

    def forward(self, x: Tensor, graph: Graph) -> Tensor:
        return self.second(torch.tanh(self.first(x, graph)), graph)


def _graph() -> Graph:
    return Graph.from_edges([0, 1, 2, 3, 4, 0], [1, 2, 3, 4, 5, 3])


def _images() -> Tensor:
    return torch.randn(2, 2, 8, 8)


SUBJECTS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Any]]] = {
    "mlp": (mlp, lambda: torch.randn(3, 7)),
    "resnet": (resnet, _images),
    "vgg": (vgg, _images),
    "rnn": (lambda: Recurrent(nn.RNN), lambda: torch.randn(2, 6, 3)),
    "lstm": (lambda: Recurrent(nn.LSTM), lambda: torch.randn(2, 6, 3)),
    "gru": (lambda: Recurrent(nn.GRU), lambda: torch.randn(2, 6, 3)),
    "decoder": (Decoder, lambda: torch.randint(0, 11, (2, 5))),
    "vit": (VisionTransformer, _images),
    "transformer": (transformer, lambda: torch.randn(2, 5, 8)),
    "unet": (UNet, _images),
    "gcn": (lambda: OnGraph(GCNConv), lambda: (torch.randn(6, 3), _graph())),
    "gat": (lambda: OnGraph(GATConv), lambda: (torch.randn(6, 3), _graph())),
}


def subject(name: str, seed: int = 0) -> tuple[nn.Module, Any]:
    """A model in float64 and eval mode, with inputs; running statistics and biases are not those of a start."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        make, inputs = SUBJECTS[name]
        model = make().double().eval()
        for tensor in [*model.parameters(), *model.buffers()]:
            if tensor.is_floating_point() and tensor.ndim == 1:
                tensor.data.add_(0.1 * torch.rand_like(tensor))
        given = inputs()
    if isinstance(given, Tensor) and given.is_floating_point():
        return model, given.double()
    if isinstance(given, tuple):
        return model, (given[0].double(), *given[1:])
    return model, given
