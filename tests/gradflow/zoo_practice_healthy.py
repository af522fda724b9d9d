"""Twenty models that train: the half that thresholds may be chosen on."""

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
    reconstruction,
    tokens,
    train,
    waves,
)
from .zoo_models import (
    GPT,
    ResNet,
    SequenceClassifier,
    TokenClassifier,
    UNet,
    ViT,
    he,
    mlp,
    settle,
    vgg,
    xavier,
)


@healthy(features(20))
def relu_mlp() -> nn.Module:
    return he(mlp([20, 48, 48, 48, 48, 4], nn.ReLU))


@healthy(features(20), rate=1e-3)
def orthogonal_tanh_mlp() -> nn.Module:
    """Ten hidden layers."""
    model = mlp([20, *[40] * 10, 4], nn.Tanh)
    for module in model:
        if isinstance(module, nn.Linear):
            nn.init.orthogonal_(module.weight, 1.1)
            nn.init.zeros_(module.bias)
    return model


@healthy(features(24), rate=1e-3)
def self_normalising_net() -> nn.Module:
    """SELU, twelve hidden layers, N(0, 1/fan_in)."""
    model = mlp([24, *[40] * 12, 4], nn.SELU)
    for module in model:
        if isinstance(module, nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
            nn.init.zeros_(module.bias)
    return model


@healthy(features(16), rate=1e-2)
def two_sigmoid_layers() -> nn.Module:
    """As torch initialises it."""
    return mlp([16, 32, 32, 4], nn.Sigmoid)


@healthy(images(3, 16))
def lenet_tanh() -> nn.Module:
    """LeCun's net of 1998, with average pooling."""
    return xavier(
        nn.Sequential(
            nn.Conv2d(3, 6, 5, padding=2),
            nn.Tanh(),
            nn.AvgPool2d(2),
            nn.Conv2d(6, 16, 5),
            nn.Tanh(),
            nn.AvgPool2d(2),
            nn.Flatten(),
            nn.Linear(64, 40),
            nn.Tanh(),
            nn.Linear(40, 4),
        )
    )


@healthy(images(3, 16))
def vgg_norm_train() -> nn.Module:
    return he(vgg([8, 8, "M", 12, 12, "M"], norm=True, side=16)).train()


@healthy(images(3, 12))
def resnet_train() -> nn.Module:
    return ResNet(8, 2).train()


@healthy(images(3, 12))
def resnet_eval() -> nn.Module:
    """Running statistics gathered."""
    return settle(ResNet(8, 2), images(3, 12))


@healthy(images(3, 12), rate=1e-2)
def resnet_zero_gamma() -> nn.Module:
    """The last gain of each residual branch is 0: each block starts as the identity."""
    model = ResNet(8, 2).train()
    for block in [*model.layer1, *model.layer2]:
        nn.init.zeros_(block.bn2.weight)
    return model


@healthy(tokens(24, 20), loss=next_token)
def gpt_small() -> nn.Module:
    """Four pre-norm blocks, std=0.02, dropout on."""
    return GPT(24, 20, 32, 4, 4, tied=False).train()


@healthy(images(3, 16, 8), rate=1e-3)
def vit_mean_pooled() -> nn.Module:
    return ViT(16, 4, 32, 3, pool=True)


@healthy(tokens(20, 12), rate=1e-3)
def post_norm_encoder_2() -> nn.Module:
    """nn.TransformerEncoder as it comes, with dropout."""
    return TokenClassifier(20, 12, 32, 2).train()


@healthy(waves(30, 6), rate=1e-2)
def lstm_forget_bias_one() -> nn.Module:
    """Thirty steps, read at the last."""
    model = SequenceClassifier(nn.LSTM(6, 24, batch_first=True))
    nn.init.orthogonal_(model.rnn.weight_hh_l0)
    with torch.no_grad():
        model.rnn.bias_hh_l0[24:48] = 1.0
    return model


@healthy(waves(12, 6), rate=1e-2)
def gru_as_it_comes() -> nn.Module:
    """Twelve steps."""
    return SequenceClassifier(nn.GRU(6, 24, batch_first=True))


@healthy(images(3, 16, 8), loss=blur)
def unet_batch_norm() -> nn.Module:
    return UNet(nn.BatchNorm2d, 8).train()


@healthy(features(20), loss=reconstruction, rate=1e-2)
def autoencoder_of_two() -> nn.Module:
    """Two units in the middle: most singular values are 0, as they should be."""
    return he(mlp([20, 40, 2, 40, 20], nn.LeakyReLU))


class MixerBlock(nn.Module):
    def __init__(self, places: int, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mix_places = nn.Sequential(nn.Linear(places, 32), nn.GELU(), nn.Linear(32, places))
        self.mix_channels = nn.Sequential(nn.Linear(width, 64), nn.GELU(), nn.Linear(64, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.mix_places(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.mix_channels(self.norm2(x))


class Mixer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 24, 4, 4)
        self.blocks = nn.Sequential(*(MixerBlock(16, 24) for _ in range(4)))
        self.norm, self.head = nn.LayerNorm(24), nn.Linear(24, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        return self.head(self.norm(self.blocks(x)).mean(1))


@healthy(images(3, 16))
def mixer() -> nn.Module:
    return Mixer()


class DenseNet(nn.Module):
    """Each layer sees all before it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(8 + 6 * i) for i in range(6))
        self.convs = nn.ModuleList(nn.Conv2d(8 + 6 * i, 6, 3, padding=1, bias=False) for i in range(6))
        self.norm, self.head = nn.BatchNorm2d(44), nn.Linear(44, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for norm, conv in zip(self.norms, self.convs, strict=True):
            x = torch.cat([x, conv(F.relu(norm(x)))], 1)
        return self.head(F.relu(self.norm(x)).mean((2, 3)))


@healthy(images(3, 12))
def densenet() -> nn.Module:
    return he(DenseNet()).train()


class Inverted(nn.Module):
    """MobileNet-v2's block."""

    def __init__(self, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        hidden = 4 * inner
        self.skip = stride == 1 and inner == outer
        self.conv = nn.Sequential(
            nn.Conv2d(inner, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU6(inplace=True),
            nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU6(inplace=True),
            nn.Conv2d(hidden, outer, 1, bias=False),
            nn.BatchNorm2d(outer),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.skip else self.conv(x)


@healthy(images(3, 16))
def mobilenet_relu6() -> nn.Module:
    blocks = [Inverted(8, 8, 1), Inverted(8, 12, 2), Inverted(12, 12, 1), Inverted(12, 16, 2)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(16, 4)]
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), *blocks, *head).train()


@healthy(features(20))
def trained_with_dropout() -> nn.Module:
    """Not fresh: after thirty steps, in train mode with a quarter of the units dropped."""
    parts: list[nn.Module] = []
    for inner, outer in [(20, 64), (64, 64), (64, 64)]:
        parts += [nn.Linear(inner, outer), nn.ReLU(), nn.Dropout(0.25)]
    model = he(nn.Sequential(*parts, nn.Linear(64, 4))).train()
    train(model, features(20, 64)(), classification, 30, 2e-3)
    return model


PRACTICE_HEALTHY: tuple[Case, ...] = (
    relu_mlp,
    orthogonal_tanh_mlp,
    self_normalising_net,
    two_sigmoid_layers,
    lenet_tanh,
    vgg_norm_train,
    resnet_train,
    resnet_eval,
    resnet_zero_gamma,
    gpt_small,
    vit_mean_pooled,
    post_norm_encoder_2,
    lstm_forget_bias_one,
    gru_as_it_comes,
    unet_batch_norm,
    autoencoder_of_two,
    mixer,
    densenet,
    mobilenet_relu6,
    trained_with_dropout,
)
