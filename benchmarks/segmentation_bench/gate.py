"""Outputs and gradients against the plain network in float64, before anything is timed."""

from __future__ import annotations

import copy
from typing import Any

import torch
from bench_common.command import GateError
from torch import Tensor, nn
from torch.nn import functional

from layerlab.lab import kernels
from layerlab.segmentation.fast import prepared
from segmentation_bench import contestants

# Of the largest number of each tensor: some hundred roundings of float32.
ALLOWED = 1e-4
# A ReLU at zero or two equal maxima may fall to the other side in float32, which moves a gradient by per cents: now
# and then, where an error would show on every batch. So gradients are those of the best of a few.
BATCHES = 4


def check_all(side: int) -> dict[str, Any]:
    """Compare every contestant; raises `GateError` where one differs."""
    rows: dict[str, float] = {}
    for seed in range(BATCHES):
        for name, value in differences(side, seed).items():
            rows[name] = min(value, rows.get(name, float("inf")))
    largest = max(rows.values())
    if not largest <= ALLOWED:
        raise GateError(f"outputs or gradients differ by {largest:.1e}, allowed {ALLOWED:.0e}: {rows}")
    return {"largest": largest, "allowed": ALLOWED, "batches": BATCHES, "rows": rows}


def differences(side: int, seed: int) -> dict[str, float]:
    """Of every contestant from the plain network in float64, on one batch."""
    net = contestants.ours((16, 32, 64, 128), seed)
    five = contestants.ours((16, 16, 32, 64, 128), seed)
    x, y = contestants.drawn(2, side, seed)
    settle(net, x)
    settle(five, x)
    with kernels.disabled():
        alone = step(copy.deepcopy(net), x, y)
    reference, deeper = (step(contestants.plain(n).double(), x.double(), y) for n in (net, five))
    rows = {
        "plain, float32": difference(step(contestants.plain(net), x, y), reference),
        "ours, torch alone": difference(alone, reference),
        "ours": difference(step(copy.deepcopy(net), x, y), reference),
        "ours, five levels": difference(step(copy.deepcopy(five), x, y), deeper),
        "MONAI, five levels": difference(step(contestants.monai(five), x, y), deeper),
    }
    for name, model in (("prepared", net), ("prepared, five levels", five)):
        expected = contestants.plain(model).double().eval()(x.double()).detach()
        rows[name] = relative(prepared(model)(x).double(), expected)
    return rows


def settle(net: nn.Module, x: Tensor) -> None:
    """Statistics of the norms from data, so that predictions are not those of an untrained norm."""
    with torch.no_grad():
        for _ in range(3):
            net(x)


def step(net: nn.Module, x: Tensor, y: Tensor) -> list[Tensor]:
    """Logits in training, and the gradient of the first and of the last weight, and the norm of every one, sorted."""
    logits = net.train()(x)
    functional.cross_entropy(logits, y).backward()
    gradients = [p.grad for p in net.parameters() if p.grad is not None and p.ndim == 4]
    norms = torch.stack([g.norm() for g in gradients]).sort().values
    head = next(g for g in reversed(gradients) if g.shape[0] == contestants.CLASSES and g.shape[2] == 1)
    return [logits.detach(), gradients[0], head, norms]


def difference(found: list[Tensor], expected: list[Tensor]) -> float:
    return max(relative(a.double(), b.double()) for a, b in zip(found, expected, strict=True))


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())
