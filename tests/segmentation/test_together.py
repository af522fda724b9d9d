"""A U-Net that processes train together: the loss, the batch norm and the measures are those of one process."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from layerlab.lab.process_group import Group
from layerlab.segmentation.shared_norm import SharedBatchNorm

from ..ranks import in_ranks
from .rank_training import inputs, kinds

RANKS = Path(__file__).with_name("rank_training.py")


def test_two_processes_train_as_one_does() -> None:
    first, second = in_ranks(2, RANKS, "kinds")
    assert first.get("raised") is None
    alone = kinds(None)
    for kind, theirs in alone.items():
        mine = first[kind]
        assert mine == second[kind]
        for one, other in zip(mine["history"], theirs["history"], strict=True):
            assert one == pytest.approx(other, rel=1e-3), kind
        for name, weight in theirs["weights"].items():
            assert mine["weights"][name] == pytest.approx(weight, rel=1e-2, abs=1e-3), (kind, name)
    assert first["dropout"] == second["dropout"]
    assert first["errors"] == second["errors"]
    assert "as many processes as squares in a batch, 1, got 2" in first["errors"]["few"]
    assert "start fewer processes" in first["errors"]["small"]
    # The norm by itself, in float64: to the last digits.
    x, slopes = inputs()
    norm = torch.nn.BatchNorm2d(3).double()
    out = norm(x.requires_grad_())
    (out * slopes).sum().backward()
    assert x.grad is not None
    (out0, grad0, weights0, buffers0), (out1, grad1, weights1, buffers1) = first["norm"], second["norm"]
    close = {"rtol": 1e-9, "atol": 1e-11}
    torch.testing.assert_close(torch.tensor(out0 + out1, dtype=torch.float64), out.detach(), **close)
    torch.testing.assert_close(torch.tensor(grad0 + grad1, dtype=torch.float64), x.grad, **close)
    assert weights0 == weights1
    for mine, p in zip(weights0, norm.parameters(), strict=True):
        torch.testing.assert_close(torch.tensor(mine, dtype=torch.float64), p.grad, **close)
    assert buffers0 == buffers1
    for mine, buffer in zip(buffers0, norm.buffers(), strict=True):
        torch.testing.assert_close(torch.tensor(mine, dtype=buffer.dtype), buffer, **close)


def test_the_command_trains_in_processes(
    cli: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("layerlab.lab.machine.available_cores", lambda: 2)
    options = ("--count", 30, "--size", 16, "--widths", "4,8", "--epochs", 2, "--batch", 5, "--threads", 1)
    result = cli(
        "segment", "train", "digits", *options, "--json", "--out", tmp_path / "run", "--processes", 2
    )
    assert result.status == 0
    shown = capfd.readouterr()
    assert "error" not in shown.err
    together = json.loads(shown.out)
    assert together["processes"] == 2
    assert Path(together["report"]).exists()
    alone = json.loads(cli("segment", "train", "digits", *options, "--json", "--out", tmp_path / "alone").out)
    assert "processes" not in alone
    assert together["metrics"]["validation_loss"] == pytest.approx(
        alone["metrics"]["validation_loss"], rel=1e-3
    )
    assert len(together["measures"]["validation"]["iou"]) == len(together["classes"])


class _Alone:
    """A group of one process."""

    def stacked(self, numbers: torch.Tensor) -> torch.Tensor:
        return numbers[None]


def test_the_shared_norm_refuses_gradients_of_gradients() -> None:
    norm = SharedBatchNorm(torch.nn.BatchNorm2d(3), cast(Group, _Alone()))
    x = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    (first,) = torch.autograd.grad(norm(x).pow(3).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.square().sum().backward()
