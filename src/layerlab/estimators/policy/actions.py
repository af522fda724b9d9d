"""Distributions over an environment's actions: what a policy network's outputs mean.

A head turns a row of outputs into a distribution: `CategoricalHead` (one or several independent categorical variables:
Discrete, MultiDiscrete and MultiBinary spaces) or `GaussianHead` (a diagonal Gaussian whose standard deviations are
parameters of their own, for Box spaces). Noise is drawn outside, so that a whole rollout hangs on one generator.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


class CategoricalHead(nn.Module):
    """Independent categorical variables; the outputs are their logits, side by side.

    Args:
        sizes: number of values of each variable.

    >>> head = CategoricalHead([2, 3])
    >>> outputs = torch.zeros(1, 5)
    >>> round(head.log_prob(outputs, torch.tensor([[1, 2]])).exp().item(), 4)
    0.1667
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__()
        self.sizes = [int(size) for size in sizes]
        self.outputs = sum(self.sizes)

    def noise(self, count: int, generator: torch.Generator) -> Tensor:
        """Standard Gumbel noise (count, outputs)."""
        # An exponential number is never 0, so its logarithm is finite.
        return torch.empty(count, self.outputs).exponential_(generator=generator).log_().neg_()

    def sample(self, outputs: Tensor, noise: Tensor) -> Tensor:
        """Actions (n, variables) int64: the largest of logits plus Gumbel noise (Gumbel, 1954)."""
        return self.mode(outputs + noise)

    def mode(self, outputs: Tensor) -> Tensor:
        """The most probable actions (n, variables)."""
        if len(self.sizes) == 1:
            return outputs.argmax(dim=1, keepdim=True)
        return torch.stack([part.argmax(dim=1) for part in outputs.split(self.sizes, dim=1)], dim=1)

    def log_prob(self, outputs: Tensor, actions: Tensor) -> Tensor:
        """Log probabilities (n,) of actions (n, variables)."""
        parts = [
            logits.log_softmax(dim=1).gather(1, actions[:, [position]])
            for position, logits in enumerate(outputs.split(self.sizes, dim=1))
        ]
        return torch.cat(parts, dim=1).sum(dim=1)

    def entropy(self, outputs: Tensor) -> Tensor:
        """Entropies (n,) in nats."""
        logs = [logits.log_softmax(dim=1) for logits in outputs.split(self.sizes, dim=1)]
        return torch.cat([-(log.exp() * log).sum(dim=1, keepdim=True) for log in logs], dim=1).sum(dim=1)

    def score_square(self, outputs: Tensor, actions: Tensor) -> Tensor:
        """Squared length (n,) of d log p / d logits: 1 - 2 p(a) + sum p^2, summed over the variables."""
        total = torch.zeros(outputs.shape[0])
        for position, logits in enumerate(outputs.split(self.sizes, dim=1)):
            p = logits.softmax(dim=1)
            total += 1 - 2 * p.gather(1, actions[:, [position]])[:, 0] + (p * p).sum(dim=1)
        return total


class GaussianHead(nn.Module):
    """A diagonal Gaussian; the outputs are its means, its log standard deviations are parameters.

    Both are in units of half the space's width around its middle, where the space has finite bounds. The action is
    clipped to the bounds on its way into the environment only, so clipping belongs to the environment, and the
    score stays that of a Gaussian.

    Args:
        dimensions: of an action, flattened.
        log_std: its initial value.
    """

    def __init__(self, dimensions: int, log_std: float = -0.5) -> None:
        super().__init__()
        self.outputs = dimensions
        self.log_std = nn.Parameter(torch.full((dimensions,), log_std))

    def noise(self, count: int, generator: torch.Generator) -> Tensor:
        """Standard normal noise (count, dimensions)."""
        return torch.randn(count, self.outputs, generator=generator)

    def sample(self, outputs: Tensor, noise: Tensor) -> Tensor:
        """Actions (n, dimensions), not clipped."""
        return outputs + self.log_std.exp() * noise

    def mode(self, outputs: Tensor) -> Tensor:
        """The means."""
        return outputs

    def log_prob(self, outputs: Tensor, actions: Tensor) -> Tensor:
        """Log densities (n,)."""
        z = (actions - outputs) * (-self.log_std).exp()
        return (-0.5 * z * z - self.log_std - 0.5 * math.log(2 * math.pi)).sum(dim=1)

    def entropy(self, outputs: Tensor) -> Tensor:
        """Differential entropies (n,) in nats: the same for every state."""
        return (self.log_std + 0.5 * math.log(2 * math.pi * math.e)).sum().expand(outputs.shape[0])

    def score_square(self, outputs: Tensor, actions: Tensor) -> Tensor:
        """Squared length (n,) of the derivative of log p by means and log standard deviations."""
        std = self.log_std.exp()
        z = (actions - outputs) / std
        return ((z / std).square() + (z.square() - 1).square()).sum(dim=1)


Head = CategoricalHead | GaussianHead


class ActionFormat:
    """How the actions of a head are written for an environment.

    Args:
        space: the action space of one environment (Discrete, MultiDiscrete, MultiBinary or Box).
    """

    def __init__(self, space: Any) -> None:
        kind = type(space).__name__
        self.shape: tuple[int, ...] = tuple(space.shape)
        self.dtype = space.dtype
        self.discrete = kind != "Box"
        if kind == "Discrete":
            self.sizes = [int(space.n)]
            self.start: NDArray[Any] = np.array([space.start])
        elif kind == "MultiDiscrete":
            self.sizes = np.asarray(space.nvec).ravel().tolist()
            self.start = np.asarray(space.start).ravel()
        elif kind == "MultiBinary":
            self.sizes = [2] * int(np.prod(self.shape))
            self.start = np.zeros(len(self.sizes), np.int64)
        else:
            low, high = (np.asarray(x, np.float64).ravel() for x in (space.low, space.high))
            bounded = np.isfinite(low) & np.isfinite(high)
            with np.errstate(invalid="ignore", over="ignore"):
                self.middle = np.where(bounded, (low + high) / 2, 0.0)
                self.half = np.where(bounded, (high - low) / 2, 1.0)
            self.low, self.high = low, high

    def head(self) -> Head:
        """A new head for such actions."""
        return CategoricalHead(self.sizes) if self.discrete else GaussianHead(len(self.low))

    def write(self, actions: Tensor) -> NDArray[Any]:
        """A head's actions as the environment takes them: (n, *shape of the space)."""
        numbers = actions.numpy()
        if self.discrete:
            numbers = numbers + self.start
        else:
            numbers = np.clip(self.middle + self.half * numbers, self.low, self.high)
        return numbers.reshape(len(numbers), *self.shape).astype(self.dtype)
