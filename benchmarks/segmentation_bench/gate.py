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
# A ReLU at zero or two equal maxima may fall to the other side in float32, which moves gradients by per cents; torch's
# batch norm in channels-last, 30 times less precise in training than in plain layout (1.7e-5 against 5e-7 where the
# mean is 7 standard deviations), makes that likelier. So gradients against float64 are those of the best of a few
# batches, and the kernel's are compared with torch's after the same forward pass, where nothing can fall.
KINKED, BATCHES = 3e-2, 4
GRADIENTS = "gradients, "


def check_all(side: int) -> dict[str, Any]:
    """Compare every contestant; raises `GateError` where one differs."""
    rows: dict[str, float] = {}
    for seed in range(BATCHES):
        for name, value in differences(side, seed).items():
            best = min if name.startswith(GRADIENTS) else max
            rows[name] = best(value, rows.get(name, value))
    for name, value in rows.items():
        allowed = KINKED if name.startswith(GRADIENTS) else ALLOWED
        if not value <= allowed:
            raise GateError(f"{name}: differs by {value:.1e}, allowed {allowed:.0e}")
    largest = max(value for name, value in rows.items() if not name.startswith(GRADIENTS))
    return {"largest": largest, "allowed": ALLOWED, "kinked": KINKED, "batches": BATCHES, "rows": rows}


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
    found = step(copy.deepcopy(net), x, y)
    rows = {"the kernel's gradients, against torch's": difference(found, alone)}
    for name, made, expected in (
        ("plain, float32", step(contestants.plain(net), x, y), reference),
        ("ours", found, reference),
        ("ours, five levels", step(copy.deepcopy(five), x, y), deeper),
        ("MONAI, five levels", step(contestants.monai(five), x, y), deeper),
    ):
        rows[f"logits, {name}"] = difference(made[:1], expected[:1])
        rows[f"{GRADIENTS}{name}"] = difference(made[1:], expected[1:])
    for name, model in (("prepared", net), ("prepared, five levels", five)):
        exact = contestants.plain(model).double().eval()(x.double()).detach()
        rows[f"logits, {name}"] = relative(prepared(model)(x).double(), exact)
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
