"""Weights and biases of recurrent layers that are set gate by gate."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn


def gates(module: nn.Module, parameter: Tensor) -> tuple[Tensor, ...]:
    """The rows of a weight or bias of torch's recurrent layers that belong to each gate: 4 of an LSTM, 3 of a GRU.

    >>> layer = nn.GRU(2, 5)
    >>> [tuple(gate.shape) for gate in gates(layer, layer.weight_hh_l0)]
    [(5, 5), (5, 5), (5, 5)]
    """
    hidden = cast(int, module.hidden_size)
    return parameter.chunk(max(1, parameter.shape[0] // hidden))


@torch.no_grad()
def make_orthogonal(module: nn.Module, weight: Tensor, generator: torch.Generator, gain: float = 1.0) -> None:
    """Sets each gate's weight to a random matrix whose singular values are all ``gain``; drawn in float64."""
    for gate in gates(module, weight):
        drawn = torch.empty(gate.shape, dtype=torch.float64)
        gate.copy_(nn.init.orthogonal_(drawn, gain, generator=generator))


@torch.no_grad()
def open_forget_gate(module: nn.Module, name: str, bias: Tensor) -> None:
    """Sets the biases of an LSTM's forget gate, of which there are two, to 1 in sum.

    Reference: R. Jozefowicz, W. Zaremba, I. Sutskever, An empirical exploration of recurrent network architectures
    (ICML 2015).
    """
    gates(module, bias)[1].fill_(1.0 if "bias_hh" in name else 0.0)
