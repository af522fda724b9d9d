"""Twenty models with one planted fault each: the half that judges. No threshold may be chosen on it."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from .zoo_case import Case, features, images, planted, reconstruction, regression, tokens, waves
from .zoo_exam_models import (
    Cells,
    Detector,
    Experts,
    FeedForward,
    KeypointNet,
    NormFirst,
    PressureNet,
    Quantiser,
    Separable,
    Siamese,
    Tagger,
    Tied,
)
from .zoo_models import FunctionalCNN, FunctionalMLP, ResNet, TokenClassifier, ViT, he, mlp, settle, xavier

# --- Saturation -------------------------------------------------------------------------------------------------


def pascals() -> Tensor:
    """The air pressure of two days at one place, in pascals, (N, 1, 96)."""
    time = torch.arange(96).float()
    phase, trend = 6.28 * torch.rand(16, 1, 1), 8 * torch.randn(16, 1, 1)
    return 101325 + 120 * torch.sin(time * 0.26 + phase) + trend * time + 20 * torch.randn(16, 1, 96)


@planted("saturation", "vanishing", ("conv1",), pascals, twin_inputs=lambda: (pascals() - 101325) / 300)
def tanh_on_raw_pascals(broken: bool) -> nn.Module:
    """The series were not standardised; the model is as it should be."""
    return PressureNet()


@planted("saturation", "vanishing", ("encoder.2", "encoder.3"), features(24), loss=reconstruction)
def sigmoid_code_from_uniform_weights(broken: bool) -> nn.Module:
    """torch.rand for the weights into the sigmoid code, after a ReLU: all sums are large and positive."""
    model = nn.Sequential()
    encoder = nn.Sequential(nn.Linear(24, 256), nn.ReLU(), nn.Linear(256, 32), nn.Sigmoid())
    model.add_module("encoder", he(encoder))
    model.add_module("decoder", he(mlp([32, 64, 24], nn.ReLU)))
    if broken:
        nn.init.uniform_(model.encoder[2].weight)
    return model


@planted("saturation", "vanishing", ("heat", "softmax"), images(3, 10), loss=regression)
def keypoints_on_one_pixel(broken: bool) -> nn.Module:
    """A soft-argmax made all too hard, by β = 1e5."""
    return KeypointNet(1e5 if broken else 1.0)


# --- Small norm -------------------------------------------------------------------------------------------------


@planted("small norm", "vanishing", ("3.pointwise",), images(3, 16))
def separable_pointwise_tiny(broken: bool) -> nn.Module:
    """One pointwise convolution with std=1e-5 of six separable ones."""
    plan = [(8, 12, 1), (12, 16, 2), (16, 16, 1), (16, 24, 2), (24, 24, 1)]
    parts = [nn.Conv2d(3, 8, 3, padding=1), *(Separable(*entry) for entry in plan)]
    model = he(nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 4)))
    if broken:
        nn.init.normal_(model[3].pointwise.weight, std=1e-5)
    return model


@planted("small norm", "vanishing", ("pre_logits", "pre_logits.0"), images(3, 16, 8))
def vit_representation_tiny(broken: bool) -> nn.Module:
    """The representation layer before a ViT's head has std=1e-4."""
    model = ViT(16, 4, 32, 3, pool=False)
    model.pre_logits = nn.Sequential(nn.Linear(32, 32), nn.Tanh())
    nn.init.normal_(model.pre_logits[0].weight, std=1e-4 if broken else 32**-0.5)
    return model


@planted("small norm", "vanishing", ("branch.2",), features(32))
def siamese_shared_layer_tiny(broken: bool) -> nn.Module:
    """The middle layer of the shared branch: xavier_normal_ with gain 1e-3."""
    model = Siamese()
    if broken:
        nn.init.xavier_normal_(model.branch[2].weight, 1e-3)
        nn.init.normal_(model.branch[2].bias, std=0.5)
    return model


# --- Large norm -------------------------------------------------------------------------------------------------


@planted("large norm", "exploding", tuple(f"convs.{i}" for i in range(6)), images(3, 12))
def convolutions_uniform_one(broken: bool) -> nn.Module:
    """uniform_(-1, 1) for all kernels, where the bound should be √(6/fan_in)."""
    model = he(FunctionalCNN(16, 6, F.relu))
    if broken:
        for conv in model.convs:
            nn.init.uniform_(conv.weight, -1, 1)
    return model


@planted("large norm", "exploding", ("4",), features(18))
def constant_feature_in_batch_norm(broken: bool) -> nn.Module:
    """In eval mode; one normalisation gathered its variance while its inputs were constant."""
    parts: list[nn.Module] = []
    for inner, outer in [(18, 48), (48, 48), (48, 48)]:
        parts += [nn.Linear(inner, outer), nn.BatchNorm1d(outer), nn.GELU()]
    model = settle(he(nn.Sequential(*parts, nn.Linear(48, 4))), features(18))
    if broken:
        nn.init.constant_(model[4].running_var, 1e-9)
    return model


@planted("large norm", "exploding", ("up.0", "up.2"), features(16, 8), loss=regression)
def generator_mean_one(broken: bool) -> nn.Module:
    """A DCGAN's N(1, 0.02²), meant for normalisation gains, went to its transposed convolutions too."""
    model = nn.Sequential()
    model.add_module("fc", nn.Sequential(nn.Linear(16, 24 * 16), nn.ReLU(), nn.Unflatten(1, (24, 4, 4))))
    up = [nn.ConvTranspose2d(24, 24, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(24, 12, 4, 2, 1), nn.ReLU()]
    model.add_module("up", nn.Sequential(*up, nn.Conv2d(12, 1, 3, padding=1)))
    if broken:
        for i in (0, 2):
            nn.init.normal_(model.up[i].weight, 1.0, 0.02)
    return model


# --- Dead units -------------------------------------------------------------------------------------------------


@planted("dead units", "vanishing", tuple(f"tower.{i}" for i in range(6)), images(3, 16))
def prior_bias_in_the_tower(broken: bool) -> nn.Module:
    """−log((1 − π)/π) with π = 0.0001, meant for the score alone, as the bias of the whole tower."""
    model = he(Detector())
    for module in model.tower if broken else ():
        if isinstance(module, nn.Conv2d):
            nn.init.constant_(module.bias, -math.log((1 - 1e-4) / 1e-4))
    return model


@planted("dead units", "vanishing", ("norm2",), features(20))
def layer_norm_shifted_below_zero(broken: bool) -> nn.Module:
    """A shift of −8 after a normalisation over 48 units, whose values stay within √47."""
    model = NormFirst()
    if broken:
        nn.init.constant_(model.norm2.bias, -8.0)
    return model


@planted("dead units", "vanishing", ("layer2.0", "layer2.0.bn2", "layer2.0.relu"), images(3, 12))
def resnet_block_shifted_below_zero(broken: bool) -> nn.Module:
    """In train mode; a block's last normalisation has a shift of −30, and the ReLU after the sum lets nothing by."""
    model = ResNet(8, 3).train()
    if broken:
        nn.init.constant_(model.layer2[0].bn2.bias, -30.0)
    return model


# --- Slope ------------------------------------------------------------------------------------------------------


@planted("slope", "vanishing", (), features(12))
def tied_sigmoid(broken: bool) -> nn.Module:
    """A sigmoid layer applied twelve times, orthogonal weights."""
    model = Tied(12, nn.Sigmoid() if broken else nn.Tanh())
    nn.init.orthogonal_(model.again.weight)
    return model


@planted("slope", "vanishing", (), features(28), loss=reconstruction)
def deep_sigmoid_autoencoder(broken: bool) -> nn.Module:
    """Hinton's autoencoder without its layer-wise training: nine sigmoid layers as torch initialises them."""
    widths = [28, 64, 48, 32, 16, 8, 16, 32, 48, 64, 28]
    if broken:
        return FunctionalMLP(widths, torch.sigmoid)
    return xavier(FunctionalMLP(widths, torch.tanh))


# --- Recurrent norm ---------------------------------------------------------------------------------------------


@planted("recurrent norm", "vanishing", ("cell",), waves(30, 4))
def cell_of_std_001(broken: bool) -> nn.Module:
    """N(0, 0.01²) for a recurrent weight of 24 units."""
    model = Cells(nn.RNNCell(4, 24))
    nn.init.normal_(model.cell.weight_ih, std=0.05)
    if broken:
        nn.init.normal_(model.cell.weight_hh, std=0.01)
    else:
        nn.init.orthogonal_(model.cell.weight_hh)
    return model


@planted("recurrent norm", "exploding", ("upper",), waves(40, 5))
def upper_gru_too_large(broken: bool) -> nn.Module:
    """Two GRUs, one on the other, N(0, 1.5²) for the recurrent weight of the upper; update bias 2.5."""
    model = Tagger()
    if broken:
        nn.init.normal_(model.upper.weight_hh_l0, std=1.5)
    return model


# --- Missing residual -------------------------------------------------------------------------------------------


@planted("missing residual", "vanishing", (), tokens(20, 8, 12))
def feed_forward_without_skip(broken: bool) -> nn.Module:
    """Twelve blocks over the mean of an embedding; the sum with the input was forgotten."""
    blocks = [FeedForward(24, residual=not broken) for _ in range(12)]
    return nn.Sequential(nn.EmbeddingBag(20, 24), *blocks, nn.Linear(24, 4))


# --- Not finite -------------------------------------------------------------------------------------------------


@planted("not finite", "not finite", ("encoder.layers.1.linear1",), tokens(20, 10))
def inf_in_a_weight(broken: bool) -> nn.Module:
    """One entry of a transformer's feed-forward layer overflowed to Inf (a conversion from half precision)."""
    model = TokenClassifier(20, 10, 24, 3).eval()
    if broken:
        with torch.no_grad():
            model.encoder.layers[1].linear1.weight[5, 7] = math.inf
    return model


@planted("not finite", "not finite", ("gate.1",), features(20))
def overflow_in_own_softmax(broken: bool) -> nn.Module:
    """A mixture of experts whose gate takes exp of scores around 100: Inf/Inf."""
    return Experts(shift=not broken)


# --- Detached ---------------------------------------------------------------------------------------------------


@planted("detached", "vanishing", ("quantise", "encoder.2"), features(24), loss=reconstruction)
def codes_without_straight_through(broken: bool) -> nn.Module:
    """A vector-quantised autoencoder that forgot the straight-through gradient: argmin stops it."""
    model = nn.Sequential()
    model.add_module("encoder", he(mlp([24, 48, 8], nn.ReLU)))
    model.add_module("quantise", Quantiser(32, 8, through=not broken))
    model.add_module("decoder", he(mlp([8, 48, 24], nn.ReLU)))
    return model


EXAM_FAULTS: tuple[Case, ...] = (
    tanh_on_raw_pascals,
    sigmoid_code_from_uniform_weights,
    keypoints_on_one_pixel,
    separable_pointwise_tiny,
    vit_representation_tiny,
    siamese_shared_layer_tiny,
    convolutions_uniform_one,
    constant_feature_in_batch_norm,
    generator_mean_one,
    prior_bias_in_the_tower,
    layer_norm_shifted_below_zero,
    resnet_block_shifted_below_zero,
    tied_sigmoid,
    deep_sigmoid_autoencoder,
    cell_of_std_001,
    upper_gru_too_large,
    feed_forward_without_skip,
    inf_in_a_weight,
    overflow_in_own_softmax,
    codes_without_straight_through,
)
