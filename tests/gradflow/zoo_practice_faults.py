"""Twenty models with one planted fault each: the half that thresholds may be chosen on."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from .zoo_case import (
    Case,
    blur,
    features,
    images,
    next_token,
    planted,
    reconstruction,
    tokens,
    waves,
)
from .zoo_models import (
    GPT,
    FunctionalCNN,
    FunctionalMLP,
    ResNet,
    SequenceClassifier,
    UNet,
    he,
    mlp,
    settle,
    vgg,
    xavier,
)

# --- Saturation -------------------------------------------------------------------------------------------------


@planted("saturation", "vanishing", ("4", "5"), features(20))
def tanh_bias_ten(broken: bool) -> nn.Module:
    """The bias of one layer was meant to be 0.1."""
    model = xavier(mlp([20, 48, 48, 48, 48, 4], nn.Tanh), 5 / 3)
    if broken:
        nn.init.constant_(model[4].bias, 10.0)
    return model


def dollars() -> Tensor:
    """Income, price, debt, ...: tens of thousands, never negative."""
    return torch.exp(torch.randn(32, 12) * 0.5 + 11)


def dollars_standardised() -> Tensor:
    x = torch.log(dollars())
    return (x - x.mean(0)) / x.std(0)


@planted("saturation", "vanishing", ("0", "1"), dollars, twin_inputs=dollars_standardised)
def sigmoid_on_raw_dollars(broken: bool) -> nn.Module:
    """The features were not standardised; the model is as it should be."""
    return mlp([12, 32, 32, 4], nn.Sigmoid)


class Memory(nn.Module):
    """Attention over a learned memory."""

    def __init__(self, width: int, slots: int) -> None:
        super().__init__()
        self.query = nn.Linear(width, width)
        self.keys, self.values = (
            nn.Parameter(torch.randn(slots, width)),
            nn.Parameter(torch.randn(slots, width)),
        )
        self.softmax = nn.Softmax(-1)
        self.temperature = math.sqrt(width)

    def forward(self, x: Tensor) -> Tensor:
        return self.softmax(self.query(x) @ self.keys.T / self.temperature) @ self.values


@planted("saturation", "vanishing", ("2", "2.query", "2.softmax"), features(16))
def memory_annealed_too_far(broken: bool) -> nn.Module:
    """The temperature of a softmax was annealed to 1e-5, where √d would be right: each weight is 0 or 1."""
    memory = Memory(64, 32)
    if broken:
        memory.temperature = 1e-5
    return nn.Sequential(nn.Linear(16, 64), nn.ReLU(), memory, nn.Linear(64, 4))


# --- Small norm -------------------------------------------------------------------------------------------------


@planted("small norm", "vanishing", ("features.5",), images(3, 16))
def vgg_conv_tiny(broken: bool) -> nn.Module:
    """std=1e-4 in the third convolution."""
    model = he(vgg([8, 8, "M", 16, 16, "M"], norm=False, side=16))
    if broken:
        nn.init.normal_(model.features[5].weight, std=1e-4)
    return model


@planted("small norm", "vanishing", ("ln_f",), tokens(24, 20), loss=next_token)
def gpt_final_gain(broken: bool) -> nn.Module:
    """The gain of the last LayerNorm is 1e-3."""
    model = GPT(24, 20, 32, 4, 3, tied=False).eval()
    if broken:
        nn.init.constant_(model.ln_f.weight, 1e-3)
    return model


@planted("small norm", "vanishing", ("inc.3",), images(3, 16, 8), loss=blur)
def unet_second_conv_tiny(broken: bool) -> nn.Module:
    """A U-Net without normalisation; the second convolution, before the first skip, has std=1e-5."""
    model = he(UNet(nn.Identity, 8))
    if broken:
        nn.init.normal_(model.inc[3].weight, std=1e-5)
    return model


# --- Large norm -------------------------------------------------------------------------------------------------


@planted("large norm", "exploding", tuple(f"layers.{i}" for i in range(9)), features(24))
def relu_std_one_everywhere(broken: bool) -> nn.Module:
    """nn.init.normal_(weight) without std in every layer."""
    model = he(FunctionalMLP([24, *[64] * 8, 4], F.relu))
    if broken:
        for layer in model.layers:
            nn.init.normal_(layer.weight)
    return model


@planted("large norm", "exploding", ("layer1.1", "layer1.1.bn2"), images(3, 12))
def batch_norm_variance_lost(broken: bool) -> nn.Module:
    """A ResNet in eval mode; one running variance in a block came out as 0 from a bad conversion."""
    model = settle(ResNet(8, 2), images(3, 12))
    if broken:
        model.layer1[1].bn2.running_var.zero_()
    return model


@planted("large norm", "exploding", ("decoder.2", "decoder.4"), features(32), loss=reconstruction)
def autoencoder_uniform_0_1(broken: bool) -> nn.Module:
    """torch.rand for the weights of two layers: not centred, the mean direction grows by half the width."""
    model = nn.Sequential()
    model.add_module("encoder", he(mlp([32, 128, 8], nn.ReLU)))
    model.add_module("decoder", he(mlp([8, 128, 128, 128, 32], nn.ReLU)))
    if broken:
        for i in (2, 4):
            nn.init.uniform_(model.decoder[i].weight)
    return model


# --- Dead units -------------------------------------------------------------------------------------------------


@planted("dead units", "vanishing", ("2", "3"), features(20))
def relu_bias_minus_ten(broken: bool) -> nn.Module:
    """Sparse activity was wanted; the bias is far too low."""
    model = he(mlp([20, 40, 40, 40, 4], nn.ReLU))
    if broken:
        nn.init.constant_(model[2].bias, -10.0)
    return model


@planted("dead units", "vanishing", ("features.8", "features.9"), images(3, 16))
def vgg_shift_minus_twenty(broken: bool) -> nn.Module:
    """The shift of one batch normalisation, in train mode, is below every value it normalises."""
    model = he(vgg([8, 8, "M", 12, 12, "M"], norm=True, side=16)).train()
    if broken:
        nn.init.constant_(model.features[8].bias, -20.0)
    return model


@planted("dead units", "vanishing", ("layers.2",), features(16))
def constraint_with_wrong_sign(broken: bool) -> nn.Module:
    """Weights meant to stay ≥ 0 (a monotone layer) are held at ≤ 0, on inputs that a ReLU made ≥ 0."""
    model = he(FunctionalMLP([16, 48, 48, 48, 4], F.relu))
    if broken:
        with torch.no_grad():
            model.layers[2].weight.copy_(-model.layers[2].weight.abs())
    return model


# --- Slope ------------------------------------------------------------------------------------------------------


@planted("slope", "vanishing", (), features(16))
def sigmoid_stack(broken: bool) -> nn.Module:
    """Sixteen sigmoid layers as torch initialises them. (The twin has ReLU, initialised for it.)"""
    return mlp([16, *[32] * 16, 4], nn.Sigmoid) if broken else he(mlp([16, *[32] * 16, 4], nn.ReLU))


@planted("slope", "vanishing", (), images(3, 12))
def sigmoid_convolutions(broken: bool) -> nn.Module:
    """Ten convolutions with a functional sigmoid, Glorot's initialisation."""
    if broken:
        return xavier(FunctionalCNN(12, 10, torch.sigmoid))
    return he(FunctionalCNN(12, 10, F.relu))


# --- Recurrent norm ---------------------------------------------------------------------------------------------


@planted("recurrent norm", "vanishing", ("rnn",), waves(40, 6))
def rnn_forgets(broken: bool) -> nn.Module:
    """A recurrent weight of spectral norm 0.1, over 40 steps."""
    model = SequenceClassifier(nn.RNN(6, 32, batch_first=True))
    nn.init.orthogonal_(model.rnn.weight_hh_l0, 0.1 if broken else 1.0)
    nn.init.normal_(model.rnn.weight_ih_l0, std=0.04)
    nn.init.zeros_(model.rnn.bias_ih_l0)
    nn.init.zeros_(model.rnn.bias_hh_l0)
    return model


@planted("recurrent norm", "exploding", ("rnn",), waves(60, 5))
def lstm_std_one(broken: bool) -> nn.Module:
    """nn.init.normal_(weight_hh) without std, 32 units, over 60 steps; forget bias 3, to remember for so long."""
    model = SequenceClassifier(nn.LSTM(5, 32, batch_first=True))
    nn.init.orthogonal_(model.rnn.weight_hh_l0)
    nn.init.constant_(model.rnn.bias_hh_l0[32:64].detach(), 3.0)
    if broken:
        nn.init.normal_(model.rnn.weight_hh_l0)
    return model


# --- Missing residual -------------------------------------------------------------------------------------------


class PlainBlock(nn.Module):
    """Two convolutions, without normalisation."""

    def __init__(self, channels: int, residual: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.relu = nn.ReLU()
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv2(self.relu(self.conv1(x)))
        return self.relu(x + out if self.residual else out)


@planted("missing residual", "vanishing", (), images(3, 12))
def plain_blocks(broken: bool) -> nn.Module:
    """Ten blocks of two convolutions as torch initialises them; the line `out + x` was forgotten."""
    blocks = [PlainBlock(12, residual=not broken) for _ in range(10)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 4)]
    return nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), *blocks, *head)


# --- Not finite -------------------------------------------------------------------------------------------------


@planted("not finite", "not finite", ("features.7",), images(3, 16))
def nan_in_a_weight(broken: bool) -> nn.Module:
    """One entry of one convolution is NaN, as after a damaged checkpoint."""
    model = he(vgg([8, 8, "M", 12, 12, "M"], norm=False, side=16))
    if broken:
        with torch.no_grad():
            model.features[7].weight[3, 2, 1, 1] = math.nan
    return model


class MaskedPooling(nn.Module):
    """Attention pooling over the places that are no padding (token 0)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.score = nn.Linear(width, 1)

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        weights = self.score(x).squeeze(-1).masked_fill(padding, -math.inf).softmax(1)
        return torch.einsum("nt,ntd->nd", weights, x)


class Pooled(nn.Module):
    """Embedding, layer, masked pooling, head."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.layer = nn.Embedding(20, 16, padding_idx=0), nn.Linear(16, 16)
        self.pool, self.head = MaskedPooling(16), nn.Linear(16, 4)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.pool(torch.relu(self.layer(self.embed(ids))), ids == 0))


def one_empty_text() -> Tensor:
    ids = texts()
    ids[3] = 0
    return ids


def texts() -> Tensor:
    ids = torch.randint(1, 20, (12, 9))
    ids[::2, 6:] = 0
    return ids


@planted("not finite", "not finite", ("pool",), one_empty_text, twin_inputs=texts)
def softmax_over_nothing(broken: bool) -> nn.Module:
    """One text of the batch is all padding: 0/0 in its softmax."""
    return Pooled()


# --- Detached ---------------------------------------------------------------------------------------------------


class Transfer(nn.Module):
    """A backbone that is to be trained along with its head."""

    def __init__(self, frozen: bool) -> None:
        super().__init__()
        self.backbone = he(mlp([20, 48, 48, 24], nn.ReLU))
        self.head = nn.Sequential(nn.ReLU(), nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 4))
        self.frozen = frozen

    def forward(self, x: Tensor) -> Tensor:
        if not self.frozen:
            return self.head(self.backbone(x))
        with torch.no_grad():
            x = self.backbone(x)
        return self.head(x)


@planted("detached", "vanishing", ("backbone", *(f"backbone.{i}" for i in range(5))), features(20))
def backbone_without_gradient(broken: bool) -> nn.Module:
    """torch.no_grad() was left around a backbone whose parameters are in the optimiser."""
    return Transfer(frozen=broken)


PRACTICE_FAULTS: tuple[Case, ...] = (
    tanh_bias_ten,
    sigmoid_on_raw_dollars,
    memory_annealed_too_far,
    vgg_conv_tiny,
    gpt_final_gain,
    unet_second_conv_tiny,
    relu_std_one_everywhere,
    batch_norm_variance_lost,
    autoencoder_uniform_0_1,
    relu_bias_minus_ten,
    vgg_shift_minus_twenty,
    constraint_with_wrong_sign,
    sigmoid_stack,
    sigmoid_convolutions,
    rnn_forgets,
    lstm_std_one,
    plain_blocks,
    nan_in_a_weight,
    softmax_over_nothing,
    backbone_without_gradient,
)
