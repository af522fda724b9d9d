"""Architectures of the exam alone."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from .zoo_models import he, mlp, xavier


class PressureNet(nn.Module):
    """A temporal CNN with a functional tanh."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv1d(1, 12, 9, 4), nn.Conv1d(12, 16, 5, 2)
        self.fc = nn.Linear(16, 4)
        xavier(self)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.conv2(torch.tanh(self.conv1(x))))
        return self.fc(x.mean(2))


class KeypointNet(nn.Module):
    """A heat map by convolutions, and where it is high by a softmax over the pixels."""

    def __init__(self, beta: float) -> None:
        super().__init__()
        self.beta = beta
        self.conv1, self.conv2 = nn.Conv2d(3, 12, 3, padding=1), nn.Conv2d(12, 12, 3, padding=1)
        self.heat = nn.Conv2d(12, 3, 1)
        self.softmax = nn.Softmax(-1)
        he(self)

    def forward(self, x: Tensor) -> Tensor:
        heat = self.heat(F.relu(self.conv2(F.relu(self.conv1(x)))))
        n, k, h, w = heat.shape
        weights = self.softmax(self.beta * heat.flatten(2)).view(n, k, h, w)
        rows, columns = torch.linspace(-1, 1, h), torch.linspace(-1, 1, w)
        return torch.stack([weights.sum(3) @ rows, weights.sum(2) @ columns], 2).flatten(1)


class Separable(nn.Module):
    """Depthwise and pointwise convolution with a functional ReLU6, without normalisation."""

    def __init__(self, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(inner, inner, 3, stride, 1, groups=inner)
        self.pointwise = nn.Conv2d(inner, outer, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu6(self.pointwise(F.relu6(self.depthwise(x))))


class Siamese(nn.Module):
    """Two halves of the features through the same branch, compared."""

    def __init__(self) -> None:
        super().__init__()
        self.branch = he(mlp([16, 40, 40, 24], nn.LeakyReLU))
        self.compare = nn.Linear(48, 4)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.branch(x[:, :16]), self.branch(x[:, 16:])
        return self.compare(torch.cat([torch.abs(a - b), a * b], 1))


class Detector(nn.Module):
    """A backbone, and a tower of convolutions before the class scores, as in RetinaNet."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 12, 3, 2, 1), nn.ReLU(), nn.Conv2d(12, 16, 3, padding=1))
        tower: list[nn.Module] = []
        for _ in range(3):
            tower += [nn.Conv2d(16, 16, 3, padding=1), nn.ReLU()]
        self.tower, self.score = nn.Sequential(*tower), nn.Conv2d(16, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.score(self.tower(self.backbone(x))).mean((2, 3))


class NormFirst(nn.Module):
    """Linear, LayerNorm, functional ReLU; twice, then the head."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.norm1 = nn.Linear(20, 48), nn.LayerNorm(48)
        self.fc2, self.norm2 = nn.Linear(48, 48), nn.LayerNorm(48)
        self.fc3 = nn.Linear(48, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm1(self.fc1(x)))
        return self.fc3(F.relu(self.norm2(self.fc2(x))))


class Tied(nn.Module):
    """One layer, applied again and again."""

    def __init__(self, steps: int, activation: nn.Module) -> None:
        super().__init__()
        self.first, self.again, self.last = nn.Linear(12, 40), nn.Linear(40, 40), nn.Linear(40, 4)
        self.activation, self.steps = activation, steps

    def forward(self, x: Tensor) -> Tensor:
        x = self.activation(self.first(x))
        for _ in range(self.steps):
            x = self.activation(self.again(x))
        return self.last(x)


class Cells(nn.Module):
    """A recurrent cell, called step by step; its last state is classified."""

    def __init__(self, cell: nn.RNNCellBase) -> None:
        super().__init__()
        self.cell, self.out = cell, nn.Linear(cell.hidden_size, 4)

    def forward(self, x: Tensor) -> Tensor:
        state = x.new_zeros(x.shape[0], self.cell.hidden_size)
        for step in x.unbind(1):
            state = self.cell(step, state)
        return self.out(state)


class Tagger(nn.Module):
    """Two GRUs that remember long, one on the other, and a head on the last step."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(5, 24)
        self.lower, self.upper = nn.GRU(24, 32, batch_first=True), nn.GRU(32, 32, batch_first=True)
        self.head = nn.Linear(32, 4)
        for gru in (self.lower, self.upper):
            nn.init.orthogonal_(gru.weight_hh_l0)
            nn.init.constant_(gru.bias_hh_l0[32:64].detach(), 2.5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.upper(self.lower(self.embed(x))[0])[0]
        return self.head(x[:, -1])


class FeedForward(nn.Module):
    """Out and in again, as in a transformer, without attention and without normalisation."""

    def __init__(self, width: int, residual: bool) -> None:
        super().__init__()
        self.fc1, self.fc2, self.residual = nn.Linear(width, 2 * width), nn.Linear(2 * width, width), residual

    def forward(self, x: Tensor) -> Tensor:
        out = self.fc2(F.elu(self.fc1(x)))
        return x + out if self.residual else out


class OwnSoftmax(nn.Module):
    """exp(x)/Σ exp(x); `shift`: less the maximum, as it must be."""

    def __init__(self, shift: bool) -> None:
        super().__init__()
        self.shift = shift

    def forward(self, x: Tensor) -> Tensor:
        if self.shift:
            x = x - x.amax(-1, keepdim=True)
        e = torch.exp(x)
        return e / e.sum(-1, keepdim=True)


class Experts(nn.Module):
    def __init__(self, shift: bool) -> None:
        super().__init__()
        self.body = he(mlp([20, 32, 32], nn.ReLU))
        self.gate = nn.Sequential(nn.Linear(32, 5), OwnSoftmax(shift))
        self.experts, self.head = nn.Linear(32, 5 * 16), nn.Linear(16, 4)
        nn.init.normal_(self.gate[0].weight, std=8.0)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)
        mixed = torch.einsum("ne,ned->nd", self.gate(x), self.experts(x).view(-1, 5, 16))
        return self.head(F.relu(mixed))


class Quantiser(nn.Module):
    """The nearest code, out of a buffer (moving averages); `through`: with the straight-through gradient."""

    def __init__(self, codes: int, width: int, through: bool) -> None:
        super().__init__()
        self.through = through
        self.register_buffer("codebook", torch.randn(codes, width))

    def forward(self, z: Tensor) -> Tensor:
        nearest = self.codebook[torch.cdist(z, self.codebook).argmin(-1)]
        return z + (nearest - z).detach() if self.through else nearest
