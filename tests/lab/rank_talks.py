"""What the processes of `test_process_group` do."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from toy_tasks import Regression

from layerlab.errors import UserError
from layerlab.lab.process_group import Group
from layerlab.lab.schedule import Schedule
from layerlab.lab.training import fit


def talk(group: Group, folder: str) -> dict[str, Any]:
    """Everything that processes say to each other, in one start of them."""
    torch.manual_seed(5)
    with group.step(group.rank):
        own = float(torch.rand(()))
    numbers = torch.arange(3.0).mul(group.rank + 1).requires_grad_()
    total = group.total(numbers)
    # Each process makes another number of the same sum.
    (total * (group.rank + 1)).sum().backward()
    file = Path(folder) / "note"
    if group.first:
        file.write_text("from the first")
    with group.copied(file) as copy, group.copied(Path(folder) / "none") as none:
        note = [copy.read_text(), copy == file, none.exists()]
    return {
        "share": [[part.start, part.stop] for part in map(group.share, (7, 1))],
        "sums": group.sums(1.0, group.rank),
        "mean": group.mean(group.rank),
        "any": group.any(group.rank == 1, False),
        "texts": group.texts("é" * group.rank),
        "first": group.from_first(lambda: {"rank": group.rank, "nan": None}),
        "total": total.tolist(),
        "gradient": numbers.grad.tolist() if numbers.grad is not None else None,
        "own": own,
        "common": float(torch.rand(())),
        "note": note,
        "errors": [
            _raised(lambda: group.everywhere(lambda: _fail(group.rank == 1))),
            _raised(lambda: group.everywhere(lambda: _fail(True))),
            _raised(lambda: group.from_first(lambda: _fail(group.first))),
            _raised(lambda: group.expect_same("data", group.rank // 2, "give the same")),
            _raised(lambda: group.expect_same("data", "x", "give the same")),
        ],
        "alone": _raised(lambda: _in_a_step(group)),
    }


def _in_a_step(group: Group) -> None:
    with group.step(1):
        raise UserError("wrong file")


def lose(group: Group) -> Any:
    """The last one dies, and the others hear of it."""
    if group.rank == group.size - 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return group.sums(1.0)


class Shared(Regression):
    """Means over shares of a batch, of a model without dropout."""

    def __init__(self, group: Group | None) -> None:
        super().__init__()
        self.group = group

    def build(self) -> nn.Module:
        return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))

    def loss(self, model: nn.Module, batch: Tensor) -> Tensor:
        if self.group is None:
            return super().loss(model, batch)
        mine = batch[self.group.share(len(batch))]
        return super().loss(model, mine) * (len(mine) * self.group.size / len(batch))


def learn(group: Group | None, file: str | None = None, epochs: int = 6, stop_in: int = 0) -> Any:
    """Train; with a file, go on from it, and stop as Ctrl-C does in one process of several."""

    def on_epoch(epoch: int, metrics: dict[str, float]) -> None:
        if epoch == stop_in and group is not None and group.rank == 1:
            os.kill(os.getpid(), signal.SIGINT)

    checkpoint = None if file is None else Path(file)
    try:
        found = fit(
            *(Shared(group), Schedule(epochs)),
            seed=3,
            checkpoint=checkpoint,
            every_seconds=0.0,
            on_epoch=on_epoch,
            group=group,
        )
    except KeyboardInterrupt:
        return "interrupted"
    return {
        "history": found.history,
        "weights": torch.cat([p.detach().flatten() for p in found.model.parameters()]).tolist(),
    }


def learn_thrice(group: Group, file: str) -> list[Any]:
    """Interrupted in one process, gone on with, and undisturbed."""
    return [learn(group, file, stop_in=2), learn(group, file), learn(group)]


def _fail(here: bool) -> None:
    if here:
        raise UserError("wrong file")


def _raised(call: Any) -> str:
    try:
        call()
    except UserError as error:
        return str(error)
    return "nothing"
