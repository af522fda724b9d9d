"""What the processes of `test_together` do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from layerlab.errors import UserError
from layerlab.lab.process_group import Group
from layerlab.lab.training import fit
from layerlab.segmentation.digits import Digits
from layerlab.segmentation.settings import Settings
from layerlab.segmentation.task import SegmentationTask, schedule_for

# Batches of 5 squares: shares of two and three.
SETTINGS = Settings(
    widths=(4, 8), size=16, batch=5, epochs=3, augment="none", weights="balanced", patience=None, threads=1
)


def train(group: Group | None, **changes: Any) -> dict[str, Any]:
    settings, data = replace(SETTINGS, **changes), Digits(30, 16)
    task = SegmentationTask(data, data.parts(0), settings, group=group)
    found = fit(task, schedule_for(settings), seed=3, group=group)
    return {
        "history": found.history,
        "weights": {name: value.flatten().tolist() for name, value in found.model.state_dict().items()},
    }


def kinds(group: Group | None) -> dict[str, Any]:
    found = {"batch norm": train(group), "photo": train(group, norm="none", augment="photo", dice_share=1.0)}
    if group is not None:
        found["dropout"] = train(group, dropout=0.3)
        found["errors"] = {}
        for name, changes in {"few": {"batch": 1}, "small": {"batch": 2, "size": 1, "widths": (4,)}}.items():
            try:
                train(group, **changes)
            except UserError as error:
                found["errors"][name] = str(error)
        found["norm"] = norm(group)
    return found


def norm(group: Group) -> list[Any]:
    """Output, gradients and statistics of a shared batch norm in float64."""
    from layerlab.segmentation.shared_norm import share_norms

    x, slopes = inputs()
    net = torch.nn.Sequential(torch.nn.BatchNorm2d(3)).double()
    share_norms(net, group)
    part = group.share(len(x))
    mine = x[part].requires_grad_()
    out = net(mine)
    # What DistributedDataParallel does with the derivatives of parameters comes after this.
    (out * slopes[part]).sum().backward()
    assert mine.grad is not None
    gradients = [group.total(p.grad).tolist() for p in net.parameters() if p.grad is not None]
    return [out.tolist(), mine.grad.tolist(), gradients, [b.tolist() for b in net.buffers()]]


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(1)
    x = 100 + torch.randn(5, 3, 4, 2, generator=draw, dtype=torch.float64)
    return x, torch.randn(5, 3, 4, 2, generator=draw, dtype=torch.float64)
