"""Models as people bring them to the command line, good ones and broken ones; the tests name them by file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))


def with_example() -> nn.Module:
    model: Any = mlp()
    model.example_input_array = (torch.randn(3, 6),)
    return model


def long() -> nn.Module:
    return nn.Sequential(*(layer for _ in range(40) for layer in (nn.Linear(3, 3), nn.Tanh())))


def images() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2))


def no_weights() -> nn.Module:
    return nn.ReLU()


def half() -> nn.Module:
    return nn.Linear(4, 3).bfloat16()


def nowhere() -> nn.Module:
    return nn.Linear(4, 3, device="meta")


def raises() -> nn.Module:
    raise RuntimeError("no weights")


def interrupted() -> nn.Module:
    raise KeyboardInterrupt


def needs(width: int) -> nn.Module:
    return nn.Linear(width, 2)


def number() -> int:
    return 3


def nan_weight() -> nn.Module:
    model = mlp()
    nn.init.constant_(model[2].weight, float("nan"))
    return model


class Two(nn.Module):
    """Two inputs of real numbers, and a mask."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 3), nn.Linear(2, 3)

    def forward(self, x: Tensor, y: Tensor, mask: Tensor | None = None) -> Tensor:
        h = torch.tanh(self.a(x) + self.b(y))
        return h if mask is None else h * mask


class Does(nn.Module):
    """What ``then`` makes of a linear layer's output and the module."""

    def __init__(self, then: Callable[[nn.Module, Tensor], Any]) -> None:
        super().__init__()
        self.first, self.then, self.calls = nn.Linear(4, 3), then, 0

    def forward(self, x: Tensor) -> Any:
        return self.then(self, self.first(x))


def dictionary() -> nn.Module:
    return Does(lambda model, h: {"hidden": h, "logits": 2 * h})


def pair() -> nn.Module:
    return Does(lambda model, h: (h, (torch.tanh(h), h.argmax(1))))


def cut() -> nn.Module:
    return Does(lambda model, h: torch.tanh(h.detach()))


def dead() -> nn.Module:
    return Does(lambda model, h: torch.relu(h - 100))


def scalar() -> nn.Module:
    return Does(lambda model, h: h.square().sum())


def integers() -> nn.Module:
    return Does(lambda model, h: h.argmax(1))


def nothing() -> nn.Module:
    return Does(lambda model, h: None)


def constant() -> nn.Module:
    return Does(lambda model, h: torch.ones(16, 3))


def infinite() -> nn.Module:
    return Does(lambda model, h: torch.tanh(torch.log(-1 - h.square())))


def wrong_shape() -> nn.Module:
    return Does(lambda model, h: h @ h)


def huge() -> nn.Module:
    return Does(lambda model, h: h + torch.ones(1 << 42).sum())


def counts() -> nn.Module:
    def then(model: Any, h: Tensor) -> Tensor:
        model.calls += 1
        return h * model.calls

    return Does(then)


def writes() -> nn.Module:
    def then(model: Any, h: Tensor) -> Tensor:
        with torch.no_grad():
            model.first.weight.mul_(0.9)
        return h

    return Does(then)


def loss(y: Tensor) -> Tensor:
    return y.square().mean()


def loss_of_many(y: Tensor) -> Tensor:
    return y


def loss_that_raises(y: Tensor) -> Tensor:
    return y[99, 99]
