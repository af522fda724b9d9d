"""Architectures that several cases of the zoo are built from, as people write them."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

CLASSES = 4


@torch.no_grad()
def he(model: nn.Module) -> nn.Module:
    """He's initialisation for ReLU: N(0, 2/fan_in), biases 0."""
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d)):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return model


@torch.no_grad()
def xavier(model: nn.Module, gain: float = 1.0) -> nn.Module:
    """Glorot's initialisation, biases 0."""
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d)):
            nn.init.xavier_uniform_(module.weight, gain)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return model


@torch.no_grad()
def settle(model: nn.Module, inputs: Callable[[], Tensor]) -> nn.Module:
    """Lets batch normalisation gather its running statistics, as means over some batches, then goes to eval mode."""
    norms = [m for m in model.train().modules() if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d))]
    for norm in norms:
        norm.momentum = None
    for _ in range(6):
        model(inputs())
    for norm in norms:
        norm.momentum = 0.1
    return model.eval()


def mlp(widths: list[int], activation: Callable[[], nn.Module]) -> nn.Sequential:
    parts: list[nn.Module] = []
    for a, b in pairwise(widths):
        parts += [nn.Linear(a, b), activation()]
    return nn.Sequential(*parts[:-1])


class FunctionalMLP(nn.Module):
    """Linear layers in a list, the activation applied in `forward`."""

    def __init__(self, widths: list[int], activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        for layer in list(self.layers)[:-1]:
            x = self.activation(layer(x))
        return self.layers[-1](x)


class FunctionalCNN(nn.Module):
    """A stack of 3×3 convolutions, functional activation, global pooling, head."""

    def __init__(self, channels: int, depth: int, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, channels, 3, padding=1)
        self.convs = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(depth))
        self.head = nn.Linear(channels, CLASSES)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        x = self.activation(self.stem(x))
        for i, conv in enumerate(self.convs):
            x = self.activation(conv(x))
            if i == 1:
                x = F.max_pool2d(x, 2)
        return self.head(x.mean((2, 3)))


def vgg(plan: list[int | str], *, norm: bool, side: int) -> nn.Sequential:
    """`features` and `classifier` as in VGG; "M" in the plan is a pooling."""
    parts: list[nn.Module] = []
    channels = 3
    for entry in plan:
        if isinstance(entry, str):
            parts.append(nn.MaxPool2d(2))
            side //= 2
            continue
        parts.append(nn.Conv2d(channels, entry, 3, padding=1))
        parts += ([nn.BatchNorm2d(entry)] if norm else []) + [nn.ReLU(inplace=True)]
        channels = entry
    model = nn.Sequential()
    model.add_module("features", nn.Sequential(*parts))
    model.add_module("flatten", nn.Flatten())
    head = nn.Sequential(nn.Linear(channels * side * side, 32), nn.ReLU(inplace=True), nn.Linear(32, CLASSES))
    model.add_module("classifier", head)
    return model


class BasicBlock(nn.Module):
    """The block of ResNet-18."""

    def __init__(self, inner: int, outer: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inner, outer, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outer)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(outer, outer, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outer)
        self.downsample: nn.Module | None = None
        if stride != 1 or inner != outer:
            self.downsample = nn.Sequential(
                nn.Conv2d(inner, outer, 1, stride, bias=False), nn.BatchNorm2d(outer)
            )

    def forward(self, x: Tensor) -> Tensor:
        skip = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(out)) + skip)


class ResNet(nn.Module):
    """The shape of torchvision's ResNet, small."""

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = nn.Sequential(*(BasicBlock(width, width) for _ in range(blocks)))
        self.layer2 = nn.Sequential(
            BasicBlock(width, 2 * width, 2), *(BasicBlock(2 * width, 2 * width) for _ in range(blocks - 1))
        )
        self.fc = nn.Linear(2 * width, CLASSES)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer2(self.layer1(x))
        return self.fc(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))


class SelfAttention(nn.Module):
    """Multi-head attention, fused, with or without a causal mask."""

    def __init__(self, width: int, heads: int, causal: bool) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, t, d = x.shape
        q, k, v = self.qkv(x).view(n, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.proj(y.transpose(1, 2).reshape(n, t, d))


class PreNormBlock(nn.Module):
    """A block of GPT-2 or ViT."""

    def __init__(self, width: int, heads: int, causal: bool) -> None:
        super().__init__()
        self.ln_1, self.attn = nn.LayerNorm(width), SelfAttention(width, heads, causal)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class GPT(nn.Module):
    """A decoder with learned places; `tied`: the head is the embedding."""

    def __init__(
        self, vocabulary: int, length: int, width: int, heads: int, depth: int, *, tied: bool
    ) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(vocabulary, width), nn.Embedding(length, width)
        self.drop = nn.Dropout(0.1)
        self.h = nn.ModuleList(PreNormBlock(width, heads, True) for _ in range(depth))
        self.ln_f = nn.LayerNorm(width)
        self.lm_head = nn.Linear(width, vocabulary, bias=False)
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        for block in self.h:
            for last in (block.attn.proj, block.mlp[2]):
                nn.init.normal_(last.weight, std=0.02 / math.sqrt(2 * depth))
        if tied:
            self.lm_head.weight = self.wte.weight

    def forward(self, ids: Tensor) -> Tensor:
        x = self.drop(self.wte(ids) + self.wpe(torch.arange(ids.shape[1])))
        for block in self.h:
            x = block(x)
        return self.lm_head(self.ln_f(x))


class ViT(nn.Module):
    """Patches, a class token, places, pre-norm blocks, head on the class token; `pool`: on the mean instead."""

    def __init__(self, side: int, patch: int, width: int, depth: int, *, pool: bool) -> None:
        super().__init__()
        self.pool = pool
        self.patch_embed = nn.Conv2d(3, width, patch, patch)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.empty(1, (side // patch) ** 2 + 1, width))
        self.blocks = nn.Sequential(*(PreNormBlock(width, 4, False) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.pre_logits: nn.Module = nn.Identity()
        self.head = nn.Linear(width, CLASSES)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        xavier(self.blocks)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], 1) + self.pos_embed
        x = self.norm(self.blocks(x))
        return self.head(self.pre_logits(x.mean(1) if self.pool else x[:, 0]))


class SequenceClassifier(nn.Module):
    """A recurrent net, and a head on its last step."""

    def __init__(self, rnn: nn.RNNBase) -> None:
        super().__init__()
        self.rnn = rnn
        self.head = nn.Linear(rnn.hidden_size * (2 if rnn.bidirectional else 1), CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0][:, -1])


class TokenClassifier(nn.Module):
    """Embedding, `nn.TransformerEncoder`, mean over the places, head."""

    def __init__(self, vocabulary: int, length: int, width: int, depth: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        self.places = nn.Parameter(0.02 * torch.randn(1, length, width))
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.head = nn.Linear(width, CLASSES)
        for parameter in self.encoder.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.encoder(self.embed(ids) + self.places).mean(1))


class DoubleConv(nn.Sequential):
    """Twice convolution, normalisation, ReLU, as in U-Net."""

    def __init__(self, inner: int, outer: int, norm: Callable[[int], nn.Module]) -> None:
        super().__init__(
            nn.Conv2d(inner, outer, 3, padding=1),
            norm(outer),
            nn.ReLU(inplace=True),
            nn.Conv2d(outer, outer, 3, padding=1),
            norm(outer),
            nn.ReLU(inplace=True),
        )


class UNet(nn.Module):
    """Two levels down and up, with skips."""

    def __init__(self, norm: Callable[[int], nn.Module], width: int) -> None:
        super().__init__()
        self.inc = DoubleConv(3, width, norm)
        self.down1, self.down2 = DoubleConv(width, 2 * width, norm), DoubleConv(2 * width, 4 * width, norm)
        self.up1 = nn.ConvTranspose2d(4 * width, 2 * width, 2, 2)
        self.dec1 = DoubleConv(4 * width, 2 * width, norm)
        self.up2 = nn.ConvTranspose2d(2 * width, width, 2, 2)
        self.dec2 = DoubleConv(2 * width, width, norm)
        self.outc = nn.Conv2d(width, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.inc(x)
        b = self.down1(F.max_pool2d(a, 2))
        c = self.down2(F.max_pool2d(b, 2))
        y = self.dec1(torch.cat([b, self.up1(c)], 1))
        return self.outc(self.dec2(torch.cat([a, self.up2(y)], 1)))
