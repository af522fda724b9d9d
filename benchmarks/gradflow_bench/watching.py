"""What `layerlab.gradflow.monitoring.monitor` costs a training: the same training with and without it, in turn."""

from __future__ import annotations

import time
from typing import Any

import torch
from bench_common import timing

from gradflow_bench.models import Size, encoder
from layerlab.gradflow.monitoring.monitor import Monitor


def overhead(size: Size, batch: int, steps: int, rounds: int) -> dict[str, Any]:
    """Seconds of ``steps`` training steps without and with the monitor in its default settings."""
    seconds: dict[str, list[float]] = {"plain": [], "watched": []}
    shares, snapshots = [], []
    _train(size, batch, 2, None)
    for number in range(rounds):
        for name in ("plain", "watched") if number % 2 == 0 else ("watched", "plain"):
            took, monitor = _train(size, batch, steps, name == "watched")
            seconds[name].append(took)
            if monitor is not None:
                shares.append(monitor.overhead["share"])
                snapshots.append(len(monitor.record.snapshots))
    ratio = timing.ratio(seconds["watched"], seconds["plain"])
    return {"steps": steps, "seconds": seconds, "ratio": ratio, "own_account": shares, "snapshots": snapshots}


def _train(size: Size, batch: int, steps: int, watched: bool | None) -> tuple[float, Monitor | None]:
    torch.manual_seed(0)
    model = encoder(size).train()
    x, goal = torch.randn(2, batch, size.tokens, size.width)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    monitor = Monitor(model, optimizer=optimizer) if watched else None
    started = time.perf_counter()
    for _ in range(steps):
        if monitor is not None:
            monitor.before()
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(model(x), goal).backward()
        optimizer.step()
        if monitor is not None:
            monitor.after()
    took = time.perf_counter() - started
    if monitor is not None:
        monitor.close()
    return took, monitor
