"""Twenty models that train: the half that judges. No threshold may be chosen on it."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from .zoo_case import (
    Case,
    blur,
    classification,
    features,
    healthy,
    images,
    next_token,
    probabilities,
    reconstruction,
    tokens,
    train,
    waves,
)
from .zoo_models import GPT, FunctionalCNN, FunctionalMLP, TokenClassifier, UNet, ViT, he, mlp, settle, xavier


@healthy(features(18))
def lsuv_mlp() -> nn.Module:
    """Eight functional leaky ReLU layers: orthogonal, then each scaled to unit variance on a batch."""
    model = FunctionalMLP([18, *[40] * 8, 4], F.leaky_relu)
    x = features(18, 64)()
    with torch.no_grad():
        for layer in model.layers:
            nn.init.orthogonal_(layer.weight)
            nn.init.zeros_(layer.bias)
            layer.weight /= layer(x).std()
            x = F.leaky_relu(layer(x))
    return model


@healthy(features(24))
def xavier_tanh_mlp() -> nn.Module:
    """Six hidden layers of different widths, gain 5/3."""
    return xavier(mlp([24, 64, 32, 64, 32, 64, 32, 4], nn.Tanh), 5 / 3)


@healthy(features(30), rate=1e-3)
def selu_alpha_dropout() -> nn.Module:
    """Seven hidden layers, in train mode."""
    parts: list[nn.Module] = []
    for inner, outer in [(30, 48), *[(48, 48)] * 6]:
        parts += [nn.Linear(inner, outer), nn.SELU(), nn.AlphaDropout(0.05)]
    model = nn.Sequential(*parts, nn.Linear(48, 4)).train()
    for module in model:
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
            nn.init.zeros_(module.bias)
    return model


@healthy(tokens(40, 12, 32), rate=1e-2)
def embedding_bag() -> nn.Module:
    """Sum of word vectors, two layers."""
    return nn.Sequential(nn.EmbeddingBag(40, 24, mode="sum"), nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 4))


@healthy(features(14), loss=probabilities, rate=1e-2)
def sigmoid_net_with_softmax() -> nn.Module:
    """Two sigmoid layers; the output is probabilities."""
    return nn.Sequential(
        nn.Linear(14, 40), nn.Sigmoid(), nn.Linear(40, 20), nn.Sigmoid(), nn.Linear(20, 3), nn.Softmax(1)
    )


@healthy(images(3, 12))
def all_convolutional() -> nn.Module:
    """Eight convolutions, functional leaky ReLU, He's initialisation, no normalisation."""
    return he(FunctionalCNN(12, 7, lambda x: F.leaky_relu(x, 0.1)))


class PreActivation(nn.Module):
    """A bottleneck block of the second ResNet paper."""

    def __init__(self, width: int, stride: int) -> None:
        super().__init__()
        inner = width // 2
        self.norm1, self.conv1 = nn.BatchNorm2d(width), nn.Conv2d(width, inner, 1, bias=False)
        self.norm2, self.conv2 = nn.BatchNorm2d(inner), nn.Conv2d(inner, inner, 3, stride, 1, bias=False)
        self.norm3, self.conv3 = nn.BatchNorm2d(inner), nn.Conv2d(inner, width, 1, bias=False)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv1(F.relu(self.norm1(x)))
        out = self.conv2(F.relu(self.norm2(out)))
        return F.avg_pool2d(x, self.stride) + self.conv3(F.relu(self.norm3(out)))


def pre_activation() -> nn.Sequential:
    blocks = [PreActivation(16, stride) for stride in (1, 2, 1, 2, 1)]
    head = [nn.BatchNorm2d(16), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4)]
    return nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), *blocks, *head)


@healthy(images(3, 12))
def pre_activation_train() -> nn.Module:
    return he(pre_activation()).train()


@healthy(images(3, 12), rate=1e-3)
def pre_activation_eval() -> nn.Module:
    """As torch initialises it; running statistics gathered."""
    return settle(pre_activation(), images(3, 12))


class FixupBlock(nn.Module):
    """Two convolutions without normalisation; the second starts at 0."""

    def __init__(self, channels: int, depth: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.scale = nn.Parameter(torch.ones(1))
        he(self)
        with torch.no_grad():
            self.conv1.weight *= depth**-0.5
            self.conv2.weight.zero_()

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.scale * self.conv2(F.relu(self.conv1(x))))


@healthy(images(3, 12))
def fixup_resnet() -> nn.Module:
    blocks = [FixupBlock(12, 6) for _ in range(6)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 4)]
    return nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), nn.ReLU(), *blocks, *head)


@healthy(tokens(30, 16), loss=next_token)
def gpt_tied() -> nn.Module:
    """Six blocks; the head is the embedding; eval mode."""
    return GPT(30, 16, 32, 2, 6, tied=True).eval()


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution, LayerNorm, two layers, and a layer scale that starts at 1e-6."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dwconv, self.norm = nn.Conv2d(width, width, 5, padding=2, groups=width), nn.LayerNorm(width)
        self.pwconv1, self.pwconv2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.gamma = nn.Parameter(1e-6 * torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.dwconv(x).permute(0, 2, 3, 1))
        y = self.gamma * self.pwconv2(F.gelu(self.pwconv1(y)))
        return x + y.permute(0, 3, 1, 2)


class ConvNeXt(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 24, 2, 2)
        self.blocks = nn.Sequential(*(ConvNeXtBlock(24) for _ in range(4)))
        self.norm, self.head = nn.LayerNorm(24), nn.Linear(24, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.blocks(self.stem(x)).mean((2, 3))))


@healthy(images(3, 12))
def convnext_layer_scale() -> nn.Module:
    return ConvNeXt()


@healthy(images(3, 20, 8), rate=1e-3)
def vit_class_token() -> nn.Module:
    """Four blocks, head on the class token."""
    return ViT(20, 5, 32, 4, pool=False)


@healthy(tokens(24, 10), rate=1e-3)
def post_norm_encoder_6() -> nn.Module:
    """nn.TransformerEncoder of six layers."""
    return TokenClassifier(24, 10, 32, 6).eval()


class Bidirectional(nn.Module):
    """Embedding, LSTM in both directions with forget bias 1, maximum over the steps, head."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(30, 16)
        self.lstm = nn.LSTM(16, 20, bidirectional=True, batch_first=True)
        self.head = nn.Linear(40, 4)
        with torch.no_grad():
            for name, parameter in self.lstm.named_parameters():
                if name.startswith("bias_hh"):
                    parameter[20:40] = 1.0

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.lstm(self.embed(ids))[0].amax(1))


@healthy(tokens(30, 20, 16), rate=1e-2)
def lstm_both_directions() -> nn.Module:
    return Bidirectional()


class Stacked(nn.Module):
    """Two layers of GRU, orthogonal, dropout between them, mean over the steps."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(5, 24, num_layers=2, dropout=0.1, batch_first=True)
        self.head = nn.Linear(24, 4)
        for name, parameter in self.gru.named_parameters():
            if name.startswith("weight_hh"):
                nn.init.orthogonal_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.gru(x)[0].mean(1))


@healthy(waves(25, 5), rate=1e-2)
def gru_two_layers() -> nn.Module:
    return Stacked().train()


@healthy(images(3, 16, 8), loss=blur)
def unet_group_norm() -> nn.Module:
    return UNet(lambda channels: nn.GroupNorm(4, channels), 8)


@healthy(images(3, 16, 8), loss=reconstruction, rate=1e-2)
def convolutional_autoencoder() -> nn.Module:
    """Down to 6 numbers and up again."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 4, 2, 1),
        nn.ReLU(inplace=True),
        nn.Conv2d(8, 16, 4, 2, 1),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(256, 6),
        nn.Linear(6, 256),
        nn.ReLU(inplace=True),
        nn.Unflatten(1, (16, 4, 4)),
        nn.ConvTranspose2d(16, 8, 4, 2, 1),
        nn.ReLU(inplace=True),
        nn.ConvTranspose2d(8, 3, 4, 2, 1),
    )


class SqueezeExcite(nn.Module):
    """A residual convolution whose channels are gated by a sigmoid."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv, self.norm = (
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, channels // 4, 1),
            nn.ReLU(),
            nn.Conv2d(channels // 4, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        out = self.norm(self.conv(x))
        return F.silu(x + out * self.gate(out))


@healthy(images(3, 12))
def squeeze_and_excite() -> nn.Module:
    blocks = [SqueezeExcite(16) for _ in range(4)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4)]
    return nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), *blocks, *head).train()


class Inception(nn.Module):
    """Four branches side by side."""

    def __init__(self, inner: int, each: int) -> None:
        super().__init__()
        self.one = nn.Conv2d(inner, each, 1)
        self.three = nn.Sequential(nn.Conv2d(inner, each, 1), nn.ReLU(), nn.Conv2d(each, each, 3, padding=1))
        self.five = nn.Sequential(nn.Conv2d(inner, each, 1), nn.ReLU(), nn.Conv2d(each, each, 5, padding=2))
        self.pool = nn.Sequential(nn.MaxPool2d(3, 1, 1), nn.Conv2d(inner, each, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(torch.cat([self.one(x), self.three(x), self.five(x), self.pool(x)], 1))


@healthy(images(3, 12))
def inception_branches() -> nn.Module:
    parts = [Inception(3, 4), Inception(16, 6), nn.MaxPool2d(2), Inception(24, 6)]
    return he(nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 4)))


@healthy(images(3, 12))
def trained_cnn() -> nn.Module:
    """Not fresh: after thirty steps."""
    parts = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 12, 3, padding=1)]
    model = nn.Sequential(*parts, nn.ReLU(), nn.Flatten(), nn.Linear(432, 32), nn.ReLU(), nn.Linear(32, 4))
    train(model, images(3, 12, 32)(), classification, 30, 2e-3)
    return model


EXAM_HEALTHY: tuple[Case, ...] = (
    lsuv_mlp,
    xavier_tanh_mlp,
    selu_alpha_dropout,
    embedding_bag,
    sigmoid_net_with_softmax,
    all_convolutional,
    pre_activation_train,
    pre_activation_eval,
    fixup_resnet,
    gpt_tied,
    convnext_layer_scale,
    vit_class_token,
    post_norm_encoder_6,
    lstm_both_directions,
    gru_two_layers,
    unet_group_norm,
    convolutional_autoencoder,
    squeeze_and_excite,
    inception_branches,
    trained_cnn,
)
