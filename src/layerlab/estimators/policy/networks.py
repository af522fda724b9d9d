"""Policy and value networks, and the running normalisation of what they see."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from layerlab.estimators.policy.actions import Head


class Normaliser(nn.Module):
    """``(x - mean) / sd`` by the statistics of all observations so far, clipped to +-10.

    The statistics change between updates only: within one the policy is fixed, as its gradient requires.

    Args:
        columns: (d,) bool: the columns that are normalised; one-hot ones are not.
    """

    def __init__(self, columns: Tensor) -> None:
        super().__init__()
        self.register_buffer("columns", columns)
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(columns.shape[0], dtype=torch.float64))
        self.register_buffer("variance", torch.ones(columns.shape[0], dtype=torch.float64))
        self.register_buffer("shift", torch.zeros(columns.shape[0]))
        self.register_buffer("scale", torch.ones(columns.shape[0]))
        self.columns: Tensor
        self.count: Tensor
        self.mean: Tensor
        self.variance: Tensor
        self.shift: Tensor
        self.scale: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return ((x - self.shift) * self.scale).clamp_(-10, 10)

    @torch.no_grad()
    def add(self, observations: Tensor) -> None:
        """Take further observations (n, d) into the statistics (Chan, Golub and LeVeque, 1983)."""
        x = observations.double()
        n, mean, variance = x.shape[0], x.mean(dim=0), x.var(dim=0, correction=0)
        total, gap = self.count + n, mean - self.mean
        spread = (
            self.count * self.variance * (self.count > 0)
            + n * variance
            + gap.square() * self.count * n / total
        )
        self.variance.copy_(spread / total)
        self.mean.add_(gap * (n / total))
        self.count.copy_(total)
        self.shift.copy_(torch.where(self.columns, self.mean, 0.0))
        # A column that never changed is left alone: its sd says nothing.
        still = ~self.columns | (self.variance < 1e-12)
        self.scale.copy_(torch.where(still, 1.0, self.variance.rsqrt()))


def multilayer(sizes: Sequence[int], last_gain: float, generator: torch.Generator) -> nn.Sequential:
    """Linear layers with tanh between them; orthogonal weights (gain sqrt 2, the last ``last_gain``), zero biases."""
    layers: list[nn.Module] = []
    for position, (fan_in, fan_out) in enumerate(pairwise(sizes)):
        # Without weights of torch's own: they would be drawn from the global generator.
        linear = nn.utils.skip_init(nn.Linear, fan_in, fan_out)
        gain = last_gain if position == len(sizes) - 2 else 2**0.5
        nn.init.orthogonal_(linear.weight, gain, generator)
        nn.init.zeros_(linear.bias)
        layers += [linear, nn.Tanh()]
    return nn.Sequential(*layers[:-1])


class Policy(nn.Module):
    """pi(a | s): a normaliser, a network, and the head that reads its outputs.

    Args:
        columns: see `Normaliser`; all false switches normalisation off.
        hidden: widths of the hidden layers.
        head: the distribution over actions.
        generator: of the initial weights.
    """

    def __init__(
        self, columns: Tensor, hidden: Sequence[int], head: Head, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.normaliser = Normaliser(columns)
        # A small last layer: the first policy is near uniform, whatever the observation.
        self.network = multilayer([columns.shape[0], *hidden, head.outputs], 0.01, generator)
        self.head = head

    def forward(self, observations: Tensor) -> Tensor:
        """The head's outputs (n, outputs)."""
        return self.network(self.normaliser(observations))


class Value(nn.Module):
    """V(s), an input-dependent baseline; it learns standardised returns, whose unit follows the data.

    Args:
        inputs: columns of an observation, normalised by the policy's normaliser.
        hidden: widths of the hidden layers.
        generator: of the initial weights.
    """

    def __init__(self, inputs: int, hidden: Sequence[int], generator: torch.Generator) -> None:
        super().__init__()
        self.network = multilayer([inputs, *hidden, 1], 0.01, generator)
        self.register_buffer("centre", torch.zeros(()))
        self.register_buffer("unit", torch.ones(()))
        self.centre: Tensor
        self.unit: Tensor

    def forward(self, inputs: Tensor) -> Tensor:
        """Values (n,)."""
        return self.network(inputs)[:, 0] * self.unit + self.centre

    @torch.no_grad()
    def rescale(self, targets: Tensor) -> None:
        """Take the unit of ``targets`` without changing what is predicted (van Hasselt et al., 2016)."""
        centre, unit = targets.mean(), targets.std(correction=0).clamp(min=1e-6)
        last = self.network[-1]
        assert isinstance(last, nn.Linear)
        last.weight.mul_(self.unit / unit)
        last.bias.copy_((last.bias * self.unit + self.centre - centre) / unit)
        self.centre.copy_(centre)
        self.unit.copy_(unit)
