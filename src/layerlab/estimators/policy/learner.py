"""What learns: a policy, where asked for a value network, and the update of both from a batch of episodes."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from layerlab.estimators.policy import advantages as of
from layerlab.estimators.policy.environments import Environments
from layerlab.estimators.policy.gradient import GradientEstimate, estimate_gradient
from layerlab.estimators.policy.networks import Policy, Value
from layerlab.estimators.policy.rollouts import Episodes
from layerlab.estimators.policy.settings import Settings
from layerlab.lab import optimizing
from layerlab.lab.training import stream_seed

PROFILE = 1024
"""Steps that have a mean baseline of their own; later ones share the last."""
_DECAY = 0.9  # of the running mean square of advantages
_MINIBATCHES = 4


class Learner(nn.Module):
    """Everything that training changes, apart from the optimizer's state.

    Args:
        settings: see `Settings`.
        environments: for their spaces.
        seed: of the initial weights.
    """

    def __init__(self, settings: Settings, environments: Environments, seed: int) -> None:
        super().__init__()
        self.settings = settings
        generator = torch.Generator().manual_seed(stream_seed(seed, 0))
        columns = torch.from_numpy(environments.encoder.continuous & settings.normalise_observations)
        self.policy = Policy(columns, settings.hidden, environments.actions.head(), generator)
        self.value = Value(len(columns), settings.hidden, generator) if settings.baseline == "value" else None
        self.register_buffer("profile", torch.zeros(PROFILE, dtype=torch.float64))
        self.register_buffer("square", torch.zeros((), dtype=torch.float64))
        self.profile: Tensor
        self.square: Tensor

    def optimizer(self) -> torch.optim.Adam:
        """Adam, with a learning rate for each network."""
        groups = [{"params": list(self.policy.parameters()), "lr": self.settings.learning_rate}]
        if self.value is not None:
            groups.append({"params": list(self.value.parameters()), "lr": self.settings.value_learning_rate})
        return torch.optim.Adam(groups, fused=True)

    def advantages(
        self, episodes: Episodes, baseline: str
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """What the scores are multiplied by, and what a value network is to learn.

        Args:
            episodes: a batch that this learner has not learnt from.
            baseline: one of `BASELINES`; "value" needs the network.

        Returns:
            Advantages (S,), before normalisation, and the returns-to-go (S,).
        """
        settings, lengths = self.settings, episodes.lengths
        rewards, alive = of.padded(episodes.rewards, lengths)
        if baseline == "value":
            values, last = self._values(episodes)
            table, _ = of.padded(values, lengths)
            found = of.generalised(rewards, table, lengths, settings.discount, settings.gae, last)
            return self._weighted(found, alive), found[alive] + values
        to_go = of.rewards_to_go(rewards, lengths, settings.discount)
        if baseline == "mean":
            found = to_go - of.at_each_step(self.profile.numpy(), rewards.shape[1])
        elif baseline == "leave-one-out":
            found = to_go - of.leave_one_out(to_go, alive, settings.groups)
        elif baseline == "optimal":
            with torch.no_grad():
                outputs = self.policy(episodes.observations)
                squares = self.policy.head.score_square(outputs, episodes.actions).double().numpy()
            weights, _ = of.padded(squares, lengths)
            found = to_go - of.leave_one_out(to_go, alive, settings.groups, weights)
        else:
            found = to_go
        return self._weighted(found, alive), to_go[alive]

    def gradient(self, episodes: Episodes, baseline: str) -> GradientEstimate:
        """The policy gradient of a batch with a baseline, which need not be the one that training uses."""
        return self._estimate(episodes, self.advantages(episodes, baseline)[0])

    def learn(
        self, episodes: Episodes, optimizer: torch.optim.Optimizer, generator: torch.Generator
    ) -> GradientEstimate:
        """One step of the policy and what else learns from a batch.

        Args:
            episodes: the batch.
            optimizer: of this learner.
            generator: of the value network's mini-batches.

        Returns:
            The gradient that was used, before clipping.
        """
        found, targets = self.advantages(episodes, self.settings.baseline)
        square = float(np.mean(found**2))
        if self.settings.normalise:
            # By earlier batches: its own scale would couple the groups, and blow up a batch of nearly equal returns.
            scale = float(self.square) or square
            found = found / np.sqrt(scale) if scale > 0 else found
        estimate = self._estimate(episodes, found)
        optimizing.zero_grad(optimizer)
        self._hand_over(estimate.gradient)
        optimizing.step(optimizer)
        with torch.no_grad():
            self.square.copy_(
                torch.tensor(_DECAY * float(self.square) + (1 - _DECAY) * square if self.square else square)
            )
            rewards, alive = of.padded(episodes.rewards, episodes.lengths)
            to_go = of.rewards_to_go(rewards, episodes.lengths, self.settings.discount)
            self.profile.copy_(torch.from_numpy(of.profile(to_go, alive, PROFILE)))
        if self.value is not None:
            self._learn_values(episodes, torch.from_numpy(targets).float(), optimizer, generator)
        self.policy.normaliser.add(episodes.observations)
        return estimate

    def _estimate(self, episodes: Episodes, found: NDArray[np.float64]) -> GradientEstimate:
        return estimate_gradient(
            self.policy, episodes, found, self.settings.groups, entropy=self.settings.entropy
        )

    def _hand_over(self, gradient: Tensor) -> None:
        """Put the gradient, clipped, where the optimizer looks for it; it descends."""
        length = float(gradient.norm())
        factor = -min(1.0, self.settings.clip / length) if self.settings.clip and length else -1.0
        start = 0
        for parameter in self.policy.parameters():
            part = gradient[start : start + parameter.numel()]
            parameter.grad = (factor * part).view_as(parameter)
            start += parameter.numel()

    def _values(self, episodes: Episodes) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """V before every step, and after the last one of episodes that were cut off (else 0)."""
        assert self.value is not None
        with torch.no_grad():
            values = self.value(self.policy.normaliser(episodes.observations)).double().numpy()
            last = self.value(self.policy.normaliser(episodes.finals)).double().numpy()
        return values, np.where(episodes.truncated, last, 0.0)

    def _weighted(self, found: NDArray[np.float64], alive: NDArray[np.bool_]) -> NDArray[np.float64]:
        if self.settings.exact_discount:
            found = found * self.settings.discount ** np.arange(found.shape[1])
        return found[alive]

    def _learn_values(
        self,
        episodes: Episodes,
        targets: Tensor,
        optimizer: torch.optim.Optimizer,
        generator: torch.Generator,
    ) -> None:
        assert self.value is not None
        with torch.no_grad():
            inputs = self.policy.normaliser(episodes.observations)
        self.value.rescale(targets)
        wanted = (targets - self.value.centre) / self.value.unit
        for _ in range(self.settings.value_passes):
            order = torch.randperm(len(wanted), generator=generator)
            for rows in order.tensor_split(_MINIBATCHES):
                if len(rows) == 0:
                    continue
                # The policy's parameters have no gradient now: Adam leaves them alone.
                optimizing.zero_grad(optimizer)
                error = self.value.network(inputs[rows])[:, 0] - wanted[rows]
                error.square().mean().backward()
                optimizing.step(optimizer)
