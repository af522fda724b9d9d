"""One step of an optimiser, watched: how far it moves the weights of each layer."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from layerlab.gradflow.monitoring.layers import parameters_of


class Update:
    """Hooks on an optimiser: how far its next step moves each layer's weights, relative to their norm.

    Args:
        optimizer: whose next step is measured.
        layers: by name.
        done: called after that step with layer -> |w' - w| / |w|.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        layers: Mapping[str, nn.Module],
        done: Callable[[dict[str, float]], None],
    ) -> None:
        self.seconds = 0.0
        """The time spent in here."""
        self._layers, self._done = layers, done
        self._before: dict[nn.Parameter, Tensor] = {}
        self._handles = [
            optimizer.register_step_pre_hook(self._keep),
            optimizer.register_step_post_hook(self._compare),
        ]

    def finish(self) -> None:
        """Takes the hooks away."""
        for handle in self._handles:
            handle.remove()
        self._before.clear()

    def _keep(self, *_: Any) -> None:
        begun = perf_counter()
        for module in self._layers.values():
            for p in parameters_of(module):
                if p.requires_grad:
                    self._before[p] = p.detach().clone()
        self.seconds += perf_counter() - begun

    def _compare(self, *_: Any) -> None:
        begun = perf_counter()
        found = {}
        for name, module in self._layers.items():
            own = [p for p in parameters_of(module) if p in self._before]
            moved = math.hypot(*(float(torch.linalg.vector_norm(p.detach() - self._before[p])) for p in own))
            size = math.hypot(*(float(torch.linalg.vector_norm(self._before[p])) for p in own))
            if size > 0:
                found[name or "model"] = moved / size
        self._done(found)
        self.finish()
        self.seconds += perf_counter() - begun
