"""Recurrent modules of every kind, their derivatives by torch, and the Jacobians of their steps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from layerlab.gradflow.recurrent import LayerTime
from layerlab.gradflow.recurrent.calls import Run, called_with, record
from layerlab.gradflow.recurrent.curves import Curves, measure
from layerlab.gradflow.recurrent.replay import replay
from layerlab.gradflow.recurrent.steps import StepJacobians

KINDS: dict[str, tuple[type[nn.RNNBase], dict[str, Any]]] = {
    "tanh": (nn.RNN, {}),
    "relu": (nn.RNN, {"nonlinearity": "relu"}),
    "gru": (nn.GRU, {}),
    "lstm": (nn.LSTM, {}),
    "projected": (nn.LSTM, {"proj_size": 3}),
}


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def made(kind: str, *sizes: int, scale: float = 1.0, seed: int = 0, **options: Any) -> nn.RNNBase:
    type_, more = KINDS[kind]
    module = type_(*sizes, dtype=torch.float64, **more, **options)
    for number, parameter in enumerate(module.parameters()):
        # Biases too, and none of them equal.
        parameter.data = scale * randn(*parameter.shape, seed=100 * seed + number) / sizes[1] ** 0.5
    return module


def started(module: nn.RNNBase, samples: int, scale: float = 0.3) -> Any:
    directions = module.num_layers * (1 + module.bidirectional)
    h = scale * randn(directions, samples, module.proj_size or module.hidden_size, seed=7)
    return (h, scale * randn(directions, samples, module.hidden_size, seed=8)) if module.mode == "LSTM" else h


def single(module: nn.RNNBase, layer: int, suffix: str) -> nn.RNNBase:
    """Torch's module of that one layer and direction."""
    width = (module.proj_size or module.hidden_size) * (1 + module.bidirectional)
    options: dict[str, Any] = {"nonlinearity": module.nonlinearity} if isinstance(module, nn.RNN) else {}
    if module.proj_size:
        options["proj_size"] = module.proj_size
    options["bias"] = module.bias
    one = type(module)(
        width if layer else module.input_size, module.hidden_size, dtype=torch.float64, **options
    )
    for name, parameter in one.named_parameters():
        parameter.data = getattr(module, name.removesuffix("_l0") + f"_l{layer}{suffix}").data.clone()
    return one


def by_autograd(module: nn.RNNBase, x: Tensor, start: Any) -> Iterator[list[Tensor]]:
    """∂s_t/∂s_1 for t = 2, … (each (B, S, S)) of every layer and direction, by differentiating torch's module."""
    lstm = module.mode == "LSTM"
    for layer in range(module.num_layers):
        outputs = []
        for direction, suffix in enumerate(("", "_reverse")[: 1 + module.bidirectional]):
            one = single(module, layer, suffix)
            index = layer * (1 + module.bidirectional) + direction
            hx = tuple(t[index : index + 1] for t in start) if lstm else start[index : index + 1]
            ordered = x.flip(0) if direction else x
            out, _ = one(ordered, hx)
            outputs.append(out.flip(0) if direction else out)
            _, first = one(ordered[:1], hx)
            state = torch.cat(first, 2) if lstm else first
            size = one.proj_size or one.hidden_size

            def after(
                s: Tensor, t: int, one: Any = one, ordered: Tensor = ordered, size: int = size
            ) -> Tensor:
                hx = (s[None, :, :size].contiguous(), s[None, :, size:].contiguous()) if lstm else s[None]
                _, end = one(ordered[1:t], hx)
                # Summed over the samples, none of which depends on another.
                return (torch.cat(end, 2) if lstm else end)[0].sum(0)

            yield [
                torch.autograd.functional.jacobian(lambda s, t=t, f=after: f(s, t), state[0]).transpose(0, 1)
                for t in range(2, len(x) + 1)
            ]
        x = torch.cat(outputs, 2).detach()


def holds(layer: LayerTime) -> None:
    """No bound is beaten, but for rounding."""
    assert [bound.name for bound in layer.bounds] == ["weights", "gates", "steps"]
    for bound in layer.bounds:
        with np.errstate(invalid="ignore"):
            short = layer.curves.largest - bound.log
        assert np.nanmax(np.where(np.isneginf(layer.curves.largest), -1.0, short)) <= 1e-11 * layer.steps, (
            bound
        )


def jacobians_of(kind: str, steps: int, samples: int, hidden: int, scale: float = 0.6) -> StepJacobians:
    module = made(kind, 3, hidden, scale=scale)
    if kind == "relu":
        module.bias_ih_l0.data += 2.0  # else it dies
    call = called_with(module, (randn(steps + 1, samples, 3), started(module, samples)), 0)
    [one], _ = replay(Run(record(call, {"": module})))
    return one.jacobians


def measured(jacobians: StepJacobians, samples: int, **options: Any) -> Curves:
    given = {"tolerance": 1e-8, "budget": 10**9, "seed": 0, "tell": lambda share, text: None}
    return measure(jacobians, samples, **(given | options))


def dense_steps(jacobians: StepJacobians, samples: int) -> np.ndarray:
    """(T − 1, B, S, S)."""
    size = jacobians.columns
    eye = torch.eye(size, dtype=torch.float64)
    columns = [jacobians.product(eye[i].expand(jacobians.samples, -1)) for i in range(size)]
    return torch.stack(columns, 2).reshape(-1, samples, size, size).numpy()


class Tagger(nn.Module):
    """Tokens to tags, as people write it, with dropout between the layers."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 4)
        self.encoder = nn.LSTM(4, 5, num_layers=2, batch_first=True, **options)
        self.head = nn.Linear(5 * (1 + self.encoder.bidirectional), 3)

    def forward(self, tokens: Tensor) -> Tensor:
        hidden, _ = self.encoder(self.embed(tokens))
        return self.head(hidden)


class Decoder(nn.Module):
    """A cell, or a layer step by step, in a loop; ``keep`` is what happens to the state in between."""

    def __init__(self, module: nn.Module, keep: float = 1.0) -> None:
        super().__init__()
        self.module, self.keep = module, keep

    def forward(self, x: Tensor) -> Tensor:
        state, outputs = None, []
        for step in x:
            if isinstance(self.module, nn.RNNBase):
                out, state = self.module(step[None], state)
            else:
                state = self.module(step, state) if state is not None else self.module(step)
                out = state[0] if isinstance(state, tuple) else state
            outputs.append(out)
            if self.keep != 1.0:
                state = self.keep * state
        return torch.stack(outputs)


def cell_of(layer: nn.RNNBase) -> nn.RNNCellBase:
    types = {"LSTM": nn.LSTMCell, "GRU": nn.GRUCell, "RNN_TANH": nn.RNNCell, "RNN_RELU": nn.RNNCell}
    options = {"nonlinearity": layer.nonlinearity} if isinstance(layer, nn.RNN) else {}
    cell = types[layer.mode](layer.input_size, layer.hidden_size, dtype=torch.float64, **options)
    for name, parameter in cell.named_parameters():
        parameter.data = getattr(layer, f"{name}_l0").data.clone()
    return cell
