"""Small tasks for the tests of `layerlab.lab.training` and `layerlab.lab.checkpoint`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from layerlab.lab.schedule import Schedule
from layerlab.lab.training import FitResult, fit

EPOCHS = 8
BY_LOSS = Schedule(EPOCHS, monitor="validation_loss")


class Regression:
    """Mini-batches in shuffled order, dropout, and buffers: everything that a resumed run has to find again."""

    def __init__(
        self, optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.Adam, **options: Any
    ) -> None:
        draw = torch.Generator().manual_seed(1)
        self.x, self.y = torch.randn(40, 4, generator=draw), torch.randn(40, 1, generator=draw)
        self.make_optimizer, self.options = optimizer, {"lr": 0.05, **options}
        self.at_batch: Callable[[int, int], None] = lambda epoch, batch: None

    def build(self) -> nn.Module:
        return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 1))

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        return self.make_optimizer(model.parameters(), **self.options)

    def batches(self, epoch: int) -> Iterable[Tensor]:
        for number, rows in enumerate(torch.randperm(30).split(10)):
            self.at_batch(epoch, number)
            yield rows

    def loss(self, model: nn.Module, batch: Tensor) -> Tensor:
        return nn.functional.mse_loss(model(self.x[batch]), self.y[batch])

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        return {"validation_loss": float(nn.functional.mse_loss(model(self.x[30:]), self.y[30:]))}


class Scale(nn.Module):
    """One number for all inputs: its gradient is one long sum."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


class Wide(Regression):
    """So many rows that torch shares their sum among its threads, if it may."""

    def __init__(self) -> None:
        super().__init__(torch.optim.SGD, lr=0.4)
        draw = torch.Generator().manual_seed(2)
        self.x, self.y = torch.randn(300_000, 1, generator=draw), torch.randn(300_000, 1, generator=draw)

    def build(self) -> nn.Module:
        return Scale()

    def batches(self, epoch: int) -> Iterable[Tensor]:
        return [torch.arange(len(self.x))]


class Scripted:
    """Metrics as written down; the weight after epoch k is exactly k, so that the kept epoch can be read off it."""

    def __init__(self, *metrics: dict[str, float]) -> None:
        self.metrics = metrics
        self.epoch = 0
        self.before_loss: Callable[[int], None] = lambda epoch: None
        self.losses: dict[int, float] = {}

    def build(self) -> nn.Module:
        model = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(model.weight)
        return model

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(model.parameters(), lr=1.0)

    def batches(self, epoch: int) -> Iterable[int]:
        self.epoch = epoch
        return [epoch]

    def loss(self, model: nn.Module, batch: int) -> Tensor:
        self.before_loss(batch)
        return -next(model.parameters()).sum() * self.losses.get(batch, 1.0)

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        assert not model.training
        assert not torch.is_grad_enabled()
        return self.metrics[self.epoch - 1]


def bits(result: FitResult) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in result.model.state_dict().items()}


def assert_same(left: FitResult, right: FitResult) -> None:
    assert bits(left) == bits(right)
    assert left.history == right.history
    assert left.best_epoch == right.best_epoch
    assert left.metrics == right.metrics


def interrupt(number: int = signal.SIGINT) -> None:
    os.kill(os.getpid(), number)


def interrupted_at(epoch: int, file: Path, task: Regression, schedule: Schedule = BY_LOSS) -> None:
    """Train with Ctrl-C between the first two batches of an epoch, so that a checkpoint of that epoch is left."""
    task.at_batch = lambda now, batch: interrupt() if (now, batch) == (epoch, 1) else None
    with pytest.raises(KeyboardInterrupt):
        fit(task, schedule, seed=3, checkpoint=file)
    task.at_batch = lambda now, batch: None


def weight(result: FitResult) -> float:
    return float(next(result.model.parameters()).detach())


def in_a_child(code: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter that can import this module."""
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    return subprocess.run(
        [
            sys.executable,
            "-c",
            f"import signal, sys\nfrom pathlib import Path\nfrom toy_tasks import *\n{code}",
            *map(str, arguments),
        ],
        env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
