"""The short step against torch's own: same bits, same state, and torch's own wherever it is not plain Adam."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from layerlab.lab import optimizing, private
from layerlab.lab.kernels import openmp


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)).double()


def adam(module: nn.Module, **options: Any) -> torch.optim.Adam:
    groups = [
        {"params": list(module[0].parameters()), "weight_decay": 0.1},
        {"params": list(module[2].parameters()), "weight_decay": 0.0, "lr": 0.2},
    ]
    return torch.optim.Adam(groups, **{"lr": 0.05, "fused": True, **options})


def loss(module: nn.Module) -> torch.Tensor:
    generator = torch.Generator().manual_seed(7)
    return module(torch.randn(6, 5, generator=generator, dtype=torch.float64)).square().sum()


def test_same_bits_and_state_as_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = model(), model()
    a, b = adam(ours), adam(theirs)
    calls: list[int] = []
    real = torch.optim.Adam.step
    for number in range(6):
        if number == 1:  # the first step makes the state
            monkeypatch.setattr(torch.optim.Adam, "step", lambda self: calls.append(1) or real(self))
        optimizing.zero_grad(a)
        assert all(p.grad is None for p in ours.parameters())
        loss(ours).backward()
        optimizing.step(a)
        assert not calls
        b.zero_grad()
        loss(theirs).backward()
        real(b)
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(p, q)
        for name in ("step", "exp_avg", "exp_avg_sq"):
            assert torch.equal(a.state[p][name], b.state[q][name])
    # And on: the state is torch's, so either may take the next step.
    fresh = adam(ours)
    fresh.load_state_dict(copy.deepcopy(b.state_dict()))
    for optimizer, take, module in ((fresh, optimizing.step, ours), (b, real, theirs)):
        loss(module).backward()
        take(optimizer)
    assert all(torch.equal(p, q) for p, q in zip(ours.parameters(), theirs.parameters(), strict=True))


def _hook(optimizer: torch.optim.Adam) -> None:
    optimizer.register_step_pre_hook(lambda *_: None)


def _schedule(optimizer: torch.optim.Adam) -> None:
    torch.optim.lr_scheduler.StepLR(optimizer, 1)


def _without_a_gradient(optimizer: torch.optim.Adam) -> None:
    for parameter in optimizer.param_groups[1]["params"]:
        parameter.grad = None


def _rate_as_tensor(optimizer: torch.optim.Adam) -> None:
    optimizer.param_groups[0]["lr"] = torch.tensor(0.1, dtype=torch.float64)


@pytest.mark.parametrize(
    ("options", "change"),
    [
        ({}, _hook),
        ({}, _schedule),
        ({}, _without_a_gradient),
        ({}, _rate_as_tensor),
        ({"amsgrad": True}, None),
        ({"maximize": True}, None),
        ({"fused": False}, None),
        ({"fused": None}, None),
    ],
)
def test_everything_else_goes_through_torch(
    options: dict[str, Any],
    change: Callable[[torch.optim.Adam], None] | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = model()
    optimizer = adam(module, **options)
    loss(module).backward()
    optimizing.step(optimizer)
    if change is not None:
        change(optimizer)
    before = [p.detach().clone() for p in module.parameters()]

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the short way")

    monkeypatch.setattr(optimizing, "_short", refuse)
    optimizing.step(optimizer)
    assert not all(torch.equal(p, q) for p, q in zip(before, module.parameters(), strict=True))


def test_a_hook_for_every_optimizer_is_heard() -> None:
    module = model()
    optimizer = adam(module)
    loss(module).backward()
    optimizing.step(optimizer)
    heard: list[int] = []
    handle = register_optimizer_step_post_hook(lambda *_: heard.append(1))
    try:
        optimizing.step(optimizer)
    finally:
        handle.remove()
    assert heard == [1]


@pytest.mark.parametrize("name", ["fused_adam", "step_hooks"])
def test_a_torch_without_these_names(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private, name, (None, None) if name == "step_hooks" else None)
    ours, theirs = model(), model()
    a, b = adam(ours), adam(theirs)
    for _ in range(3):
        loss(ours).backward()
        optimizing.step(a)
        loss(theirs).backward()
        b.step()
    assert all(torch.equal(p, q) for p, q in zip(ours.parameters(), theirs.parameters(), strict=True))


def test_other_optimizers() -> None:
    module = model()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    loss(module).backward()
    expected = [(p - 0.1 * p.grad).detach() for p in module.parameters() if p.grad is not None]
    optimizing.step(optimizer)
    for p, q in zip(module.parameters(), expected, strict=True):
        torch.testing.assert_close(p.detach(), q)


def test_a_small_step_takes_one_thread_and_a_large_one_all(monkeypatch: pytest.MonkeyPatch) -> None:
    if private.fused_adam is None or openmp._limit() is None:
        pytest.skip("this torch has no short step, or no OpenMP")
    seen: list[int] = []
    real = private.fused_adam
    monkeypatch.setattr(
        private, "fused_adam", lambda *a, **k: (seen.append(torch.get_num_threads()), real(*a, **k))
    )
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for numbers in (1000, 2_000_000):
            parameter = nn.Parameter(torch.ones(numbers))
            optimizer = torch.optim.Adam([parameter], lr=0.1, fused=True)
            for _ in range(2):  # the first step, which makes the state, is torch's
                parameter.grad = torch.ones(numbers)
                optimizing.step(optimizer)
        assert seen == [1, 2]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
